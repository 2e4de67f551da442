//! What an operator must have known when it wrote, whether it still led, and what an agent was told before it loaded. Judged
//! by what was answered and stored, not by what they remember of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use livepatch_crds::node::Grant;
use livepatch_operator::lease::evaluate::Timing;
use livepatch_operator::watch::seen::{NodeObjectContent, Seen};

use super::Checks;
use crate::api::ask::{Answer, Ask, Basis, Fault, Lease, NodePatch};
use crate::api::server::Server;
use crate::api::store::Store;
use crate::ctx::Ctx;
use crate::event::Caller;
use crate::seam::Act;

type Process = (usize, u32);

/// What was told to whom.
#[derive(Debug, Default)]
pub(super) struct Knowledge {
    /// The last version of each node's object that an operator's process was told of in an answer, and when.
    heard: BTreeMap<(Process, String), Heard>,
    /// Writes of which a process does not know whether they happened: since when, and under which epoch they were sent.
    unknown: BTreeMap<(Process, String), (Duration, String)>,
    /// When the request was sent with which each epoch began.
    began: BTreeMap<String, Duration>,
    /// When the lease was stored under each epoch.
    renewed: BTreeMap<String, Vec<Duration>>,
    /// What each agent's process was told when it looked right before a load: its object, and the epoch.
    looks: BTreeMap<Process, Look>,
}

/// A version of a node's object, and when it was told.
#[derive(Debug)]
struct Heard {
    object: Arc<Seen<NodeObjectContent>>,
    at: Duration,
}

#[derive(Debug, Default)]
struct Look {
    object: Option<Arc<Seen<NodeObjectContent>>>,
    epoch: Option<String>,
}

impl Knowledge {
    pub(super) fn renewed(&mut self, epoch: &str, sent: Duration, now: Duration) {
        self.began.entry(epoch.to_owned()).or_insert(sent);
        self.renewed.entry(epoch.to_owned()).or_default().push(now);
    }

    /// What an operator's process makes of an answer.
    fn operator_told(&mut self, process: Process, ask: &Ask, answer: &Answer, now: Duration) {
        let Some(node) = node_of(ask) else { return };
        let key = (process, node.to_owned());
        match (answer, ask) {
            (Answer::NodeObject(Some(object)), _) => {
                self.unknown.remove(&key);
                let known = self.heard.get(&key);
                if known.is_none_or(|known| known.object.version <= object.version) {
                    let object = Arc::clone(object);
                    self.heard.insert(key, Heard { object, at: now });
                }
            }
            (Answer::NodeObject(None) | Answer::Failed(Fault::Gone), _) => _ = self.unknown.remove(&key),
            (Answer::Failed(Fault::Unknown), Ask::ChangeNode(patch)) => {
                let since = (now, patch.basis.epoch.clone());
                self.unknown.entry(key).or_insert(since);
            }
            _ => {}
        }
    }

    /// Whether the holder of `epoch` may have thought at `moment` that it leads: it renews, and acts no longer than that
    /// lasts.
    fn leads(&self, epoch: &str, moment: Duration) -> bool {
        let renewed = self.renewed.get(epoch).map_or(&[][..], Vec::as_slice);
        let before = renewed.partition_point(|at| *at <= moment);
        let last = before.checked_sub(1).and_then(|last| renewed.get(last));
        last.is_some_and(|last| moment <= *last + Timing::default().deadline)
    }
}

impl Checks {
    /// An answer reaches who asked. Only the first one counts: a timeout is one.
    pub fn told(&mut self, ctx: &mut Ctx, caller: Caller, id: u64, answer: &Answer) {
        let Some(ask) = ctx.open.remove(&id) else { return };
        match caller {
            Caller::Turn { operator, life } => {
                let now = ctx.clock.now;
                self.knowledge.operator_told((operator, life), &ask, answer, now);
            }
            Caller::Agent { machine, life } => {
                let look = self.knowledge.looks.entry((machine, life)).or_default();
                match answer {
                    Answer::NodeObject(object) => look.object.clone_from(object),
                    Answer::Lease(lease) => look.epoch = lease.as_ref().map(Lease::epoch),
                    _ => {}
                }
            }
            Caller::Keeper { .. } | Caller::List { .. } | Caller::AgentList { .. } => {}
        }
    }

    /// A request of an operator arrives that was sent at `sent`.
    pub fn arrives(&mut self, server: &Server, ask: &Ask, sent: Duration) {
        let basis = match ask {
            Ask::ChangeNode(patch) => &patch.basis,
            Ask::SetStatus { basis, .. } | Ask::RolloutStatus { basis, .. } => basis,
            _ => return,
        };
        if !self.knowledge.leads(&basis.epoch, sent) {
            self.violated("F8", || {
                format!(
                    "{} is sent under epoch {} after the term was over",
                    ask.name(),
                    basis.epoch
                )
            });
        }
        if let Ask::ChangeNode(patch) = ask {
            if patch.new_grants > 0 {
                self.knows_what_was_there(server, patch);
            }
            self.goes_by_what_it_knows(server, patch);
        }
    }

