//! The storage: what a request does when it arrives.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::LeaseSpec;
use livepatch_crds::node::NodeLivepatchStatus;
use livepatch_crds::rollout::LivepatchRolloutStatus;
use livepatch_operator::watch::seen::{Content, NodeContent, NodeObjectContent, RolloutContent, Seen, SetContent};
use livepatch_operator::watch::world::Kind;

use super::ask::{Answer, Ask, Fault, Lease, NodePatch};
use super::store::Store;

/// Replicas of the API server, each with its own cache.
pub(crate) const REPLICAS: usize = 2;

/// Everything that is stored.
#[derive(Debug, Default)]
pub(crate) struct Server {
    pub sets: Store<SetContent>,
    pub rollouts: Store<RolloutContent>,
    pub objects: Store<NodeObjectContent>,
    pub nodes: Store<NodeContent>,
    pub lease: Option<Lease>,
    /// What each replica's cache has.
    pub replicas: [u64; REPLICAS],
    /// When the present request arrived.
    pub now: Duration,
    version: u64,
    made: u64,
}

/// Kinds that are stored and watched.
pub(crate) trait Stored: Content {
    const KIND: Kind;
    fn store(server: &Server) -> &Store<Self>;
    fn store_mut(server: &mut Server) -> &mut Store<Self>;
}

macro_rules! stored {
    ($content:ty, $kind:expr, $field:ident) => {
        impl Stored for $content {
            const KIND: Kind = $kind;
            fn store(server: &Server) -> &Store<Self> {
                &server.$field
            }
            fn store_mut(server: &mut Server) -> &mut Store<Self> {
                &mut server.$field
            }
        }
    };
}

stored!(SetContent, Kind::Set, sets);
stored!(RolloutContent, Kind::Rollout, rollouts);
stored!(NodeObjectContent, Kind::NodeObject, objects);
stored!(NodeContent, Kind::Node, nodes);

impl Server {
    pub fn version(&self) -> u64 {
        self.version
    }

    fn next_version(&mut self) -> u64 {
        self.version += 1;
        self.version
    }

    pub fn new_uid(&mut self, what: &str) -> String {
        self.made += 1;
        format!("{what}-uid-{}", self.made)
    }

    /// The place of a kind's watch that has seen what a replica has.
    pub fn place(&self, kind: Kind, replica: usize) -> usize {
        let version = self.replicas.get(replica).copied().unwrap_or(self.version);
        match kind {
            Kind::Set => self.sets.place_of(version),
            Kind::Rollout => self.rollouts.place_of(version),
            Kind::NodeObject => self.objects.place_of(version),
            Kind::Node => self.nodes.place_of(version),
        }
    }

    fn end(&self, kind: Kind) -> usize {
        match kind {
            Kind::Set => self.sets.end(),
            Kind::Rollout => self.rollouts.end(),
            Kind::NodeObject => self.objects.end(),
            Kind::Node => self.nodes.end(),
        }
    }

    /// Makes an object.
    pub fn make<T: Stored>(&mut self, name: &str, now: Timestamp, content: T) -> Result<Arc<Seen<T>>, Fault> {
        if T::store(self).get(name).is_some() {
            return Err(Fault::Exists);
        }
        let uid = self.new_uid(T::KIND.resource());
        let version = self.next_version();
        let object = Seen {
            name: name.to_owned(),
            uid,
            version,
            generation: 1,
            created: now,
            deleting: false,
            content: Ok(content),
        };
        let at = self.now;
        Ok(T::store_mut(self).put(object, at))
    }

    /// Changes an object. `new_spec`: whether that is a new generation.
    pub fn change<T: Stored + PartialEq>(
        &mut self,
        name: &str,
        version: Option<u64>,
        new_spec: bool,
        change: impl FnOnce(&mut T),
    ) -> Result<Arc<Seen<T>>, Fault> {
        let known = Arc::clone(T::store(self).get(name).ok_or(Fault::Gone)?);
        if version.is_some_and(|version| version != known.version) {
            return Err(Fault::Conflict);
        }
        let mut object = known.as_ref().clone();
        let Ok(content) = &mut object.content else {
            return Err(Fault::Refused);
        };
        change(content);
        if object.content == known.content {
            return Ok(known);
        }
        object.version = self.next_version();
        object.generation += i64::from(new_spec);
        let at = self.now;
        Ok(T::store_mut(self).put(object, at))
    }

    /// Makes what is stored of an object unreadable, or readable again: a field that no version of ours can have written.
    pub fn replace_content<T: Stored>(&mut self, name: &str, content: Result<T, String>) {
        if let Some(known) = T::store(self).get(name).cloned() {
            let mut object = known.as_ref().clone();
            object.content = content;
            object.version = self.next_version();
            let at = self.now;
            T::store_mut(self).put(object, at);
        }
    }

