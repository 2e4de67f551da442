//! The planner's one entry.

use super::acceptance::{Chosen, acceptance};
use super::course::Course;
use super::decision::{Decision, NewRollout};
use super::grants::{Cap, choose};
use super::node_objects::NodeObjects;
use super::reasons;
use super::snapshot::{Leave, RolloutView, SetView, Snapshot};
use super::status::Report;
use jiff::Timestamp;
use livepatch_crds::revision::{revision, rollout_name};
use livepatch_crds::rollout::{Control, LivepatchRolloutSpec};

/// What the operator should write next.
///
/// All sets are decided together, since they meet on nodes: the older set is heard first, and each node's spec is written
/// once with what all sets ask of it.
pub fn decide(snapshot: &Snapshot, now: Timestamp) -> Decision {
    let mut decision = Decision::default();
    let mut objects = NodeObjects::of(snapshot);
    let leave = leave(snapshot);
    let mut sets: Vec<&SetView> = snapshot.sets.iter().collect();
    sets.sort_by_key(|set| (set.created, &set.uid));
    let all: Vec<Chosen<'_>> = sets.iter().map(|set| Chosen::of(set, snapshot)).collect();
    let courses: Vec<Course<'_>> = all
        .iter()
        .enumerate()
        .map(|(index, chosen)| Course::of(chosen, acceptance(index, &all), &leave, now))
        .collect();
    let mut cap = Cap::new(snapshot.limits.max_in_flight, &courses);
    for course in &courses {
        if course.acceptance.is_accepted() && course.rollout.is_none() {
            decision.new_rollouts.push(new_rollout(course.set));
        }
        for (node, attempt, reason) in course.failed_grants() {
            objects.mark_failed(node, &course.set.uid, attempt, reason);
        }
        let grants = choose(course, &mut cap);
        let capped = cap.blocks(course, &grants);
        for chosen in grants {
            objects.grant(&chosen.node, chosen.grant);
        }
        decision.expired_rollouts.extend(expired(course.set));
        Report::of(course, capped, now).write_into(&mut decision);
    }
    objects.write_into(&mut decision);
    decision
}

/// Whether grants may be given: a freeze goes before everything.
fn leave(snapshot: &Snapshot) -> Leave {
    match &snapshot.limits.frozen {
        Some(why) => Leave::Withheld {
            reason: reasons::FROZEN,
            message: why.clone(),
        },
        None => snapshot.leave.clone(),
    }
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
