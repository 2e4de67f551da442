//! The NodeLivepatch of every node: made, held, granted and cleared in one place, so that each is written once.

use super::decision::{Decision, NewNodeObject, NodeChange, StaleNodeObject};
use super::removal;
use super::snapshot::{NodeView, Snapshot};
use super::standing::{is_leaving, is_skipped, is_unresolved, own_object, report};
use livepatch_crds::bounded::bounded;
use livepatch_crds::node::{DesiredState, Grant, MAX_LIVEPATCHES, NodeLivepatchSpec};
use livepatch_crds::{LivepatchType, SKIP_LABEL};
use std::collections::BTreeMap;

/// The longest reason code that a grant holds.
const MAX_REASON: usize = 64;
/// The longest hold that a spec holds.
const MAX_HOLD: usize = 256;

/// What each node's object shall be.
pub(super) struct NodeObjects<'a> {
    snapshot: &'a Snapshot,
    wanted: BTreeMap<&'a str, Wanted>,
}

struct Wanted {
    spec: NodeLivepatchSpec,
    new_grants: usize,
}

impl<'a> NodeObjects<'a> {
    /// Every object as it is, with the hold that the node's label asks for and without the entries of sets that are gone
    /// or do not select the node any more; not before it ended. An entry that goes away means: leave alone what is loaded.
    pub fn of(snapshot: &'a Snapshot) -> Self {
        let selectors: BTreeMap<&str, _> = snapshot
            .sets
            .iter()
            .map(|set| (set.uid.as_str(), (set, set.spec.node_selector.compile().ok())))
            .collect();
        let wanted = snapshot
            .nodes
            .iter()
            .filter_map(|(name, node)| {
                let mut spec = own_object(node)?.spec.clone();
                spec.hold = hold(node, snapshot);
                spec.livepatches.retain_mut(|grant| {
                    use kube::core::SelectorExt;
                    match selectors.get(grant.set.uid.as_str()) {
                        // Selected again before it was gone: it is left alone until it is granted anew.
                        Some((_, Some(selector))) if selector.matches(&node.labels) => {
                            grant.state != DesiredState::Absent || grant.back
                        }
                        Some((set, Some(_))) => {
                            is_leaving(node, &grant.set.uid, &snapshot.leave)
                                || removal::keeps(grant, set, node, &snapshot.leave)
                        }
                        // A selector that cannot be read selects nothing new, and takes nothing away.
                        Some((_, None)) => true,
                        None => false,
                    }
                });
                Some((name.as_str(), Wanted { spec, new_grants: 0 }))
            })
            .collect();
        Self { snapshot, wanted }
    }

    /// Gives a grant; it takes the place of the set's former one. The Cumulative livepatch comes first in load order.
    pub fn grant(&mut self, node: &str, grant: Grant) {
        let Some(wanted) = self.wanted.get_mut(node) else {
            return;
        };
        let entries = &mut wanted.spec.livepatches;
        if let Some(former) = entries.iter_mut().find(|entry| entry.set.uid == grant.set.uid) {
            *former = grant;
        } else if entries.len() >= MAX_LIVEPATCHES {
            return;
        } else if grant.livepatch_type == LivepatchType::Cumulative {
            entries.insert(0, grant);
        } else {
            entries.push(grant);
        }
        wanted.new_grants += 1;
    }

    /// Writes to a grant of an attempt that it failed, so that it is known for as long as the grant is there.
    pub fn mark_failed(&mut self, node: &str, set_uid: &str, attempt: i32, reason: &str) {
        let entries = self.wanted.get_mut(node).map(|wanted| &mut wanted.spec.livepatches);
        let grant = entries.and_then(|entries| entries.iter_mut().find(|entry| entry.set.uid == set_uid));
        if let Some(grant) = grant.filter(|grant| grant.attempt == attempt && grant.failed.is_none()) {
            grant.failed = Some(bounded(reason, MAX_REASON));
        }
    }

    pub fn write_into(self, decision: &mut Decision) {
        for (name, node) in &self.snapshot.nodes {
            match &node.object {
                None => decision.new_node_objects.push(NewNodeObject {
                    node: name.clone(),
                    spec: NodeLivepatchSpec {
                        node_uid: node.uid.clone(),
                        hold: hold(node, self.snapshot),
                        livepatches: Vec::new(),
                    },
                }),
                Some(object) if object.deleting => {}
                Some(object) if object.spec.node_uid != node.uid => decision.stale_node_objects.push(StaleNodeObject {
                    node: name.clone(),
                    uid: object.uid.clone(),
                }),
                Some(object) => decision.node_changes.extend(
                    self.wanted
                        .get(name.as_str())
                        .filter(|wanted| wanted.spec != object.spec)
                        .map(|wanted| NodeChange {
                            node: name.clone(),
                            resource_version: object.resource_version.clone(),
                            spec: wanted.spec.clone(),
                            new_grants: wanted.new_grants,
                        }),
                ),
            }
        }
    }
}

/// Why nothing may be changed on the node: its label says so, or all is frozen and something was not begun yet.
fn hold(node: &NodeView, snapshot: &Snapshot) -> String {
    if is_skipped(node) {
        return format!("the node has the label {SKIP_LABEL}=true");
    }
    let frozen = snapshot.limits.frozen.as_ref().filter(|_| has_open_grant(node));
    frozen.map(|why| bounded(why, MAX_HOLD)).unwrap_or_default()
}

fn has_open_grant(node: &NodeView) -> bool {
    own_object(node).is_some_and(|object| {
        let open = |grant: &Grant| report(node).is_none_or(|object| is_unresolved(object, grant));
        object.spec.livepatches.iter().any(open)
    })
}
