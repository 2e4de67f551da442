//! The controller that rolls livepatches out over a fleet.

fn main() {}
