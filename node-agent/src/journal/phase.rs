//! How far an entry came, and why something failed. No IO.

use livepatch_crds::bounded::{MAX_ENTRY_MESSAGE, bounded};
use livepatch_crds::node::Blocker;
use livepatch_kernel::BootTime;
use serde::{Deserialize, Serialize};

/// How far an entry came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "camelCase")]
pub enum Phase {
    /// A plan to load it is begun: what is in its way is being disabled. The kernel was not asked to load it.
    Clearing,
    /// Written before the load: the kernel may or may not have been asked.
    Starting {
        /// Whether it was in effect before, so that this load is a return to it.
        again: bool,
    },
    /// In effect, not for long in this boot; on probation unless it is [proven](super::Entry::proven).
    Applied {
        /// Since when.
        at: BootTime,
    },
    /// In effect for long enough; comes back after a reboot without being asked for.
    Settled,
    /// Out of effect by or for the load of another one, and to be brought back.
    Displaced,
    /// Its successor is in effect; it is still loaded and to be disabled.
    Retiring {
        /// SHA-256 of the successor.
        by: String,
        /// Whether its probation was over.
        #[serde(default = "yes")]
        settled: bool,
    },
    /// Was in effect until a newer one took its place. Comes back if that one is quarantined on probation.
    Superseded {
        /// SHA-256 of the newer module.
        by: String,
        /// Whether its probation was over.
        #[serde(default = "yes")]
        settled: bool,
    },
    /// The cumulative livepatch contains it. Comes back when one takes effect that does not.
    Contained {
        /// SHA-256 of the cumulative module.
        by: String,
        /// Whether its probation was over.
        #[serde(default = "yes")]
        settled: bool,
    },
    /// Being disabled because its absence was granted.
    Removing,
    /// Gone because its absence was granted; kept until its module is gone too.
    Removed,
    /// Was settled in an earlier boot and could not be brought back in this one. Tried again after the next reboot.
    NotRestored {
        /// Why.
        failure: Failure,
    },
    /// Failed; not tried again for this attempt.
    Failed {
        /// Why.
        failure: Failure,
    },
    /// The node rebooted while it was being loaded or on probation: not loaded again until a person asks for a new
    /// attempt.
    Quarantined {
        /// Why.
        failure: Failure,
    },
}

const fn yes() -> bool {
    true
}

/// Why something failed, as the status tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// A reason code.
    pub reason: String,
    /// What happened, bounded and without control characters.
    pub message: String,
    /// Tasks that kept a transition from finishing.
    #[serde(default)]
    pub blockers: Vec<Blocker>,
}

impl Failure {
    /// A failure with its text cut to what an API object holds.
    pub fn new(reason: &str, message: &str) -> Self {
        Self {
            reason: bounded(reason, 64),
            message: bounded(message, MAX_ENTRY_MESSAGE),
            blockers: Vec::new(),
        }
    }
}
