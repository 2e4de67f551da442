//! Since when each livepatch has been effective on a healthy node, as far as this operator has watched it.
//!
//! Nobody else keeps that time: a node's clock may be off, and a time in a status would be one more write for each node.

use super::snapshot::{GrantKey, NodeView, SetView};
use super::standing::{is_carried_out, key, report, set_grant};
use jiff::Timestamp;
use std::collections::{BTreeMap, HashMap};

/// What a stretch of time belongs to: the node's uid, and the grant.
type Key = (String, GrantKey);

/// Remembers from one look to the next. A standby operator looks too, so that a takeover starts no clock anew.
#[derive(Clone, Debug, Default)]
pub struct Observations {
    since: HashMap<Key, Timestamp>,
    has_looked: bool,
}

impl Observations {
    /// Looks at all nodes, and tells each of them since when its grants have been effective.
    ///
    /// At the very first look a node counts as watched all along, since it was watched by the operator before this one, if
    /// its wave has passed or its rollout has gone back; in any other wave its time starts now.
    pub fn observe(&mut self, nodes: &mut BTreeMap<String, NodeView>, sets: &[SetView], now: Timestamp) {
        let mut still = HashMap::with_capacity(self.since.len());
        for node in nodes.values_mut() {
            node.effective_since.clear();
            for set in sets {
                let Some(grant) = set_grant(node, &set.uid) else {
                    continue;
                };
                if !node.ready || !report(node).is_some_and(|object| is_carried_out(object, grant)) {
                    continue;
                }
                let mut rollouts = set.rollouts.iter();
                let rollout = rollouts.find(|rollout| rollout.name == grant.rollout);
                let over = rollout.is_some_and(|rollout| {
                    if grant.back {
                        rollout.has_gone_back()
                    } else {
                        rollout.has_passed(&grant.wave)
                    }
                });
                let first = if !self.has_looked && over {
                    Timestamp::UNIX_EPOCH
                } else {
                    now
                };
                let grant = key(grant);
                let key = (node.uid.clone(), grant.clone());
                let since = self.since.get(&key).copied().unwrap_or(first);
                node.effective_since.insert(grant, since);
                still.insert(key, since);
            }
        }
        self.since = still;
        self.has_looked |= !nodes.is_empty();
    }
}
