//! From any state that a node can come to, with failures and power cuts at every step: what is asked for comes to be, or
//! is refused with a reason, and no fix is lost on the way.
//!
//! The agent's own decisions and bookkeeping run against the kernel in memory; only disk, network and threads are left
//! out, so that a hundred thousand lives take seconds.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod lives;
mod modules;
mod node;
