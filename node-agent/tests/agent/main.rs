//! The agent against the kernel in memory: whole lives of it, with grants, crashes and reboots.
//!
//! The API server is three handlers in memory here, because thousands of lives have to fit into seconds; what the agent
//! and a real API server say to each other is tested with a real one elsewhere.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod atomic;
mod crash_loops;
mod crashes;
mod exchange;
mod grants;
mod mortal;
mod properties;
mod reboots;
mod refusals;
mod removal;
mod vanishing;
mod world;
