//! What this node was told, what was begun and how it ended: the agent's memory across restarts and reboots.
//!
//! [`record`] is the data, [`lifecycle`] how it changes with boots and time (both without IO), [`file`] the file.

pub mod file;
pub mod lifecycle;
pub mod record;

pub use file::{JournalError, JournalFile};
pub use record::{Entry, Failure, Journal, Pair, Phase};
