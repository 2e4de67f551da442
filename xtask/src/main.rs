//! Developer commands: demo, test, generate.

fn main() {}
