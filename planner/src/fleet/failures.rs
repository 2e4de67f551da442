//! What failed in a rollout, of which kind it is, and whether it is more than the rollout bears.

use super::progress::wave_names;
use super::roster::Roster;
use super::snapshot::{RolloutView, SetView};
use super::{reasons, rollback};
use crate::node::CRASH_LOOP;
use livepatch_crds::bounded::{MAX_ENTRY_MESSAGE, bounded};
use livepatch_crds::rollout::{Failure, FailureTally, MAX_FAILURES};
use livepatch_crds::set::RolloutStrategy;
use std::collections::BTreeSet;

/// What became of a node that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// The livepatch was not loaded, or did not stay: the node runs on.
    Refused,
    /// The transition did not finish in its time.
    Stalled,
    /// The node crashed, rebooted, warned or was heard of no more.
    Lost,
}

impl FailureKind {
    /// The kind of a failure, by its reason code: the agent's or one of [`reasons`].
    pub fn of(reason: &str) -> Self {
        match reason {
            "TransitionTimedOut" | "TransitionStalled" => Self::Stalled,
            reasons::NODE_LOST
            | reasons::NODE_REBOOTED
            | reasons::KERNEL_TAINTED
            | "RebootedDuringLoad"
            | "RebootedOnProbation"
            | CRASH_LOOP => Self::Lost,
            _ => Self::Refused,
        }
    }
}

/// All that failed in the present attempt of a rollout.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failures {
    /// The first ones, those of the present attempt first.
    pub listed: Vec<Failure>,
    /// How many there are in the present attempt.
    pub tally: FailureTally,
}

impl Failures {
    /// The failures that were written before, and the new ones: none is forgotten within its attempt, not even when its
    /// node is gone.
    pub(super) fn of(set: &SetView, rollout: Option<&RolloutView>, roster: &Roster) -> Self {
        let Some(rollout) = rollout else {
            return Self::default();
        };
        let (attempt, back) = (rollout.control.attempt, rollback::is_on(rollout));
        let mut tally = FailureTally {
            attempt,
            back,
            ..FailureTally::default()
        };
        let (mut listed, mut former): (Vec<Failure>, Vec<Failure>) = rollout
            .status
            .failures
            .iter()
            .cloned()
            .partition(|failure| (failure.attempt, failure.back) == (attempt, back));
        let known: BTreeSet<String> = listed.iter().map(|failure| failure.node.clone()).collect();
        for failure in &listed {
            add(&mut tally, &failure.reason);
        }
        for (name, wave, reason, message) in roster.failed() {
            if known.contains(name) {
                continue;
            }
            add(&mut tally, reason);
            if listed.len() < MAX_FAILURES {
                let wave = wave_names(&set.spec.rollout.waves).nth(wave).unwrap_or_default();
                listed.push(Failure {
                    node: name.to_owned(),
                    wave: wave.to_owned(),
                    attempt,
                    reason: reason.to_owned(),
                    message: bounded(message, MAX_ENTRY_MESSAGE),
                    back,
                });
            }
        }
        former.sort_by_key(|failure| std::cmp::Reverse((failure.attempt, failure.back)));
        listed.append(&mut former);
        listed.truncate(MAX_FAILURES);
        Self {
            listed,
            tally: no_less(tally, rollout.status.failed),
        }
    }

    /// What is wrong if there are more failures than the rollout bears.
    pub fn excess(&self, strategy: &RolloutStrategy, selected: usize) -> Option<String> {
        let FailureTally {
            attempt: _,
            back: _,
            refused,
            stalled,
            lost,
        } = self.tally;
        let exceeds = |count: i32, bears: usize| usize::try_from(count).unwrap_or(0) > bears;
        let budget = if exceeds(refused + lost, strategy.max_failed.of(selected)) {
            let kinds = [(lost, "lost or rebooted"), (refused, "with a load that was refused")];
            let kinds: Vec<String> = kinds
                .iter()
                .filter(|(count, _)| *count > 0)
                .map(|(count, kind)| format!("{count} {kind}"))
                .collect();
            let failed = format!("{} failed ({})", some_nodes(refused + lost), kinds.join(", "));
            format!("{failed}, and maxFailed is {}", strategy.max_failed)
        } else if exceeds(stalled, strategy.max_stalled.of(selected)) {
            let (nodes, bears) = (some_nodes(stalled), &strategy.max_stalled);
            format!("the transition stalled on {nodes}, and maxStalled is {bears} of {selected}")
        } else {
            return None;
        };
        let first = self.listed.first().map(|failure| {
            let Failure {
                node, reason, message, ..
            } = failure;
            format!("; node {node} failed with {reason}: {message}")
        });
        Some(budget + &first.unwrap_or_default())
    }
}

fn add(tally: &mut FailureTally, reason: &str) {
    *match FailureKind::of(reason) {
        FailureKind::Refused => &mut tally.refused,
        FailureKind::Stalled => &mut tally.stalled,
        FailureKind::Lost => &mut tally.lost,
    } += 1;
}

/// What was counted once stays counted: a node that failed and is gone is in no list, if it was not among the first.
fn no_less(tally: FailureTally, before: FailureTally) -> FailureTally {
    if (tally.attempt, tally.back) != (before.attempt, before.back) {
        return tally;
    }
    FailureTally {
        attempt: tally.attempt,
        back: tally.back,
        refused: tally.refused.max(before.refused),
        stalled: tally.stalled.max(before.stalled),
        lost: tally.lost.max(before.lost),
    }
}

pub(super) fn some_nodes(count: i32) -> String {
    if count == 1 {
        "1 node".to_owned()
    } else {
        format!("{count} nodes")
    }
}
