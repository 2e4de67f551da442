//! Grants that outlived the leadership under which they were given, and that nobody begins or gives again: they go, so that
//! nothing waits behind them on their nodes.

use super::course::Course;
use super::grants::Chosen;
use super::rollback;
use super::snapshot::{Leave, NodeObject, NodeView, SetView};
use super::standing::{Standing, grant_status, is_effective, report, set_grant};
use crate::node::EPOCH_STALE;
use livepatch_crds::node::{DesiredState, Grant, GrantResult};

/// What becomes of a grant.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Outlived<'a> {
    pub node: &'a str,
    /// What takes its place: what the set had in effect before, so that the next grant knows it.
    pub instead: Option<Grant>,
}

/// The grants of a set that go, apart from those in whose place another one was `chosen` just now.
pub(super) fn of<'a>(course: &Course<'a>, chosen: &[Chosen]) -> Vec<Outlived<'a>> {
    let Leave::Granted { epoch } = course.leave else {
        return Vec::new();
    };
    let gives_again = course.may_grant().is_some() && !course.progress.halted;
    let outlived = course.roster.outlived().filter_map(|(name, standing)| {
        // It is given again as soon as there is room.
        let waits = gives_again && *standing == Standing::InFlight;
        let is_chosen = || chosen.iter().any(|chosen| chosen.node == name);
        if waits || is_chosen() {
            return None;
        }
        let node = course.fleet.get(name)?;
        let (grant, object) = (set_grant(node, &course.set.uid)?, report(node)?);
        Some(Outlived {
            node: name,
            instead: former(course.set, node, object, grant, epoch),
        })
    });
    outlived.collect()
}

/// Whether the agent has said of this very spec that it does not begin with the set's grant, since its leadership is over.
/// Leaderships do not come back.
pub(super) fn is_outlived(node: &NodeView, set_uid: &str, leave: &Leave) -> bool {
    let (Leave::Granted { epoch }, Some(grant), Some(object)) = (leave, set_grant(node, set_uid), report(node)) else {
        return false;
    };
    node.ready
        && grant.epoch != *epoch
        && grant.state == DesiredState::Loaded
        && object.status.observed_generation >= object.generation
        && grant_status(object, grant)
            .is_some_and(|status| status.result == GrantResult::Pending && status.reason == EPOCH_STALE)
}

/// A grant of what was in effect before, and still is, so that it is carried out already. It is of no start of a rollout.
fn former(set: &SetView, node: &NodeView, object: &NodeObject, grant: &Grant, epoch: &str) -> Option<Grant> {
    let former = Grant {
        epoch: epoch.to_owned(),
        module: grant.previous.clone()?,
        previous: None,
        policy: rollback::policy(set, grant),
        boot_id: node.boot_id.clone(),
        kernel_taints: object.status.kernel_taints.clone(),
        start: 0,
        failed: None,
        back: true,
        ..grant.clone()
    };
    is_effective(object, &former).then_some(former)
}
