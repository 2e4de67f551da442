//! Which slot a node holds: budgets count grants, not what nodes report.

use super::snapshot::{Leave, NodeView};
use super::standing::{Standing, Yardstick, is_carried_out, is_unresolved, report, set_grant};
use livepatch_crds::node::Grant;

/// The slot that a node holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holds {
    /// None.
    Nothing,
    /// One of this rollout.
    Slot,
    /// The same, by a grant of a former leadership: no agent begins with it before it is given again.
    SlotOfFormerLeader,
    /// One by a grant that came to no end and is none of this rollout: of a former revision, or of a node that is counted
    /// otherwise. It is handed on with the next grant.
    SlotOfFormerGrant {
        /// Whether the grant is of the present leadership.
        current: bool,
    },
}

impl Holds {
    /// Of a node that stands so. `leave` tells which leadership is the present one.
    pub fn of(node: &NodeView, standing: &Standing, leaving: bool, leave: &Leave, by: &Yardstick<'_>) -> Self {
        let grant = set_grant(node, by.set_uid);
        match standing {
            Standing::Settled => Self::Nothing,
            Standing::InFlight if grant.is_some_and(|grant| !leaving && is_to_renew(node, grant, leave, by)) => {
                Self::SlotOfFormerLeader
            }
            Standing::InFlight => Self::Slot,
            Standing::Failed { .. } if cannot_begin(node, grant, leave) => Self::Nothing,
            _ if holds_former_grant(node, by.set_uid) => Self::SlotOfFormerGrant {
                current: grant.is_some_and(|grant| is_current(grant, leave)),
            },
            _ => Self::Nothing,
        }
    }
}

/// Whether a grant on a node came to no end yet, whichever rollout gave it.
pub(super) fn holds_former_grant(node: &NodeView, set_uid: &str) -> bool {
    set_grant(node, set_uid)
        .zip(report(node))
        .is_some_and(|(grant, object)| is_unresolved(object, grant))
}

/// Whether a grant of a node in flight came to no end under a former leader, and is to be given again by this one.
fn is_to_renew(node: &NodeView, grant: &Grant, leave: &Leave, by: &Yardstick<'_>) -> bool {
    matches!(leave, Leave::Granted { epoch } if *epoch != grant.epoch)
        && by.rollout.is_some_and(|rollout| rollout.name == grant.rollout)
        && report(node).is_none_or(|object| !is_carried_out(object, grant))
}

/// Whether the agent of a failed node will not begin: the node is gone, which must not hold a slot for ever, or its grant
/// is of a former leadership.
fn cannot_begin(node: &NodeView, grant: Option<&Grant>, leave: &Leave) -> bool {
    !node.ready || grant.is_some_and(|grant| !is_current(grant, leave))
}

fn is_current(grant: &Grant, leave: &Leave) -> bool {
    matches!(leave, Leave::Granted { epoch } if *epoch == grant.epoch)
}
