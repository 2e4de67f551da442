//! What is kept from one decision to the next, so that what happens to a node costs work for that node and not for the fleet.
//!
//! There is nothing in it that a snapshot does not tell: whoever decides with one that has been kept decides what he would
//! decide with a new one (`tests/fleet/index.rs` holds it to that).

use super::decide;
use super::decision::Decision;
use super::node_objects::Odd;
use super::roster::{Roster, Rule};
use super::snapshot::{NodeView, Snapshot};
use super::standing::set_grant;
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What is kept.
#[derive(Debug, Default)]
pub struct Index {
    /// When it was last brought up to date; `None` if nothing is in it.
    as_of: Option<Timestamp>,
    /// The nodes of each set, by its UID.
    rosters: BTreeMap<String, Roster>,
    /// Nodes that concern more than one set: only there can sets be at odds.
    shared: BTreeSet<Arc<str>>,
    odd: Odd,
}

impl Index {
    /// What the operator should write next; see [`decide()`](super::decide()).
    ///
    /// `changed` names the nodes that may look other than at the last call, those that are gone among them. Whatever else a
    /// snapshot holds is compared.
    pub fn decide(&mut self, snapshot: &Snapshot, changed: &BTreeSet<String>, now: Timestamp) -> Decision {
        self.take_in(snapshot, changed, now);
        decide::by(self, snapshot, now)
    }

    fn take_in(&mut self, snapshot: &Snapshot, changed: &BTreeSet<String>, now: Timestamp) {
        let are_the_same = self.rosters.len() == snapshot.sets.len()
            && snapshot.sets.iter().all(|set| self.rosters.contains_key(&set.uid));
        // A clock that went back makes things undone that were done.
        let is_of_use = are_the_same && self.as_of.is_some_and(|as_of| as_of <= now);
        if !is_of_use {
            *self = Self::default();
        }
        self.as_of = Some(now);
        let leave = decide::leave(snapshot);
        let mut all_anew = !is_of_use;
        for set in &snapshot.sets {
            let rule = Rule::of(set, &leave, &snapshot.leave);
            let kept = self.rosters.get_mut(&set.uid);
            if let Some(roster) = kept.filter(|roster| roster.is_by(&rule)) {
                roster.take_in(&snapshot.nodes, changed.iter().map(String::as_str), now);
            } else {
                let roster = Roster::of(rule, &snapshot.nodes, now);
                self.rosters.insert(set.uid.clone(), roster);
                all_anew = true;
            }
        }
        self.odd.take_in(snapshot, changed);
        if all_anew {
            self.shared.clear();
            self.note_shared(snapshot, snapshot.nodes.keys());
        } else {
            self.note_shared(snapshot, changed.iter());
        }
    }

    fn note_shared<'a>(&mut self, snapshot: &Snapshot, names: impl Iterator<Item = &'a String>) {
        for name in names {
            let node = snapshot.nodes.get(name);
            let concerned = |uid: &str, node: &NodeView| {
                self.rosters.get(uid).is_some_and(|roster| roster.selects(name)) || set_grant(node, uid).is_some()
            };
            let sets = snapshot.sets.iter();
            let concerned = sets.filter(|set| node.is_some_and(|node| concerned(&set.uid, node)));
            if concerned.count() > 1 {
                self.shared.insert(name.as_str().into());
            } else {
                self.shared.remove(name.as_str());
            }
        }
    }

    /// The nodes of a set; there are some for every set of the snapshot that was taken in.
    pub(super) fn roster(&self, set_uid: &str) -> Option<&Roster> {
        self.rosters.get(set_uid)
    }

    /// The nodes that concern more than one set, by name.
    pub(super) fn shared<'a>(&'a self, snapshot: &'a Snapshot) -> impl Iterator<Item = (&'a str, &'a NodeView)> {
        let shared = self.shared.iter();
        let nodes = shared.filter_map(|name| snapshot.nodes.get_key_value(&**name));
        nodes.map(|(name, node)| (name.as_str(), node))
    }

    /// The nodes whose objects are not as they should be.
    pub(super) fn odd(&self) -> &Odd {
        &self.odd
    }
}
