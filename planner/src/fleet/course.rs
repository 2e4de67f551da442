//! One set on its way: everything that grants and reports are made of.

use super::acceptance::{Acceptance, Chosen};
use super::failures::Failures;
use super::progress::{Progress, progress, wave_names};
use super::reasons;
use super::rollback::{self, Rollback};
use super::snapshot::{Leave, NodeView, RolloutView, SetView};
use super::standing::{Placed, Standing, Yardstick, count, current_grant, standing};
use super::starts;
use super::waves::assign;
use jiff::{SignedDuration, Timestamp};
use livepatch_crds::revision::{revision, rollout_name};
use livepatch_crds::rollout::ControlState;
use livepatch_crds::set::{FailurePolicy, REST, Start};
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
    pub(super) nodes: Placed<'a>,
    /// Those of them that are selected no longer.
    pub(super) leaving: &'a BTreeMap<&'a str, &'a NodeView>,
    pub(super) failures: Failures,
    /// Whether failurePolicy takes the rollout back.
    pub(super) turns_back: bool,
    pub(super) rollback: Rollback,
    pub(super) progress: Progress,
    /// When a node in flight settles, if nothing happens to it.
    pub(super) next_settled: Option<Timestamp>,
}

impl<'a> Course<'a> {
    pub(super) fn of(chosen: &'a Chosen<'a>, mut acceptance: Acceptance, leave: &'a Leave, now: Timestamp) -> Self {
        let set = chosen.set;
        let waves = &set.spec.rollout.waves;
        let assigned = set.spec.node_selector.compile();
        let assigned = assigned.and_then(|_| assign(waves, &chosen.selected, &set.uid));
        let assigned = assigned.unwrap_or_else(|error| {
            acceptance = Acceptance::refused(reasons::INVALID_SELECTOR, error.to_string());
            BTreeMap::new()
        });
        let written = current_rollout(set);
        let start = written.map(|rollout| starts::start(set, rollout));
        let rollout = written
            .zip(start.as_ref())
            .map(|(rollout, start)| starts::of_this_start(rollout, start));
        let by = Yardstick {
            set_uid: &set.uid,
            rollout: rollout.as_ref(),
            start: start.as_ref().map_or(0, |start| start.number),
            bundle: &set.bundle,
            min_ready: SignedDuration::from_secs(i64::from(set.spec.rollout.min_ready_seconds)),
            now,
        };
        let place = |name: &str, node: &NodeView| {
            let grant = current_grant(node, &by);
            let granted_in = grant.and_then(|grant| wave_names(waves).position(|wave| wave == grant.wave));
            let wave = granted_in.or_else(|| assigned.get(name).copied());
            let wave = wave.unwrap_or(waves.len());
            let name_of_wave = waves.get(wave).map_or(REST, |wave| &wave.name);
            let passed = by.rollout.is_some_and(|rollout| rollout.has_passed(name_of_wave));
            (wave, standing(name, node, passed, &by))
        };
        let mut nodes = Placed::new();
        for (name, node) in &chosen.selected {
            let (wave, standing) = place(name, node);
            nodes.insert(name, (wave, *node, standing));
        }
        for (name, node) in &chosen.leaving {
            let (wave, standing) = place(name, node);
            nodes.insert(name, (wave, *node, until_it_ended(standing)));
        }
        let failures = Failures::of(set, by.rollout, &nodes);
        let rollback = Rollback::of(set);
        let policy = set.spec.rollout.failure_policy;
        let mut halt = failures.excess(&set.spec.rollout, nodes.len());
        let steered = by.rollout.map(|rollout| rollout.control.state);
        let mut turns_back =
            halt.is_some() && policy == FailurePolicy::RollBack && steered != Some(ControlState::Aborted);
        if let (Rollback::Impossible(why), Some(halt), true) = (&rollback, halt.as_mut(), turns_back) {
            let _ = write!(halt, "; there is no way back: {why}");
            turns_back = false;
        }
        let progress = match by.rollout.filter(|rollout| rollback::is_on(rollout)) {
            Some(rollout) => {
                turns_back = rollout.status.rolling_back;
                let counts = count(nodes.values().map(|(_, _, standing)| standing));
                rollback::progress(rollout, &counts, &rollback, halt.as_deref())
            }
            None => progress(waves, &nodes, by.rollout, halt.as_deref(), now),
        };
        let next_settled = next_settled(&nodes, &by);
        Self {
            set,
            start,
            leave,
            acceptance,
            nodes,
            leaving: &chosen.leaving,
            failures,
            turns_back,
            rollback,
            progress,
            next_settled,
            rollout,
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
    pub(super) fn failed_grants(&self) -> impl Iterator<Item = (&'a str, i32, &str)> {
        let attempt = self.rollout.as_ref().map_or(0, |rollout| rollout.control.attempt);
        let failed = self.nodes.iter().filter_map(|(name, (_, _, standing))| match standing {
            Standing::Failed { reason, .. } => Some((*name, reason.as_str())),
            _ => None,
        });
        failed.map(move |(name, reason)| (name, attempt, reason))
    }
}

/// A node that is selected no longer is waited for, and given nothing more.
fn until_it_ended(standing: Standing) -> Standing {
    match standing {
        Standing::Failed { .. } | Standing::Unreachable => standing,
        _ => Standing::InFlight,
    }
}

/// The rollout of the revision that the set asks for, if it was made.
fn current_rollout(set: &SetView) -> Option<&RolloutView> {
    let name = rollout_name(&set.name, &revision(&set.spec.template));
    set.rollouts
        .iter()
        .find(|rollout| rollout.name == name && rollout.set_uid == set.uid && !rollout.deleting)
}

/// When the first node in flight settles, if nothing happens to it.
fn next_settled(nodes: &Placed<'_>, by: &Yardstick<'_>) -> Option<Timestamp> {
    nodes
        .values()
        .filter(|(_, _, standing)| *standing == Standing::InFlight)
        .filter_map(|(_, node, _)| {
            let grant = current_grant(node, by)?;
            let since = node.effective_since(grant)?;
            since.checked_add(by.min_ready).ok()
        })
        .min()
}
