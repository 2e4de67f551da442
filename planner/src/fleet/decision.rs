//! What the operator should write next: plain data, carried out by the operator's apply and report stages.

use jiff::Timestamp;
use livepatch_crds::node::NodeLivepatchSpec;
use livepatch_crds::rollout::{LivepatchRolloutSpec, LivepatchRolloutStatus};
use livepatch_crds::set::LivepatchSetStatus;

/// Everything to be written, in the order in which it is to be written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decision {
    /// Rollouts to make, one for each revision that has none.
    pub new_rollouts: Vec<NewRollout>,
    /// Rollouts beyond the history that is kept, by name.
    pub expired_rollouts: Vec<String>,
    /// NodeLivepatches to make.
    pub new_node_objects: Vec<NewNodeObject>,
    /// NodeLivepatches of nodes that are gone or were made anew under their name.
    pub stale_node_objects: Vec<StaleNodeObject>,
    /// Specs of NodeLivepatches to change. Only these carry grants.
    pub node_changes: Vec<NodeChange>,
    /// Statuses of sets that changed, by name.
    pub set_statuses: Vec<(String, LivepatchSetStatus)>,
    /// Statuses of rollouts that changed, by name.
    pub rollout_statuses: Vec<(String, LivepatchRolloutStatus)>,
    /// Things worth an event.
    pub happenings: Vec<Happening>,
    /// When to decide again even if nothing is seen until then.
    pub wake_at: Option<Timestamp>,
}

/// A rollout to make.
#[derive(Clone, Debug, PartialEq)]
pub struct NewRollout {
    /// Its name.
    pub name: String,
    /// Name of its set, the owner.
    pub set: String,
    /// Its spec; `set_uid` is the owner's UID.
    pub spec: LivepatchRolloutSpec,
}

/// A NodeLivepatch to make. Its owner is the node.
#[derive(Clone, Debug, PartialEq)]
pub struct NewNodeObject {
    /// Name of the node and of the object.
    pub node: String,
    /// UID of the node is in it.
    pub spec: NodeLivepatchSpec,
}

/// A NodeLivepatch to delete; its UID and resourceVersion are the precondition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaleNodeObject {
    /// Name of the object.
    pub node: String,
    /// UID of the object.
    pub uid: String,
}

/// A change of a NodeLivepatch's spec.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeChange {
    /// Name of the node and of the object.
    pub node: String,
    /// The resourceVersion on which the decision rests: the precondition of the write.
    pub resource_version: String,
    /// The whole new spec.
    pub spec: NodeLivepatchSpec,
    /// How many of its entries are new grants.
    pub new_grants: usize,
}

/// Something worth an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Happening {
    /// What it happened to.
    pub regarding: Regarding,
    /// Whether a person should look at it.
    pub warning: bool,
    /// A reason code.
    pub reason: &'static str,
    /// One or two sentences.
    pub note: String,
}

/// What something happened to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Regarding {
    /// A LivepatchSet, by name.
    Set(String),
    /// A LivepatchRollout, by name.
    Rollout(String),
}
