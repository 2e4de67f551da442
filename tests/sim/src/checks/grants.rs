//! What must hold of every spec that is written to a node: budgets, waves, canaries, holds, and what its writer knew.

use std::time::Duration;

use kube::core::SelectorExt as _;
use livepatch_crds::node::{DesiredState, Grant, LoadedLivepatch};
use livepatch_crds::rollout::{ControlState, WaveState};
use livepatch_crds::{LivepatchType, SKIP_LABEL};
use livepatch_operator::watch::seen::{NodeObjectContent, Seen, SetContent};

use super::slots::Slot;
use super::{Checks, horizon};
use crate::api::ask::{Basis, NodePatch};
use crate::api::server::Server;

/// Reasons of failures that count as stalls.
pub(super) const STALLS: [&str; 2] = ["TransitionTimedOut", "TransitionStalled"];

/// How far back a version of a rollout may lie that a late write still goes by.
const LATE: Duration = Duration::from_mins(2);

impl Checks {
    pub(super) fn spec_written(
        &mut self,
        now: Duration,
        server: &Server,
        patch: &NodePatch,
        before: &Seen<NodeObjectContent>,
    ) {
        let Ok(content) = &before.content else {
            return self.violated("F10", || {
                format!("{}: what cannot be read was written over", patch.node)
            });
        };
        let cumulative =
            patch.spec.livepatches.iter().filter(|grant| {
                grant.livepatch_type == LivepatchType::Cumulative && grant.state == DesiredState::Loaded
            });
        if cumulative.count() > 1 {
            self.violated("R4", || format!("{} has two cumulative livepatches", patch.node));
        }
        self.unreadable_stay(server, patch, &content.spec.livepatches);
        // Precautions first: a slot that is judged by what is about to be written would judge itself.
        for grant in &patch.spec.livepatches {
            let old = content.spec.livepatches.iter().find(|old| old.set.uid == grant.set.uid);
            let same = old.is_some_and(|old| Slot::is_same(old, grant));
            if old.is_some_and(|old| same && old.epoch == grant.epoch) || grant.state == DesiredState::Absent {
                continue;
            }
            if grant.epoch != patch.basis.epoch {
                self.violated("F8", || {
                    format!("{}: a grant of epoch {} by {:?}", patch.node, grant.epoch, patch.basis)
                });
            }
            // What is in effect already asks nothing of the kernel.
            let is_there = |one: &LoadedLivepatch| one.build_id == grant.module.build_id && one.enabled;
            if !(grant.back && content.status.loaded.iter().any(is_there)) {
                self.budgets(server, patch, grant);
            }
            if !same {
                self.new_grant(now, server, patch, content, grant);
            }
        }
    }

