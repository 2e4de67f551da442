//! The NodeLivepatch of every node: made, held, granted and cleared in one place, so that each is written once.

use super::decision::{Decision, NewNodeObject, NodeChange, StaleNodeObject};
use super::removal;
use super::snapshot::{Leave, NodeView, SetView, Snapshot};
use super::standing::{is_leaving, is_skipped, is_unresolved, own_object, report, set_grant};
use kube::core::{Selector, SelectorExt};
use livepatch_crds::bounded::bounded;
use livepatch_crds::node::{DesiredState, Grant, MAX_LIVEPATCHES, NodeLivepatchSpec};
use livepatch_crds::{LivepatchType, NodeSelector, SKIP_LABEL};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The longest reason code that a grant holds.
const MAX_REASON: usize = 64;
/// The longest hold that a spec holds.
const MAX_HOLD: usize = 256;

/// What each node's object shall be.
pub(super) struct NodeObjects<'a> {
    snapshot: &'a Snapshot,
    odd: &'a Odd,
    /// Only of nodes whose object may have to be other than it is: in a large fleet they are few.
    wanted: BTreeMap<&'a str, Wanted>,
}

struct Wanted {
    spec: NodeLivepatchSpec,
    new_grants: usize,
}

/// What becomes of an entry by its set alone.
enum Fate<'a> {
    Kept,
    /// As the set's removalPolicy says.
    Removed(&'a SetView),
    Dropped,
}

impl Fate<'_> {
    fn kept_if(kept: bool) -> Self {
        if kept { Self::Kept } else { Self::Dropped }
    }
}

/// What becomes of each entry.
struct Fates<'a> {
    snapshot: &'a Snapshot,
    selectors: BTreeMap<&'a str, (&'a SetView, Option<Selector>)>,
}

impl<'a> Fates<'a> {
    fn of(snapshot: &'a Snapshot) -> Self {
        let sets = snapshot.sets.iter();
        let selectors = sets.map(|set| (set.uid.as_str(), (set, set.spec.node_selector.compile().ok())));
        Self {
            snapshot,
            selectors: selectors.collect(),
        }
    }

    fn fate(&self, grant: &Grant, node: &NodeView) -> Fate<'a> {
        match self.selectors.get(grant.set.uid.as_str()) {
            // Selected again before it was gone: it is left alone until it is granted anew.
            Some((_, Some(selector))) if selector.matches(&node.labels) => {
                Fate::kept_if(grant.state != DesiredState::Absent || grant.back)
            }
            Some((_, Some(_))) if is_leaving(node, &grant.set.uid, &self.snapshot.leave) => Fate::Kept,
            Some((set, Some(_))) => Fate::Removed(set),
            // A selector that cannot be read selects nothing new, and takes nothing away.
            Some((_, None)) => Fate::Kept,
            None => Fate::Dropped,
        }
    }

    /// Whether a node's object is not as it should be, whatever is granted.
    fn is_odd(&self, node: &NodeView) -> bool {
        match &node.object {
            None => true,
            Some(object) if object.deleting => false,
            Some(object) if object.spec.node_uid != node.uid => true,
            Some(object) => {
                let is_kept = |grant| matches!(self.fate(grant, node), Fate::Kept);
                object.spec.hold != hold(node, self.snapshot) || !object.spec.livepatches.iter().all(is_kept)
            }
        }
    }
}

/// Nodes whose object is not as it should be, whatever is granted: in a large fleet they are few.
#[derive(Debug, Default)]
pub(super) struct Odd {
    by: Option<OddBy>,
    names: BTreeSet<Arc<str>>,
}

/// What all objects are judged by.
#[derive(Debug, PartialEq)]
struct OddBy {
    selectors: Vec<(String, NodeSelector)>,
    leave: Leave,
    frozen: Option<String>,
}