    /// Deletes an object.
    pub fn delete<T: Stored>(&mut self, name: &str, uid: Option<&str>) -> Result<(), Fault> {
        let known = T::store(self).get(name).ok_or(Fault::Gone)?;
        if uid.is_some_and(|uid| uid != known.uid) {
            return Err(Fault::Conflict);
        }
        let version = self.next_version();
        let at = self.now;
        T::store_mut(self).remove(name, version, at);
        Ok(())
    }

    /// Does what is asked.
    pub fn serve(&mut self, ask: &Ask, now: Timestamp) -> Answer {
        self.try_serve(ask, now).unwrap_or_else(Answer::Failed)
    }

    fn try_serve(&mut self, ask: &Ask, now: Timestamp) -> Result<Answer, Fault> {
        Ok(match ask {
            Ask::GetLease => Answer::Lease(self.lease.clone()),
            Ask::CreateLease(spec) => self.create_lease(spec)?,
            Ask::ReplaceLease { version, spec } => self.replace_lease(*version, spec)?,
            Ask::List { kind, replica } => Answer::Listed {
                place: match replica {
                    Some(replica) => self.place(*kind, *replica),
                    None => self.end(*kind),
                },
            },
            Ask::MakeRollout { name, set, spec } => Answer::Rollout(self.make(
                name,
                now,
                RolloutContent {
                    set: set.clone(),
                    spec: spec.as_ref().clone(),
                    status: LivepatchRolloutStatus::default(),
                },
            )?),
            Ask::DeleteRollout { name, uid } => {
                self.delete::<RolloutContent>(name, Some(uid))?;
                Answer::Deleted
            }
            Ask::MakeNodeObject { node, spec } => Answer::NodeObject(Some(self.make(
                node,
                now,
                NodeObjectContent {
                    spec: spec.as_ref().clone(),
                    status: NodeLivepatchStatus::default(),
                },
            )?)),
            Ask::DeleteNodeObject { node, uid } => {
                self.delete::<NodeObjectContent>(node, uid.as_deref())?;
                Answer::Deleted
            }
            Ask::ChangeNode(patch) => Answer::NodeObject(Some(self.change_node(patch)?)),
            Ask::SetStatus {
                name, version, status, ..
            } => Answer::Set(
                self.change::<SetContent>(name, *version, false, |set| set.status = status.as_ref().clone())?,
            ),
            Ask::RolloutStatus {
                name, version, status, ..
            } => Answer::Rollout(self.change::<RolloutContent>(name, *version, false, |rollout| {
                rollout.status = status.as_ref().clone();
            })?),
            Ask::GetNodeObject { node } => Answer::NodeObject(self.objects.get(node).cloned()),
            Ask::ListNodeObject { node, replica } => {
                let place = self.place(Kind::NodeObject, *replica);
                Answer::NodeObjectFrom {
                    object: self.objects.one_as_of(node, place).cloned(),
                    place,
                }
            }
            Ask::AgentStatus { node, uid, status } => {
                if self.objects.get(node).is_some_and(|object| object.uid != *uid) {
                    return Err(Fault::Conflict);
                }
                Answer::NodeObject(Some(self.change::<NodeObjectContent>(node, None, false, |object| {
                    object.status = status.as_ref().clone();
                })?))
            }
        })
    }

    fn change_node(&mut self, patch: &NodePatch) -> Result<Arc<Seen<NodeObjectContent>>, Fault> {
        if self
            .objects
            .get(&patch.node)
            .is_some_and(|object| object.uid != patch.uid)
        {
            return Err(Fault::Conflict);
        }
        self.change::<NodeObjectContent>(&patch.node, patch.version, true, |object| {
            object.spec = patch.spec.clone();
        })
    }

    fn create_lease(&mut self, spec: &LeaseSpec) -> Result<Answer, Fault> {
        if self.lease.is_some() {
            return Err(Fault::Exists);
        }
        let lease = Lease {
            uid: self.new_uid("lease"),
            version: self.next_version(),
            spec: spec.clone(),
        };
        self.lease = Some(lease.clone());
        Ok(Answer::Lease(Some(lease)))
    }

    fn replace_lease(&mut self, version: u64, spec: &LeaseSpec) -> Result<Answer, Fault> {
        let next = self.version + 1;
        let lease = self.lease.as_mut().ok_or(Fault::Gone)?;
        if lease.version != version {
            return Err(Fault::Conflict);
        }
        lease.spec = spec.clone();
        lease.version = next;
        let lease = lease.clone();
        self.version = next;
        Ok(Answer::Lease(Some(lease)))
    }
}
