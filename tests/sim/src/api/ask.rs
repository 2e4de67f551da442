//! What clients ask of the API server, and what it answers.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::LeaseSpec;
use livepatch_crds::node::{NodeLivepatchSpec, NodeLivepatchStatus};
use livepatch_crds::rollout::{LivepatchRolloutSpec, LivepatchRolloutStatus};
use livepatch_crds::set::LivepatchSetStatus;
use livepatch_operator::watch::seen::{NodeObjectContent, RolloutContent, Seen, SetContent};
use livepatch_operator::watch::world::Kind;

/// A request.
#[derive(Clone, Debug)]
pub(crate) enum Ask {
    GetLease,
    CreateLease(LeaseSpec),
    ReplaceLease {
        version: u64,
        spec: LeaseSpec,
    },
    /// Everything of a kind: from the storage, or from what a replica has cached.
    List {
        kind: Kind,
        replica: Option<usize>,
    },
    MakeRollout {
        name: String,
        set: String,
        spec: Box<LivepatchRolloutSpec>,
    },
    DeleteRollout {
        name: String,
        uid: String,
    },
    MakeNodeObject {
        node: String,
        spec: Box<NodeLivepatchSpec>,
    },
    DeleteNodeObject {
        node: String,
        uid: Option<String>,
    },
    ChangeNode(Box<NodePatch>),
    SetStatus {
        basis: Basis,
        name: String,
        version: Option<u64>,
        status: Box<LivepatchSetStatus>,
    },
    RolloutStatus {
        basis: Basis,
        name: String,
        version: Option<u64>,
        status: Box<LivepatchRolloutStatus>,
    },
    GetNodeObject {
        node: String,
    },
    /// A node's object from a replica's cache, and the place of the watch that begins there.
    ListNodeObject {
        node: String,
        replica: usize,
    },
    AgentStatus {
        node: String,
        uid: String,
        status: Box<NodeLivepatchStatus>,
    },
}

/// A change of a NodeLivepatch's spec.
#[derive(Clone, Debug)]
pub(crate) struct NodePatch {
    pub node: String,
    pub uid: String,
    /// The precondition.
    pub version: Option<u64>,
    pub spec: NodeLivepatchSpec,
    pub new_grants: usize,
    /// What the writer went by, for those who check it.
    pub basis: Basis,
}

/// What a decision of an operator went by.
#[derive(Clone, Debug)]
pub(crate) struct Basis {
    pub operator: usize,
    pub life: u32,
    pub epoch: String,
    pub at: Duration,
    /// How much of the history of each kind it had seen: sets, rollouts, node objects, nodes.
    pub places: [usize; 4],
}

impl Ask {
    /// A word for traces.
    pub fn name(&self) -> &'static str {
        match self {
            Self::GetLease => "get lease",
            Self::CreateLease(_) => "create lease",
            Self::ReplaceLease { .. } => "replace lease",
            Self::List { .. } => "list",
            Self::MakeRollout { .. } => "create rollout",
            Self::DeleteRollout { .. } => "delete rollout",
            Self::MakeNodeObject { .. } => "create node object",
            Self::DeleteNodeObject { .. } => "delete node object",
            Self::ChangeNode { .. } => "patch node object",
            Self::SetStatus { .. } => "patch set status",
            Self::RolloutStatus { .. } => "patch rollout status",
            Self::GetNodeObject { .. } => "get node object",
            Self::ListNodeObject { .. } => "list node object",
            Self::AgentStatus { .. } => "patch node status",
        }
    }

    pub fn is_write(&self) -> bool {
        !matches!(
            self,
            Self::GetLease | Self::List { .. } | Self::GetNodeObject { .. } | Self::ListNodeObject { .. }
        )
    }

    /// Whether it is about the lease: those writes go on for ever.
    pub fn is_lease(&self) -> bool {
        matches!(self, Self::GetLease | Self::CreateLease(_) | Self::ReplaceLease { .. })
    }
}

/// An answer.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    Lease(Option<Lease>),
    /// A list, as the place in the history at which it was taken.
    Listed {
        place: usize,
    },
    Set(Arc<Seen<SetContent>>),
    Rollout(Arc<Seen<RolloutContent>>),
    NodeObject(Option<Arc<Seen<NodeObjectContent>>>),
    /// A node's object from a cache, with the place of the watch.
    NodeObjectFrom {
        object: Option<Arc<Seen<NodeObjectContent>>>,
        place: usize,
    },
    Deleted,
    Failed(Fault),
}

/// Why a request did not do what it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// 409 for a precondition.
    Conflict,
    /// 409 on create.
    Exists,
    /// 404.
    Gone,
    /// 429.
    Throttled,
    /// 403 or 422.
    Refused,
    /// No answer, or 5xx: it may have happened.
    Unknown,
}

/// The Lease.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Lease {
    pub uid: String,
    pub version: u64,
    pub spec: LeaseSpec,
}

impl Lease {
    /// As grants spell it.
    pub fn epoch(&self) -> String {
        format!("{}/{}", self.uid, self.spec.lease_transitions.unwrap_or(0))
    }
}
