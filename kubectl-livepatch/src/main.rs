//! kubectl plugin: push livepatches and follow rollouts.

fn main() {}
