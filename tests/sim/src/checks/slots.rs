//! Every grant of a fleet from the moment it is stored, judged by what is stored of its node: whether it still holds its
//! slot, has settled, or failed.

use std::collections::BTreeMap;
use std::time::Duration;

use livepatch_crds::node::{Grant, GrantResult};

use crate::api::server::Server;

/// Why a slot failed whose node is lost: the one cause that can pass unseen.
pub(crate) const NOT_READY: &str = "the node is not ready";

/// A grant on a node.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    pub grant: Grant,
    pub node_uid: String,
    /// When it was stored for the first time.
    pub granted: Duration,
    /// Since when the storage says that it is in effect on a healthy node, and until when, once it does not any more.
    pub effective: Vec<(Duration, Option<Duration>)>,
    /// Since when the storage says that it failed, or that its node was lost, and why.
    pub failed: Option<(Duration, String)>,
    /// An agent has acted on it.
    pub begun: bool,
}

/// All grants, by node and set.
#[derive(Debug, Default)]
pub(crate) struct Slots {
    pub all: BTreeMap<(String, String), Slot>,
}

impl Slot {
    fn new(grant: &Grant, node_uid: &str, granted: Duration) -> Self {
        Self {
            grant: grant.clone(),
            node_uid: node_uid.to_owned(),
            granted,
            effective: Vec::new(),
            failed: None,
            begun: false,
        }
    }

    /// Whether it was in effect for so long, as far as somebody who knows nothing after `horizon` can say at `at`.
    pub fn settled(&self, min_ready: Duration, horizon: Duration, at: Duration) -> Option<Duration> {
        self.effective.iter().find_map(|(from, until)| {
            let until = until.filter(|until| *until < horizon).unwrap_or(at);
            (until >= *from + min_ready).then(|| *from + min_ready)
        })
    }

    /// Whether it is the same grant, given again under another leadership or marked.
    pub fn is_same(old: &Grant, new: &Grant) -> bool {
        let what = |grant: &Grant| {
            let Grant {
                rollout,
                wave,
                attempt,
                state,
                module,
                boot_id,
                start,
                back,
                ..
            } = grant.clone();
            (rollout, wave, attempt, state, module.sha256, boot_id, (start, back))
        };
        what(old) == what(new)
    }
}

impl Slots {
    /// Takes in what is stored of a node.
    pub fn look(&mut self, server: &Server, node: &str, now: Duration) {
        let object = server.objects.get(node).and_then(|object| object.content.as_ref().ok());
        let at = server.nodes.get(node);
        let machine = at.and_then(|node| node.content.as_ref().ok());
        let node_uid = at.map(|node| node.uid.clone()).unwrap_or_default();
        // What cannot be read now holds what it held.
        let unreadable = server.objects.get(node).is_some_and(|object| object.content.is_err());
        let grants: &[Grant] = match object {
            Some(object) if object.spec.node_uid == node_uid => &object.spec.livepatches,
            _ if unreadable && at.is_some() => return,
            _ => &[],
        };
        self.all.retain(|(of, set), slot| {
            of != node || (slot.node_uid == node_uid && grants.iter().any(|grant| grant.set.uid == *set))
        });
        for grant in grants {
            let key = (node.to_owned(), grant.set.uid.clone());
            let known = self.all.get(&key).map(|slot| slot.grant.clone());
            let slot = self.all.entry(key).or_insert_with(|| Slot::new(grant, &node_uid, now));
            if known.as_ref().is_some_and(|known| !Slot::is_same(known, grant)) {
                *slot = Slot::new(grant, &node_uid, now);
            }
            slot.grant = grant.clone();
            let (Some(object), Some(machine)) = (object, machine) else {
                continue;
            };
            let status = &object.status;
            let fresh = !status.boot_id.is_empty() && status.boot_id == machine.boot_id;
            let failure = if !machine.ready {
                Some(NOT_READY.to_owned())
            } else if machine.boot_id != grant.boot_id {
                Some("the node rebooted".to_owned())
            } else if status.kernel.build_id != grant.module.kernel_build_id && status.boot_id != grant.boot_id {
                Some("the node runs another kernel".to_owned())
            } else if fresh && gained(&grant.kernel_taints, &status.kernel_taints) {
                Some("the kernel is tainted".to_owned())
            } else {
                let told = status.livepatches.iter().find(|told| {
                    fresh
                        && told.result == GrantResult::Failed
                        && told.rollout == grant.rollout
                        && told.attempt == grant.attempt
                });
                told.map(|told| told.reason.clone())
            };
            let contained = status.livepatches.iter().any(|told| {
                told.result == GrantResult::Superseded && told.rollout == grant.rollout && told.attempt == grant.attempt
            });
            let loaded = status
                .loaded
                .iter()
                .any(|one| one.build_id == grant.module.build_id && one.enabled && !one.transition);
            let effective = fresh
                && machine.ready
                && status.kernel.build_id == grant.module.kernel_build_id
                && (loaded || contained);
            match (slot.effective.last_mut(), effective) {
                (Some((_, None)), true) | (Some((_, Some(_))) | None, false) => {}
                (Some((_, until @ None)), false) => *until = Some(now),
                (_, true) => slot.effective.push((now, None)),
            }
            if let Some(why) = failure {
                slot.failed.get_or_insert((now, why));
            }
        }
    }

    /// The slots of a set, with their nodes.
    pub fn of_set<'a>(&'a self, set_uid: &'a str) -> impl Iterator<Item = (&'a str, &'a Slot)> {
        self.all
            .iter()
            .filter(move |((_, set), _)| set == set_uid)
            .map(|((node, _), slot)| (node.as_str(), slot))
    }
}

/// Whether a taint that tells of trouble was gained.
pub(crate) fn gained(before: &str, now: &str) -> bool {
    ['D', 'W', 'L']
        .iter()
        .any(|taint| now.contains(*taint) && !before.contains(*taint))
}
