//! What of a node's object is looked at: little, since a fleet has many. No IO.

use livepatch_crds::NodeLivepatch;
use livepatch_crds::node::{Blocker, GrantResult, KernelIdentity};

/// A node with at least one grant, or one that is held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeGist {
    pub name: String,
    pub kernel: KernelIdentity,
    /// Why nothing may be changed there; empty if it may.
    pub hold: String,
    pub grants: Vec<GrantGist>,
}

/// A grant, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrantGist {
    pub rollout: String,
    pub wave: String,
    pub attempt: i32,
    /// Nothing yet, if the agent has not reported on it.
    pub outcome: Option<Outcome>,
}

/// What an agent says of a grant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub result: GrantResult,
    pub reason: String,
    pub message: String,
    pub blockers: Vec<Blocker>,
}

impl NodeGist {
    /// Of an object; nothing if there is nothing to tell.
    pub fn of(object: NodeLivepatch) -> Option<Self> {
        let name = object.metadata.name?;
        let spec = object.spec;
        if spec.livepatches.is_empty() && spec.hold.is_empty() {
            return None;
        }
        let status = object.status.unwrap_or_default();
        let grants = spec.livepatches.into_iter().map(|grant| {
            let of_grant = status
                .livepatches
                .iter()
                .find(|of| of.set == grant.set.name && of.rollout == grant.rollout && of.attempt == grant.attempt);
            GrantGist {
                outcome: of_grant.map(|of| Outcome {
                    result: of.result,
                    reason: of.reason.clone(),
                    message: of.message.clone(),
                    blockers: of.blockers.clone(),
                }),
                rollout: grant.rollout,
                wave: grant.wave,
                attempt: grant.attempt,
            }
        });
        Some(Self {
            name,
            grants: grants.collect(),
            kernel: status.kernel,
            hold: spec.hold,
        })
    }
}
