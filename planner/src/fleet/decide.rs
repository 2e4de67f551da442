//! The planner's one entry.

use super::acceptance::{self, Acceptance, acceptance};
use super::decision::{Decision, NewRollout};
use super::grants::{self, choose};
use super::node_objects::NodeObjects;
use super::progress::{Progress, progress, wave_names};
use super::reasons;
use super::snapshot::{Leave, NodeView, RolloutView, SetView, Snapshot};
use super::standing::{Standing, Yardstick, current_grant, standing};
use super::status::Report;
use super::waves::{Selected, assign, select};
use jiff::{SignedDuration, Timestamp};
use livepatch_crds::revision::{revision, rollout_name};
use livepatch_crds::rollout::{Control, LivepatchRolloutSpec};
use livepatch_crds::set::REST;
use std::collections::BTreeMap;

/// What the operator should write next.
///
/// All sets are decided together, since they meet on nodes: the older set is heard first, and each node's spec is written
/// once with what all sets ask of it.
pub fn decide(snapshot: &Snapshot, now: Timestamp) -> Decision {
    let mut decision = Decision::default();
    let mut objects = NodeObjects::of(snapshot);
    let mut sets: Vec<&SetView> = snapshot.sets.iter().collect();
    sets.sort_by_key(|set| (set.created, &set.uid));
    let all: Vec<acceptance::Chosen<'_>> = sets
        .iter()
        .map(|set| {
            (
                *set,
                select(&set.spec.node_selector, &snapshot.nodes).unwrap_or_default(),
            )
        })
        .collect();
    for (index, (set, selected)) in all.iter().enumerate() {
        let course = Course::of(set, selected, acceptance(index, &all), now);
        if course.acceptance.is_accepted() && course.rollout.is_none() {
            decision.new_rollouts.push(new_rollout(set));
        }
        for chosen in course.grants(&snapshot.leave) {
            objects.grant(&chosen.node, chosen.grant);
        }
        decision.expired_rollouts.extend(expired(set));
        Report::of(&course, &snapshot.leave, now).write_into(&mut decision);
    }
    objects.write_into(&mut decision);
    decision
}

/// One set on its way: everything that grants and reports are made of.
pub(super) struct Course<'a> {
    pub set: &'a SetView,
    pub rollout: Option<&'a RolloutView>,
    pub acceptance: Acceptance,
    /// Every selected node: the index of its wave, itself, and where it stands.
    pub nodes: BTreeMap<&'a str, (usize, &'a NodeView, Standing)>,
    pub progress: Progress,
    /// When a node in flight settles, if nothing happens to it.
    pub next_settled: Option<Timestamp>,
}

impl<'a> Course<'a> {
    fn of(set: &'a SetView, selected: &Selected<'a>, mut acceptance: Acceptance, now: Timestamp) -> Self {
        let waves = &set.spec.rollout.waves;
        let assigned = set
            .spec
            .node_selector
            .compile()
            .and_then(|_| assign(waves, selected, &set.uid));
        let assigned = assigned.unwrap_or_else(|error| {
            acceptance = Acceptance::refused(reasons::INVALID_SELECTOR, error.to_string());
            BTreeMap::new()
        });
        let rollout = current_rollout(set);
        let by = Yardstick {
            set_uid: &set.uid,
            rollout,
            bundle: &set.bundle,
            min_ready: SignedDuration::from_secs(i64::from(set.spec.rollout.min_ready_seconds)),
            now,
        };
        let nodes: BTreeMap<_, _> = selected
            .iter()
            .map(|(name, node)| {
                let granted_in =
                    current_grant(node, &by).and_then(|grant| wave_names(waves).position(|wave| wave == grant.wave));
                let wave = granted_in
                    .or_else(|| assigned.get(name).copied())
                    .unwrap_or(waves.len());
                let passed =
                    rollout.is_some_and(|rollout| rollout.has_passed(waves.get(wave).map_or(REST, |wave| &wave.name)));
                (*name, (wave, *node, standing(name, node, passed, &by)))
            })
            .collect();
        let standings = nodes
            .iter()
            .map(|(name, (wave, _, standing))| (*name, (*wave, standing.clone())))
            .collect();
        let progress = progress(waves, &standings, rollout, now);
        let next_settled = next_settled(&nodes, &by);
        Self {
            set,
            rollout,
            acceptance,
            nodes,
            progress,
            next_settled,
        }
    }

    fn grants(&self, leave: &Leave) -> Vec<grants::Chosen> {
        match (self.rollout, leave) {
            (Some(rollout), Leave::Granted { epoch }) if self.acceptance.is_accepted() => {
                choose(self.set, rollout, &self.nodes, &self.progress, epoch)
            }
            _ => Vec::new(),
        }
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
fn next_settled(nodes: &BTreeMap<&str, (usize, &NodeView, Standing)>, by: &Yardstick<'_>) -> Option<Timestamp> {
    nodes
        .values()
        .filter(|(_, _, standing)| *standing == Standing::InFlight)
        .filter_map(|(_, node, _)| {
            let grant = current_grant(node, by)?;
            let since = node.effective_since.get(&(grant.rollout.clone(), grant.attempt))?;
            since.checked_add(by.min_ready).ok()
        })
        .min()
}

fn new_rollout(set: &SetView) -> NewRollout {
    NewRollout {
        name: rollout_name(&set.name, &revision(&set.spec.template)),
        set: set.name.clone(),
        spec: LivepatchRolloutSpec {
            set_uid: set.uid.clone(),
            template: set.spec.template.clone(),
            control: Control::default(),
        },
    }
}

/// The oldest rollouts beyond the history that is kept; never the one of the current revision.
fn expired(set: &SetView) -> Vec<String> {
    let current = rollout_name(&set.name, &revision(&set.spec.template));
    let mut former: Vec<&RolloutView> = set
        .rollouts
        .iter()
        .filter(|rollout| rollout.name != current && !rollout.deleting)
        .collect();
    former.sort_by_key(|rollout| std::cmp::Reverse((rollout.created, &rollout.name)));
    let kept = usize::try_from(set.spec.revision_history_limit).unwrap_or(0);
    former
        .into_iter()
        .skip(kept)
        .map(|rollout| rollout.name.clone())
        .collect()
}
