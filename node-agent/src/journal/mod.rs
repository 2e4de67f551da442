//! What this node was told, what was begun and how it ended: the agent's memory across restarts and reboots.
//!
//! [`record`] and [`phase`] are the data, [`boots`] what is remembered of boots, [`lifecycle`] how entries change with boots and time,
//! [`succession`] how they change with each other (all without IO), [`file`] the file.

pub mod boots;
pub mod file;
pub mod lifecycle;
pub mod phase;
pub mod record;
pub mod succession;

pub use boots::Boots;
pub use file::{JournalError, JournalFile};
pub use phase::{Failure, Phase};
pub use record::{Absence, Entry, Intent, Journal, Pair};