    /// The version that a writer knew when it decided: what its watch had shown, or what its own writes had returned.
    fn known(&self, server: &Server, patch: &NodePatch) -> Option<Arc<Seen<NodeObjectContent>>> {
        let basis = &patch.basis;
        let is_same = |object: &&Arc<Seen<NodeObjectContent>>| object.uid == patch.uid;
        let shown = server.objects.one_as_of(&patch.node, basis.places[2]).filter(is_same);
        let key = (process_of(basis), patch.node.clone());
        let heard = self.knowledge.heard.get(&key);
        let heard = heard.filter(|heard| heard.at <= basis.at).map(|heard| &heard.object);
        let known = [shown, heard.filter(is_same)].into_iter().flatten();
        known.max_by_key(|object| object.version).cloned()
    }

    /// Nothing is granted before all is known that was there when the term began.
    fn knows_what_was_there(&mut self, server: &Server, patch: &NodePatch) {
        let Basis { epoch, places, .. } = &patch.basis;
        let [sets, rollouts, objects, nodes] = *places;
        let unseen = [
            first_at(&server.sets, sets),
            first_at(&server.rollouts, rollouts),
            first_at(&server.objects, objects),
            first_at(&server.nodes, nodes),
        ];
        let Some(began) = self.knowledge.began.get(epoch).copied() else {
            return;
        };
        if let Some(at) = unseen.into_iter().flatten().find(|at| *at < began) {
            self.violated("F3", || {
                format!(
                    "{} is granted by who has not seen what was there at {at:?}, and leads since {began:?}",
                    patch.node
                )
            });
        }
    }

    fn goes_by_what_it_knows(&mut self, server: &Server, patch: &NodePatch) {
        let node = &patch.node;
        let Some(known) = self.known(server, patch) else { return };
        if patch.version.is_some_and(|version| version < known.version) {
            self.violated("F1", || {
                format!(
                    "{node} is written by version {:?}, and the writer knew of {}",
                    patch.version, known.version
                )
            });
        }
        let stored = server.objects.get(node).filter(|stored| stored.uid == patch.uid);
        let spec = |object: &Seen<NodeObjectContent>| object.content.as_ref().ok().map(|content| content.spec.clone());
        let accepted = stored.is_some_and(|stored| patch.version.is_none_or(|version| version == stored.version));
        if let Some(stored) = stored.filter(|stored| accepted && stored.version > known.version)
            && spec(stored) != spec(&known)
        {
            self.violated("F4", || {
                format!(
                    "{node}: what came after version {} is written over unseen",
                    known.version
                )
            });
        }
        let process = process_of(&patch.basis);
        let (at, epoch) = (patch.basis.at, &patch.basis.epoch);
        let mut unknown = self.knowledge.unknown.iter();
        let unknown = unknown
            .find(|((by, other), (since, under))| *by == process && other != node && *since < at && under == epoch);
        if let Some(((_, other), _)) = unknown.filter(|_| patch.new_grants > 0) {
            let other = other.clone();
            self.violated("F2", || {
                format!("{node} is granted while the writer does not know what became of its write of {other}")
            });
        }
    }

    /// Nothing is taken away for a set that is there and cannot be read.
    pub(super) fn unreadable_stay(&mut self, server: &Server, patch: &NodePatch, before: &[Grant]) {
        let is_gone = |grant: &&Grant| !patch.spec.livepatches.iter().any(|new| new.set.uid == grant.set.uid);
        for grant in before.iter().filter(is_gone) {
            let set = server.sets.one_as_of(&grant.set.name, patch.basis.places[0]);
            if set.is_some_and(|set| set.uid == grant.set.uid && set.content.is_err()) {
                let (node, set) = (&patch.node, &grant.set.name);
                self.violated("F10", || {
                    format!("{node}: the grant of {set} is taken away, which cannot be read")
                });
            }
        }
    }

    /// A new load follows a look that allowed it.
    pub(super) fn was_allowed(&mut self, machine: usize, life: u32, node: &str, act: &Act) {
        let Some(look) = self.knowledge.looks.get(&(machine, life)) else {
            return self.violated("R3", || format!("{node}: {} is loaded without any look", act.module));
        };
        let spec = look
            .object
            .as_ref()
            .and_then(|object| Some(&object.content.as_ref().ok()?.spec));
        let held = spec.is_some_and(|spec| !spec.hold.is_empty());
        let mut grants = spec.map_or(&[][..], |spec| &spec.livepatches).iter();
        let epoch = look.epoch.clone();
        let granted = grants.any(|grant| grant.module.name == act.module && Some(&grant.epoch) == epoch.as_ref());
        if held {
            self.violated("R18", || {
                format!(
                    "{node}: {} is loaded although the last look said that the node is held",
                    act.module
                )
            });
        } else if !granted {
            self.violated("R3", || {
                format!(
                    "{node}: {} is loaded, and the last look said that it is not granted",
                    act.module
                )
            });
        }
    }
}

/// When the first change was stored that somebody has not seen who has seen a history up to a place.
fn first_at<T: Clone>(store: &Store<T>, place: usize) -> Option<Duration> {
    store.between(place, place + 1).first().map(|record| record.at)
}

fn node_of(ask: &Ask) -> Option<&str> {
    match ask {
        Ask::ChangeNode(patch) => Some(&patch.node),
        Ask::GetNodeObject { node } => Some(node),
        _ => None,
    }
}

fn process_of(basis: &Basis) -> Process {
    (basis.operator, basis.life)
}
