//! Pure planners: synchronous functions of a snapshot and the time. No client, no clock, no randomness.

pub mod fleet;
pub mod node;
