//! What is said of one grant. No IO.

use livepatch_crds::bounded::{MAX_ENTRY_MESSAGE, bounded};
use livepatch_crds::node::{Blocker, Grant, GrantResult, GrantStatus};

use crate::journal::Failure;

/// Reason codes of this program's own.
pub mod reasons {
    /// Loaded, enabled, out of transition, and proven to be this build.
    pub const EFFECTIVE: &str = "Effective";
    /// The kernel is switching its tasks over.
    pub const TRANSITION: &str = "InTransition";
    /// Somebody else began a transition of this livepatch.
    pub const FOREIGN_TRANSITION: &str = "ForeignTransition";
    /// The grant is for another kernel build.
    pub const WRONG_KERNEL: &str = "WrongKernel";
    /// It was in effect, and somebody took it out.
    pub const DRIFTED: &str = "Drifted";
    /// A person or the operator holds this node.
    pub const HELD: &str = "Held";
    /// Another step of this node comes first.
    pub const QUEUED: &str = "Queued";
    /// The cumulative livepatch comes first.
    pub const WAITING_FOR_CUMULATIVE: &str = "WaitingForCumulative";
    /// Its module is being fetched and checked.
    pub const PREPARING: &str = "Preparing";
    /// It is about to be loaded.
    pub const STARTING: &str = "Starting";
    /// It was in effect before the reboot and is about to be again.
    pub const RESTORING: &str = "Restoring";
    /// No journal, and livepatches that match no grant.
    pub const JOURNAL_MISSING: &str = "JournalMissing";
    /// Kernel semantics that this version does not know.
    pub const REPLACE_SET: &str = "ReplaceSetUnsupported";
    /// The transition did not end in time.
    pub const TIMED_OUT: &str = "TransitionTimedOut";
    /// The agent was interrupted during the load again and again.
    pub const INTERRUPTED: &str = "LoadInterrupted";
}

/// What is said of one grant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Verdict {
    result: GrantResult,
    failure: Failure,
}

impl Verdict {
    pub fn pending(reason: &str, message: &str) -> Self {
        Self {
            result: GrantResult::Pending,
            failure: Failure::new(reason, message),
        }
    }

    pub fn waits_for(failure: &Failure) -> Self {
        Self {
            result: GrantResult::Pending,
            failure: failure.clone(),
        }
    }

    pub fn failed(failure: &Failure) -> Self {
        Self {
            result: GrantResult::Failed,
            failure: failure.clone(),
        }
    }

    pub fn transitioning(reason: &str, message: &str, blockers: &[Blocker]) -> Self {
        let mut failure = Failure::new(reason, message);
        failure.blockers = blockers.to_vec();
        Self {
            result: GrantResult::Transitioning,
            failure,
        }
    }

    pub fn loaded() -> Self {
        Self {
            result: GrantResult::Loaded,
            failure: Failure::new(reasons::EFFECTIVE, ""),
        }
    }

    pub fn of(self, grant: &Grant) -> GrantStatus {
        GrantStatus {
            set: grant.set.name.clone(),
            rollout: grant.rollout.clone(),
            attempt: grant.attempt,
            result: self.result,
            reason: self.failure.reason,
            message: bounded(&self.failure.message, MAX_ENTRY_MESSAGE),
            blockers: self.failure.blockers,
        }
    }
}
