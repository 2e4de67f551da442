//! What becomes of a grant on a node that its set selects no longer.

use super::snapshot::{Leave, NodeView, SetView};
use super::standing::report;
use livepatch_crds::node::{DesiredState, Grant, GrantResult};
use livepatch_crds::policy::RemovalPolicy;

/// Whether the entry stays. Without it the node leaves alone what is loaded; with the policy Unload it is turned into a
/// grant of absence, and goes when the agent has said that the livepatch is gone.
pub(super) fn keeps(grant: &mut Grant, set: &SetView, node: &NodeView, leave: &Leave) -> bool {
    if set.spec.removal_policy == RemovalPolicy::Retain {
        return false;
    }
    // Nothing is granted now, absence neither; what is there stays until something is.
    let Leave::Granted { epoch } = leave else { return true };
    if grant.state == DesiredState::Absent && is_gone(grant, node) {
        return false;
    }
    grant.state = DesiredState::Absent;
    grant.previous = None;
    grant.epoch.clone_from(epoch);
    true
}

fn is_gone(grant: &Grant, node: &NodeView) -> bool {
    report(node).is_some_and(|object| {
        object.status.livepatches.iter().any(|status| {
            status.set == grant.set.name && status.rollout == grant.rollout && status.result == GrantResult::Absent
        })
    })
}
