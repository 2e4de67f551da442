//! What must hold when a wave is said to have passed.

use std::time::Duration;

use livepatch_crds::rollout::{LivepatchRolloutStatus, WaveState};
use livepatch_crds::set::{REST, Then};
use livepatch_operator::watch::seen::{RolloutContent, Seen};

use super::grants::STALLS;
use super::slots::{NOT_READY, Slot};
use super::{Checks, horizon};
use crate::api::ask::Basis;
use crate::api::server::Server;

/// Two operators' clocks differ by no more, and statuses tell whole seconds.
const SKEW: Duration = Duration::from_millis(3_200);

impl Checks {
    pub(super) fn rollout_told(
        &mut self,
        server: &Server,
        name: &str,
        status: &LivepatchRolloutStatus,
        before: &Seen<RolloutContent>,
        basis: &Basis,
    ) {
        let Ok(before) = &before.content else { return };
        let set = server.sets.one_as_of(&before.set, basis.places[0]);
        let Some(set) = set.filter(|set| set.uid == before.spec.set_uid) else {
            return;
        };
        let Ok(set_content) = &set.content else { return };
        let strategy = &set_content.spec.rollout;
        let min_ready = Duration::from_secs(u64::try_from(strategy.min_ready_seconds).unwrap_or(0));
        let granted_before = horizon(&server.objects, basis.places[2], basis);
        let seen = horizon(&server.objects, basis.places[2], basis).min(horizon(&server.nodes, basis.places[3], basis));
        let control = &before.spec.control;
        let selected = usize::try_from(status.counts.selected).unwrap_or(0);
        let waves = strategy.waves.iter().map(|wave| wave.name.as_str());
        let names: Vec<&str> = waves.chain([REST]).collect();
        let promoted = control
            .promoted_through
            .as_deref()
            .and_then(|through| names.iter().position(|name| *name == through));
        for (index, wave) in status.waves.iter().enumerate() {
            let was = before.status.waves.iter().find(|was| was.name == wave.name);
            if wave.state != WaveState::Passed || was.is_some_and(|was| was.state == WaveState::Passed) {
                continue;
            }
            let plan = strategy.waves.iter().find(|plan| plan.name == wave.name);
            let promoted = promoted.is_some_and(|through| index <= through);
            let slots: Vec<(&str, &Slot)> = self
                .slots
                .of_set(&set.uid)
                .filter(|(_, slot)| slot.grant.rollout == name && slot.grant.wave == wave.name)
                // What was in effect before is of no start of the rollout.
                .filter(|(_, slot)| slot.grant.start > 0)
                .filter(|(_, slot)| slot.granted < granted_before)
                .collect();
            let settled: Vec<Duration> = slots
                .iter()
                .filter_map(|(_, slot)| slot.settled(min_ready, seen, basis.at))
                .collect();
            // Nothing waits for a node that a person left out.
            let open = slots.iter().find(|(node, slot)| {
                let settled = slot.settled(min_ready, seen, basis.at).is_some();
                // A failure stays one until a person raises the attempt, in another start of the rollout as well.
                let mut failures = before.status.failures.iter();
                let latched = failures.any(|failure| failure.node == *node && failure.attempt == control.attempt);
                slot.failed.is_none() && !latched && !settled && !control.excludes(node)
            });
            let bears = (strategy.max_failed.of(selected), strategy.max_stalled.of(selected));
            let failures = slots.iter().filter(|(node, slot)| {
                let lost = server.nodes.one_as_of(node, basis.places[3]);
                let lost = lost
                    .and_then(|node| node.content.as_ref().ok())
                    .is_some_and(|node| !node.ready);
                (slot.grant.attempt, slot.grant.start) == (control.attempt, status.start)
                    && slot
                        .failed
                        .as_ref()
                        .is_some_and(|(at, why)| *at < seen && (why != NOT_READY || lost))
            });
            let (stalled, lost): (Vec<_>, Vec<_>) = failures.partition(|(_, slot)| {
                slot.failed
                    .as_ref()
                    .is_some_and(|(_, why)| STALLS.contains(&why.as_str()))
            });
            let failed = if lost.len() > bears.0 {
                lost.first()
            } else if stalled.len() > bears.1 {
                stalled.first()
            } else {
                None
            };
            let named = plan.map_or(0, |plan| usize::try_from(plan.min_succeeded).unwrap_or(0));
            let enough = settled.len() >= named || !self.ungranted.is_empty() || promoted;
            let soak = plan.and_then(|plan| u64::try_from(plan.soak_seconds).ok()).unwrap_or(0);
            // A node that was given up in a former attempt and runs the livepatch has settled at once.
            let watched = slots
                .iter()
                .filter(|(node, slot)| slot.grant.attempt == control.attempt && !control.excludes(node))
                .filter(|(node, slot)| slot.failed.is_none() && is_readable(server, node, basis));
            let watched: Vec<&Slot> = watched.map(|(_, slot)| *slot).collect();
            let last = last_settled(server, &before.set, &watched, seen, basis.at);
            let early = last.is_some_and(|last| basis.at + SKEW < last + Duration::from_secs(soak));
            let found = if let Some((node, _)) = open {
                Some(("R14", format!("{node} is in flight")))
            } else if let Some((node, slot)) = failed {
                let why = slot.failed.as_ref().map(|(_, why)| why.clone()).unwrap_or_default();
                Some(("R13", format!("{node} failed: {why}")))
            } else if plan.is_some() && wave.selected == 0 && !promoted {
                Some(("R14", "it is empty".to_owned()))
            } else if !enough {
                Some(("R14", format!("{} nodes have settled, {named} must", settled.len())))
            } else if early {
                Some(("R14", "its soak is not over".to_owned()))
            } else if plan.is_some_and(|plan| plan.then == Then::AwaitPromotion) && !promoted {
                Some(("R14", "nobody has promoted it".to_owned()))
            } else {
                None
            };
            if let Some((rule, why)) = found {
                let wave = wave.name.clone();
                self.violated(rule, || format!("wave {wave} of {name} passes, but {why}"));
            }
        }
    }
}

/// Whether the writer could read a node's object: what it cannot read is of no wave for so long.
fn is_readable(server: &Server, node: &str, basis: &Basis) -> bool {
    let object = server.objects.one_as_of(node, basis.places[2]);
    object.is_none_or(|object| object.content.is_ok())
}

/// When the last of the nodes settled for which a wave soaks.
fn last_settled(server: &Server, set: &str, watched: &[&Slot], seen: Duration, at: Duration) -> Option<Duration> {
    let begun = watched.iter().filter_map(|slot| Some(slot.effective.first()?.0)).min();
    let least_ready = least_ready(server, set, begun.unwrap_or_default());
    let settled = watched.iter().filter_map(|slot| slot.settled(least_ready, seen, at));
    settled.max()
}

/// The least time to settle that a set asked for since a moment: a soak that has begun goes on as it was written, also if
/// people ask for more meanwhile.
fn least_ready(server: &Server, set: &str, since: Duration) -> Duration {
    let versions = server.sets.since(set, since);
    let contents = versions.iter().flatten().filter_map(|set| set.content.as_ref().ok());
    let seconds = contents.filter_map(|set| u64::try_from(set.spec.rollout.min_ready_seconds).ok());
    seconds.min().map_or(Duration::ZERO, Duration::from_secs)
}
