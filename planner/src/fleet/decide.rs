//! The planner's one entry.

use super::acceptance::{Chosen, Meetings, acceptance};
use super::course::Course;
use super::decision::{Decision, NewRollout};
use super::grants::{Cap, choose};
use super::index::Index;
use super::node_objects::NodeObjects;
use super::outlived;
use super::reasons;
use super::snapshot::{Leave, RolloutView, SetView, Snapshot};
use super::status::Report;
use jiff::Timestamp;
use livepatch_crds::revision::{revision, rollout_name};
use livepatch_crds::rollout::{Control, LivepatchRolloutSpec};
use std::collections::BTreeSet;

/// What the operator should write next.
///
/// All sets are decided together, since they meet on nodes: the older set is heard first, and each node's spec is written
/// once with what all sets ask of it.
///
/// Whoever decides again and again keeps an [`Index`], and is spared to look at every node each time.
pub fn decide(snapshot: &Snapshot, now: Timestamp) -> Decision {
    Index::default().decide(snapshot, &BTreeSet::new(), now)
}

/// What the operator should write next, by an index that is up to date.
pub(super) fn by(index: &Index, snapshot: &Snapshot, now: Timestamp) -> Decision {
    let mut decision = Decision::default();
    let mut objects = NodeObjects::of(snapshot, index.odd());
    let leave = leave(snapshot);
    let mut all: Vec<Chosen<'_>> = snapshot
        .sets
        .iter()
        .filter_map(|set| Some((set, index.roster(&set.uid)?)))
        .map(|(set, roster)| Chosen { set, roster })
        .collect();
    all.sort_by_key(|chosen| (chosen.set.created, &chosen.set.uid));
    let meetings = Meetings {
        all: &all,
        shared: index.shared(snapshot).collect(),
    };
    let courses: Vec<Course<'_>> = all
        .iter()
        .enumerate()
        .map(|(place, chosen)| Course::of(chosen, &snapshot.nodes, acceptance(place, &meetings), &leave, now))
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
        for outlived in outlived::of(course, &grants) {
            objects.put(outlived.node, &course.set.uid, outlived.instead);
        }
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
pub(super) fn leave(snapshot: &Snapshot) -> Leave {
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