impl Odd {
    /// Judges the nodes that changed, or all if what they are judged by changed.
    pub fn take_in(&mut self, snapshot: &Snapshot, changed: &BTreeSet<String>) {
        let sets = snapshot.sets.iter();
        let by = Some(OddBy {
            selectors: sets
                .map(|set| (set.uid.clone(), set.spec.node_selector.clone()))
                .collect(),
            leave: snapshot.leave.clone(),
            frozen: snapshot.limits.frozen.clone(),
        });
        let fates = Fates::of(snapshot);
        if self.by == by {
            for name in changed {
                if snapshot.nodes.get(name).is_some_and(|node| fates.is_odd(node)) {
                    self.names.insert(name.as_str().into());
                } else {
                    self.names.remove(name.as_str());
                }
            }
        } else {
            self.by = by;
            let odd = snapshot.nodes.iter().filter(|(_, node)| fates.is_odd(node));
            self.names = odd.map(|(name, _)| name.as_str().into()).collect();
        }
    }
}

impl<'a> NodeObjects<'a> {
    /// Every object as it is, with the hold that the node's label asks for and without the entries of sets that are gone
    /// or do not select the node any more; not before it ended. An entry that goes away means: leave alone what is loaded.
    pub fn of(snapshot: &'a Snapshot, odd: &'a Odd) -> Self {
        let fates = Fates::of(snapshot);
        let wanted = odd.names.iter().filter_map(|name| {
            let node = snapshot.nodes.get(&**name)?;
            let mut spec = own_object(node)?.spec.clone();
            spec.hold = hold(node, snapshot);
            spec.livepatches.retain_mut(|grant| match fates.fate(grant, node) {
                Fate::Kept => true,
                Fate::Removed(set) => removal::keeps(grant, set, node, &snapshot.leave),
                Fate::Dropped => false,
            });
            Some((&**name, Wanted { spec, new_grants: 0 }))
        });
        Self {
            snapshot,
            odd,
            wanted: wanted.collect(),
        }
    }

    /// Gives a grant; it takes the place of the set's former one. The Cumulative livepatch comes first in load order.
    pub fn grant(&mut self, node: &str, grant: Grant) {
        let Some(wanted) = self.wanted(node) else { return };
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

    /// Puts something in the place of a set's grant, or nothing; what is loaded stays as it is either way.
    pub fn put(&mut self, node: &str, set_uid: &str, instead: Option<Grant>) {
        let Some(wanted) = self.wanted(node) else { return };
        let entries = &mut wanted.spec.livepatches;
        let place = entries.iter().position(|entry| entry.set.uid == set_uid);
        match (place, instead) {
            (Some(place), Some(instead)) => entries[place] = instead,
            (Some(place), None) => _ = entries.remove(place),
            (None, _) => {}
        }
    }

    /// Writes to a grant of an attempt that it failed, so that it is known for as long as the grant is there.
    pub fn mark_failed(&mut self, node: &str, set_uid: &str, attempt: i32, reason: &str) {
        let present = self.snapshot.nodes.get(node).and_then(|node| set_grant(node, set_uid));
        if present.is_none_or(|grant| grant.attempt != attempt || grant.failed.is_some()) {
            return;
        }
        let entries = self.wanted(node).map(|wanted| &mut wanted.spec.livepatches);
        let grant = entries.and_then(|entries| entries.iter_mut().find(|entry| entry.set.uid == set_uid));
        if let Some(grant) = grant {
            grant.failed = Some(bounded(reason, MAX_REASON));
        }
    }

    /// What the object of a node shall be, as it is if nobody said otherwise so far.
    fn wanted(&mut self, node: &str) -> Option<&mut Wanted> {
        let (name, view) = self.snapshot.nodes.get_key_value(node)?;
        let object = own_object(view)?;
        Some(self.wanted.entry(name).or_insert_with(|| Wanted {
            spec: object.spec.clone(),
            new_grants: 0,
        }))
    }

    pub fn write_into(self, decision: &mut Decision) {
        let odd = self.odd.names.iter().map(|name| &**name);
        let names: BTreeSet<&str> = odd.chain(self.wanted.keys().copied()).collect();
        for (name, node) in names.iter().filter_map(|name| self.snapshot.nodes.get_key_value(*name)) {
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
