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
    /// It is no longer in effect, and the kernel has not removed its entry yet.
    pub const VANISHING: &str = "Vanishing";
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
    /// In effect; its predecessor could not be disabled yet.
    pub const PREDECESSOR_REMAINS: &str = "PredecessorRemains";
    /// The cumulative livepatch contains it.
    pub const SUPERSEDED: &str = "Superseded";
    /// Not in the kernel, as asked.
    pub const ABSENT: &str = "Absent";
    /// Being disabled, as asked.
    pub const REMOVING: &str = "Removing";
    /// A module that a plan needs has no known source.
    pub const MODULE_UNKNOWN: &str = "ModuleUnknown";
    /// The node crashed again and again after loads.
    pub const CRASH_LOOP: &str = livepatch_planner::node::CRASH_LOOP;
    /// A module is pinned until the next boot.
    pub const REBOOT_REQUIRED: &str = "RebootRequired";
}

/// What is said of one grant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Verdict {
    result: GrantResult,
    failure: Failure,
    gap_milliseconds: Option<u64>,
}

impl Verdict {
    const fn new(result: GrantResult, failure: Failure) -> Self {
        Self {
            result,
            failure,
            gap_milliseconds: None,
        }
    }

    pub fn pending(reason: &str, message: &str) -> Self {
        Self::new(GrantResult::Pending, Failure::new(reason, message))
    }

    pub fn waits_for(failure: &Failure) -> Self {
        Self::new(GrantResult::Pending, failure.clone())
    }

    /// While nothing can be done on the node. What only a person's new attempt ends has failed: that is what a new attempt
    /// is given for.
    pub fn hindered(obstacle: &Failure) -> Self {
        if obstacle.reason == reasons::CRASH_LOOP {
            Self::failed(obstacle)
        } else {
            Self::waits_for(obstacle)
        }
    }

    pub fn failed(failure: &Failure) -> Self {
        Self::new(GrantResult::Failed, failure.clone())
    }

    pub fn transitioning(reason: &str, message: &str, blockers: &[Blocker]) -> Self {
        let mut failure = Failure::new(reason, message);
        failure.blockers = blockers.to_vec();
        Self::new(GrantResult::Transitioning, failure)
    }

    pub fn loaded(way: &str) -> Self {
        Self::new(GrantResult::Loaded, Failure::new(reasons::EFFECTIVE, way))
    }

    pub fn predecessor_remains(why: Option<&Failure>) -> Self {
        let message = why.map_or("", |failure| &failure.message);
        let mut failure = Failure::new(reasons::PREDECESSOR_REMAINS, message);
        failure.blockers = why.map_or_else(Vec::new, |failure| failure.blockers.clone());
        Self::new(GrantResult::Loaded, failure)
    }

    pub fn superseded() -> Self {
        let message = "the cumulative livepatch in effect contains it";
        Self::new(GrantResult::Superseded, Failure::new(reasons::SUPERSEDED, message))
    }

    pub fn absent() -> Self {
        Self::new(GrantResult::Absent, Failure::new(reasons::ABSENT, ""))
    }

    pub fn is_failed(&self) -> bool {
        self.result == GrantResult::Failed
    }

    pub fn with_gap(mut self, milliseconds: Option<u64>) -> Self {
        self.gap_milliseconds = milliseconds;
        self
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
            gap_milliseconds: self
                .gap_milliseconds
                .map(|milliseconds| i64::try_from(milliseconds).unwrap_or(i64::MAX)),
        }
    }
}
