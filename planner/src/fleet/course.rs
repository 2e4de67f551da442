//! One set on its way: everything that grants and reports are made of.

use super::acceptance::{Acceptance, Chosen};
use super::failures::Failures;
use super::progress::{Progress, progress};
use super::reasons;
use super::rollback::{self, Rollback};
use super::roster::{Roster, started};
use super::snapshot::{Leave, NodeView, RolloutView, SetView};
use super::{starts, waves};
use jiff::Timestamp;
use livepatch_crds::rollout::ControlState;
use livepatch_crds::set::{FailurePolicy, Start};
use std::collections::BTreeMap;
use std::fmt::Write;

/// One set on its way.
pub struct Course<'a> {
    pub(super) set: &'a SetView,
    /// The rollout of its revision, with what was written in this start of it.
    pub(super) rollout: Option<RolloutView>,
    /// The start that the rollout is in.
    pub(super) start: Option<Start>,
    /// Under which epoch grants are given, or why none are.
    pub(super) leave: &'a Leave,
    pub(super) acceptance: Acceptance,
    /// Every node that is selected, or was when it got a grant that has not ended.
    pub(super) roster: &'a Roster,
    /// All nodes there are.
    pub(super) fleet: &'a BTreeMap<String, NodeView>,
    pub(super) failures: Failures,
    /// Whether failurePolicy takes the rollout back.
    pub(super) turns_back: bool,
    pub(super) rollback: Rollback,
    pub(super) progress: Progress,
}

impl<'a> Course<'a> {
    pub(super) fn of(
        chosen: &Chosen<'a>,
        fleet: &'a BTreeMap<String, NodeView>,
        mut acceptance: Acceptance,
        leave: &'a Leave,
        now: Timestamp,
    ) -> Self {
        let Chosen { set, roster } = *chosen;
        let waves = &set.spec.rollout.waves;
        let selector = set.spec.node_selector.compile().map(|_| ());
        if let Err(error) = selector.and_then(|()| waves::check(waves)) {
            acceptance = Acceptance::refused(reasons::INVALID_SELECTOR, error.to_string());
        }
        let (rollout, start) = started(set).unzip();
        let failures = Failures::of(set, rollout.as_ref(), roster);
        let rollback = Rollback::of(set);
        let policy = set.spec.rollout.failure_policy;
        let mut halt = failures.excess(&set.spec.rollout, roster.len());
        let steered = rollout.as_ref().map(|rollout| rollout.control.state);
        let mut turns_back =
            halt.is_some() && policy == FailurePolicy::RollBack && steered != Some(ControlState::Aborted);
        if let (Rollback::Impossible(why), Some(halt), true) = (&rollback, halt.as_mut(), turns_back) {
            let _ = write!(halt, "; there is no way back: {why}");
            turns_back = false;
        }
        let progress = match rollout.as_ref().filter(|rollout| rollback::is_on(rollout)) {
            Some(rollout) => {
                turns_back = rollout.status.rolling_back;
                rollback::progress(rollout, &roster.counts(), &rollback, halt.as_deref())
            }
            None => progress(waves, roster, rollout.as_ref(), halt.as_deref(), now),
        };
        Self {
            set,
            rollout,
            start,
            leave,
            acceptance,
            roster,
            fleet,
            failures,
            turns_back,
            rollback,
            progress,
        }
    }

    /// The rollout and the epoch under which it may give grants, if it may give any.
    ///
    /// Not before its start is written: whoever returns to a former revision shall find that it was left in between.
    pub(super) fn may_grant(&self) -> Option<(&RolloutView, &str)> {
        let rollout = self.rollout.as_ref()?;
        match self.leave {
            Leave::Granted { epoch } if self.is_allowed(rollout) && self.is_started() => Some((rollout, epoch)),
            _ => None,
        }
    }

    /// Whether its start is written where the next one will look for it.
    pub(super) fn is_started(&self) -> bool {
        self.rollout
            .as_ref()
            .zip(self.start.as_ref())
            .is_some_and(|(rollout, start)| starts::is_written(self.set, rollout, start))
    }

    /// Whether set and people let it give grants, forward or back. The way back needs no artefact.
    fn is_allowed(&self, rollout: &RolloutView) -> bool {
        match (rollback::is_on(rollout), rollout.control.state) {
            (false, ControlState::Run) => self.acceptance.is_accepted(),
            (true, ControlState::Run | ControlState::RolledBack) => !self.set.deleting,
            _ => false,
        }
    }

    /// Nodes that failed, with the attempt and the reason.
    pub(super) fn failed_grants(&self) -> impl Iterator<Item = (&'a str, i32, &'a str)> {
        let attempt = self.rollout.as_ref().map_or(0, |rollout| rollout.control.attempt);
        let failed = self.roster.failed();
        failed.map(move |(name, _, reason, _)| (name, attempt, reason))
    }
}
