//! What an agent is told by its flags. No IO.

use std::path::PathBuf;
use std::time::Duration;

use crate::stop::StopSwitches;

/// What an agent is told by its flags.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Name of the node, and so of its `NodeLivepatch`.
    pub node: String,
    /// Namespace of the operator's Lease.
    pub lease_namespace: String,
    /// Name of the operator's Lease.
    pub lease_name: String,
    /// Journal, store and lock.
    pub state: PathBuf,
    /// Where a person on the node says stop.
    pub stop: StopSwitches,
    /// Intervals and limits of time.
    pub times: Times,
}

/// Intervals and limits of time.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// Length of the probation after a load. Kernel time.
    pub settle: Duration,
    /// Limit of one call to the API server.
    pub call: Duration,
    /// Limit of pulling one module.
    pub pull: Duration,
    /// Interval of reporting something that goes on for long.
    pub progress: Duration,
    /// How long several changes of the object are gathered into one pass.
    pub debounce: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            settle: Duration::from_mins(10),
            call: Duration::from_secs(15),
            pull: Duration::from_mins(5),
            progress: Duration::from_secs(10),
            debounce: Duration::from_millis(20),
        }
    }
}
