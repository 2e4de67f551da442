//! What the watches have told so far. No IO.

use std::collections::{BTreeMap, BTreeSet};

use livepatch_crds::{LivepatchRollout, LivepatchSet};

use crate::cluster::{Change, Kind};
use crate::family::Family;
use crate::nodes::NodeGist;

/// What the watches have told so far.
#[derive(Debug)]
pub struct Seen {
    sets: BTreeMap<String, LivepatchSet>,
    rollouts: BTreeMap<String, LivepatchRollout>,
    nodes: BTreeMap<String, NodeGist>,
    /// The kinds that are followed, and whether all there is of them is known.
    kinds: BTreeMap<Kind, bool>,
    /// While a watch begins anew: what it has named so far. The rest is gone when it is done.
    named: BTreeMap<Kind, BTreeSet<String>>,
    trouble: Option<String>,
}

impl Seen {
    /// Nothing yet, of these kinds.
    pub fn of(kinds: &[Kind]) -> Self {
        Self {
            sets: BTreeMap::new(),
            rollouts: BTreeMap::new(),
            nodes: BTreeMap::new(),
            kinds: kinds.iter().map(|kind| (*kind, false)).collect(),
            named: BTreeMap::new(),
            trouble: None,
        }
    }

    /// Takes a change in.
    pub fn take(&mut self, change: Change) {
        match change {
            Change::Set(name, object) => {
                self.mention(Kind::Sets, &name);
                put(&mut self.sets, name, object.map(|object| *object));
            }
            Change::Rollout(name, object) => {
                self.mention(Kind::Rollouts, &name);
                put(&mut self.rollouts, name, object.map(|object| *object));
            }
            Change::Node(name, object) => {
                self.mention(Kind::Nodes, &name);
                put(&mut self.nodes, name, object.and_then(|object| NodeGist::of(*object)));
            }
            Change::Anew(kind) => {
                self.named.insert(kind, BTreeSet::new());
            }
            Change::Known(kind) => {
                let named = self.named.remove(&kind).unwrap_or_default();
                match kind {
                    Kind::Sets => self.sets.retain(|name, _| named.contains(name)),
                    Kind::Rollouts => self.rollouts.retain(|name, _| named.contains(name)),
                    Kind::Nodes => self.nodes.retain(|name, _| named.contains(name)),
                }
                self.kinds.insert(kind, true);
                self.trouble = None;
            }
            Change::Trouble(what) => {
                self.trouble = Some(what);
            }
        }
    }

    fn mention(&mut self, kind: Kind, name: &str) {
        self.trouble = None;
        if let Some(named) = self.named.get_mut(&kind) {
            named.insert(name.to_owned());
        }
    }

    /// Whether everything was told once. Until then what is missing may only not have come yet.
    pub fn is_known(&self) -> bool {
        self.kinds.values().all(|known| *known)
    }

    /// The sets with their rollouts, by name.
    pub fn families(&self) -> Vec<Family> {
        Family::all(
            self.sets.values().cloned().collect(),
            self.rollouts.values().cloned().collect(),
        )
    }

    /// The nodes, by name.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeGist> {
        self.nodes.values()
    }

    /// What is wrong with a watch at present.
    pub fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }
}

fn put<T>(all: &mut BTreeMap<String, T>, name: String, object: Option<T>) {
    match object {
        Some(object) => {
            all.insert(name, object);
        }
        None => {
            all.remove(&name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn set(name: &str) -> Change {
        let set = json!({
            "metadata": {"name": name, "uid": name},
            "spec": {"type": "OffBand", "nodeSelector": {}, "template": {"source": {"oci": {"reference": ""}}}},
        });
        Change::Set(name.to_owned(), Some(Box::new(serde_json::from_value(set).unwrap())))
    }

    fn names(seen: &Seen) -> Vec<String> {
        let families = seen.families();
        families.iter().map(|family| family.name().to_owned()).collect()
    }

    #[test]
    fn what_went_while_a_watch_was_away_is_gone_and_nothing_is_in_between() {
        let mut seen = Seen::of(&[Kind::Sets, Kind::Rollouts]);
        assert!(!seen.is_known());
        for change in [
            Change::Anew(Kind::Sets),
            set("a"),
            set("b"),
            Change::Known(Kind::Sets),
            Change::Anew(Kind::Rollouts),
            Change::Known(Kind::Rollouts),
        ] {
            seen.take(change);
        }
        assert!(seen.is_known());
        seen.take(Change::Trouble("away".to_owned()));
        seen.take(Change::Anew(Kind::Sets));
        assert_eq!(seen.trouble(), Some("away"));
        seen.take(set("b"));
        assert_eq!(names(&seen), ["a", "b"]);
        seen.take(Change::Known(Kind::Sets));
        assert_eq!(names(&seen), ["b"]);
        assert_eq!(seen.trouble(), None);
        seen.take(Change::Set("b".to_owned(), None));
        assert!(names(&seen).is_empty());
    }
}
