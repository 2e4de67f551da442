//! The agent that makes one node's kernel match its NodeLivepatch.

fn main() {}
