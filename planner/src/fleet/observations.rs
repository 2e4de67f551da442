//! Since when each livepatch has been effective on a healthy node, as far as this operator has watched it.
//!
//! Nobody else keeps that time: a node's clock may be off, and a time in a status would be one more write for each node.
//! It is remembered in the nodes' views, from one look to the next.

use super::snapshot::{NodeView, SetView};
use super::standing::{is_carried_out, key, report, set_grant};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::mem;

/// What an operator has looked at. A standby operator looks too, so that a takeover starts no clock anew.
#[derive(Clone, Debug, Default)]
pub struct Observations {
    has_looked: bool,
    /// UIDs of the sets that there were.
    sets: BTreeSet<String>,
}

/// Which nodes were looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Looked {
    /// Those that changed.
    AtChanged,
    /// All, and any of them may be told other than before.
    AtAll,
}

impl Observations {
    /// Looks at all nodes, and tells each of them since when its grants have been effective.
    ///
    /// At the very first look a node counts as watched all along, since it was watched by the operator before this one, if
    /// its wave has passed or its rollout has gone back; in any other wave its time starts now.
    pub fn observe(&mut self, nodes: &mut BTreeMap<String, NodeView>, sets: &[SetView], now: Timestamp) {
        for node in nodes.values_mut() {
            self.look_at(node, sets, now);
        }
        self.sets = sets.iter().map(|set| set.uid.clone()).collect();
        self.has_looked |= !nodes.is_empty();
    }

    /// The same, if none but the `changed` ones of the nodes may look other than before. What a node is known by beside
    /// itself are the sets that there are: if these changed, it looks at all nodes, and says so.
    pub fn observe_changed(
        &mut self,
        nodes: &mut BTreeMap<String, NodeView>,
        changed: &[String],
        sets: &[SetView],
        now: Timestamp,
    ) -> Looked {
        let are_as_before = sets.len() == self.sets.len() && sets.iter().all(|set| self.sets.contains(&set.uid));
        if !self.has_looked || !are_as_before {
            self.observe(nodes, sets, now);
            return Looked::AtAll;
        }
        for name in changed {
            if let Some(node) = nodes.get_mut(name) {
                self.look_at(node, sets, now);
            }
        }
        Looked::AtChanged
    }

    fn look_at(&self, node: &mut NodeView, sets: &[SetView], now: Timestamp) {
        let before = mem::take(&mut node.effective_since);
        for set in sets {
            let Some(grant) = set_grant(node, &set.uid) else {
                continue;
            };
            if !node.ready || !report(node).is_some_and(|object| is_carried_out(object, grant)) {
                continue;
            }
            let key = key(grant);
            let since = if self.has_looked {
                before.get(&key).copied().unwrap_or(now)
            } else {
                let mut rollouts = set.rollouts.iter();
                let rollout = rollouts.find(|rollout| rollout.name == grant.rollout);
                let is_over = rollout.is_some_and(|rollout| {
                    if grant.back {
                        rollout.has_gone_back()
                    } else {
                        rollout.has_passed(&grant.wave)
                    }
                });
                if is_over { Timestamp::UNIX_EPOCH } else { now }
            };
            node.effective_since.insert(key, since);
        }
    }
}