    /// The set as the writer knew it.
    fn set_of<'a>(server: &'a Server, basis: &Basis, grant: &Grant) -> Option<&'a SetContent> {
        let set = server.sets.one_as_of(&grant.set.name, basis.places[0])?;
        (set.uid == grant.set.uid).then_some(set.content.as_ref().ok()?)
    }

    fn budgets(&mut self, server: &Server, patch: &NodePatch, grant: &Grant) {
        let basis = &patch.basis;
        let Some(set) = Self::set_of(server, basis, grant) else {
            return;
        };
        let Ok(selector) = set.spec.node_selector.compile() else {
            return;
        };
        let nodes = server.nodes.as_of(basis.places[3]);
        let is_selected = |name: &str| {
            let node = nodes.iter().find(|node| node.name == name);
            node.is_some_and(|node| node.content.as_ref().is_ok_and(|node| selector.matches(&node.labels)))
        };
        // Nodes that leave with a grant are counted until it has ended.
        let leaving = self.slots.of_set(&grant.set.uid).filter(|(node, _)| !is_selected(node));
        let selected = nodes.iter().filter(|node| is_selected(&node.name)).count() + leaving.count();
        let min_ready = Duration::from_secs(u64::try_from(set.spec.rollout.min_ready_seconds).unwrap_or(0));
        let seen = horizon(&server.objects, basis.places[2], basis).min(horizon(&server.nodes, basis.places[3], basis));
        let present = &self.epoch;
        let rollout = server.rollouts.one_as_of(&grant.rollout, basis.places[1]);
        let control = rollout.and_then(|rollout| Some(&rollout.content.as_ref().ok()?.spec.control));
        let left_out = |node: &str| control.is_some_and(|control| control.excludes(node));
        let open = |node: &str, slot: &Slot| {
            let current = slot.grant.rollout == grant.rollout && slot.grant.start == grant.start;
            // What is of a former rollout, or on a node that was left out or leaves, is waited for until it has taken effect.
            let ended = if current && !left_out(node) && is_selected(node) {
                slot.settled(min_ready, seen, basis.at).is_some()
            } else {
                !slot.effective.is_empty()
            };
            slot.failed.is_none() && !ended && (slot.begun || slot.grant.epoch == *present)
        };
        // What no agent may act on takes no slot, and what was in effect before takes no new one.
        let own = self.slots.all.get(&(patch.node.clone(), grant.set.uid.clone()));
        let before = own.is_some_and(|own| Slot::is_same(&own.grant, grant) && !own.effective.is_empty());
        if grant.epoch != *present || before {
            return;
        }
        let others: Vec<(String, Slot)> = self
            .slots
            .of_set(&grant.set.uid)
            .filter(|(node, slot)| *node != patch.node && open(node, slot))
            .map(|(node, slot)| (node.to_owned(), slot.clone()))
            .collect();
        let strategy = &set.spec.rollout;
        let limit = strategy.max_concurrent.of(selected);
        let in_wave = others
            .iter()
            .filter(|(_, slot)| slot.grant.wave == grant.wave && slot.grant.rollout == grant.rollout);
        let wave = strategy.waves.iter().find(|wave| wave.name == grant.wave);
        let wave_limit = wave
            .and_then(|wave| wave.max_concurrent.as_ref())
            .map_or(usize::MAX, |limit| limit.of(selected));
        let names: Vec<&str> = others.iter().map(|(node, _)| node.as_str()).collect();
        let (count, count_in_wave) = (others.len() + 1, in_wave.count() + 1);
        if count > limit {
            self.violated("I1", || {
                format!(
                    "{} is granted {} while {names:?} are in flight, and {limit} may be",
                    patch.node, grant.rollout
                )
            });
        } else if count_in_wave > wave_limit {
            self.violated("I1", || {
                format!(
                    "{} is granted wave {} while {names:?} are in flight, and {wave_limit} of it may be",
                    patch.node, grant.wave
                )
            });
        }
        // What runs since a former start of the rollout counts as it is.
        let runs = |slot: &Slot| slot.effective.last().is_some_and(|(_, until)| until.is_none());
        let settled_before = |slot: &Slot| {
            let former = slot.grant.start != grant.start && runs(slot);
            former || slot.settled(min_ready, seen, basis.at).is_some()
        };
        let build = &grant.module.kernel_build_id;
        let same = |slot: &Slot| {
            let of_rollout = slot.grant.rollout == grant.rollout && slot.grant.start > 0;
            of_rollout && slot.grant.module.kernel_build_id == *build
        };
        let proven = self.ungranted.contains(&grant.module.build_id)
            || self
                .slots
                .of_set(&grant.set.uid)
                .any(|(_, slot)| same(slot) && settled_before(slot));
        // Nothing waits for the end of a node that a person left out, the canary of a build like any other.
        let mut waited_for = others.iter().filter(|(node, _)| !left_out(node));
        if !proven && let Some((node, _)) = waited_for.find(|(_, slot)| same(slot)) {
            self.violated("R14", || {
                format!(
                    "{} is granted on kernel build {build} before {node}, its canary, has settled",
                    patch.node
                )
            });
        }
    }

    fn new_grant(
        &mut self,
        now: Duration,
        server: &Server,
        patch: &NodePatch,
        before: &NodeObjectContent,
        grant: &Grant,
    ) {
        let (basis, node) = (&patch.basis, &patch.node);
        let Some(set) = Self::set_of(server, basis, grant) else {
            return self.violated("R2", || {
                format!(
                    "{node}: a grant of {}, which its writer knew to be gone",
                    grant.set.name
                )
            });
        };
        let known = server.nodes.one_as_of(node, basis.places[3]);
        let Some(known) = known.and_then(|node| node.content.as_ref().ok()) else {
            return self.violated("R2", || {
                format!("{node}: a grant for a node that its writer knew to be gone")
            });
        };
        if !set
            .spec
            .node_selector
            .compile()
            .is_ok_and(|selector| selector.matches(&known.labels))
        {
            self.violated("R15", || {
                format!("{node}: a grant of {}, which does not select it", grant.set.name)
            });
        }
        let skipped = known.labels.get(SKIP_LABEL).is_some_and(|value| value == "true");
        if skipped || !patch.spec.hold.is_empty() {
            self.violated("R18", || format!("{node} is held and granted"));
        }
        if !known.ready {
            self.violated("R13", || format!("{node} is granted although it is not ready"));
        }
        let status = &before.status;
        if status.boot_id != known.boot_id || grant.boot_id != known.boot_id {
            self.violated("R16", || {
                format!(
                    "{node} is granted by a report of boot {}, and is in boot {}",
                    status.boot_id, known.boot_id
                )
            });
        }
        if status.kernel.build_id != grant.module.kernel_build_id {
            self.violated("R1", || format!("{node} runs another kernel than it is granted for"));
        }
        let loaded = |one: &LoadedLivepatch| one.build_id == grant.module.build_id && one.enabled && !one.transition;
        // A grant that may still be acted on has to be taken back, whatever runs.
        let replaces = before.spec.livepatches.iter().any(|old| old.set.uid == grant.set.uid);
        if status.loaded.iter().any(loaded) && !replaces {
            self.violated("R1", || {
                format!("{node} is granted {}, which it runs", grant.module.name)
            });
        }
        // Going back asks for no wave, and begins when the rollout has ended.
        if !grant.back {
            self.rollout_allows(now, server, basis, node, set, grant);
        }
    }

    /// What the writer knew of the rollout allows the grant.
    fn rollout_allows(
        &mut self,
        now: Duration,
        server: &Server,
        basis: &Basis,
        node: &str,
        set: &SetContent,
        grant: &Grant,
    ) {
        let waves = &set.spec.rollout.waves;
        let names: Vec<&str> = waves.iter().map(|wave| wave.name.as_str()).collect();
        let index = names.iter().position(|name| *name == grant.wave).unwrap_or(names.len());
        let versions = server
            .rollouts
            .since(&grant.rollout, basis.at.saturating_sub(LATE).min(now));
        let open = versions
            .iter()
            .flatten()
            .filter_map(|rollout| rollout.content.as_ref().ok())
            .any(|rollout| {
                names.iter().take(index).all(|name| {
                    let mut waves = rollout.status.waves.iter();
                    waves.any(|wave| wave.name == **name && wave.state == WaveState::Passed)
                })
            });
        if !open && index > 0 {
            self.violated("I2", || {
                format!(
                    "{node} is granted in wave {} before the waves before it have passed",
                    grant.wave
                )
            });
        }
        let Some(rollout) = server.rollouts.one_as_of(&grant.rollout, basis.places[1]) else {
            return;
        };
        let Ok(rollout) = &rollout.content else { return };
        let control = &rollout.spec.control;
        if control.state != ControlState::Run {
            let state = control.state;
            self.violated("I5", || {
                format!("{node} is granted by who knew that {} is {state:?}", grant.rollout)
            });
        }
        if control.excludes(node) {
            self.violated("I5", || {
                format!("{node} is granted by who knew that {} leaves it out", grant.rollout)
            });
        }
        if grant.attempt > control.attempt {
            self.violated("I5", || {
                format!("{node} is granted attempt {} of {}", grant.attempt, control.attempt)
            });
        }
        let failures = rollout
            .status
            .failures
            .iter()
            .filter(|failure| failure.attempt == grant.attempt);
        let (stalled, failed): (Vec<_>, Vec<_>) =
            failures.partition(|failure| STALLS.contains(&failure.reason.as_str()));
        let selected = usize::try_from(rollout.status.counts.selected).unwrap_or(0);
        let strategy = &set.spec.rollout;
        let bears = (strategy.max_failed.of(selected), strategy.max_stalled.of(selected));
        if failed.len() > bears.0 || stalled.len() > bears.1 {
            let names: Vec<String> = failed
                .iter()
                .chain(&stalled)
                .map(|failure| failure.node.clone())
                .collect();
            self.violated("I5", || {
                format!("{node} is granted after {names:?} failed in this attempt")
            });
        }
    }
}
