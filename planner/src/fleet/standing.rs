//! Where one node stands with one rollout.

use super::snapshot::{BundleView, GrantKey, Leave, ModuleView, NodeObject, NodeView, RolloutView};
use super::{reasons, rollback};
use jiff::{SignedDuration, Timestamp};
use livepatch_crds::SKIP_LABEL;
use livepatch_crds::node::{DesiredState, Grant, GrantResult, GrantStatus, KernelIdentity};
use livepatch_crds::rollout::Failure;
use livepatch_crds::set::Counts;

/// Where a node stands. The states partition the selected nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It waits for a grant.
    Pending,
    /// It has a grant and has not settled.
    InFlight,
    /// The livepatch is effective, and the node was healthy for minReadySeconds since.
    Settled,
    /// It has a grant and failed, or was lost.
    Failed {
        /// A reason code: the agent's or one of [`reasons`].
        reason: String,
        /// What happened.
        message: String,
    },
    /// The revision has no module for its kernel.
    NotApplicable,
    /// It has no grant and cannot be reached.
    Unreachable,
    /// A person holds it.
    Held,
    /// Its agent has not reported on this boot.
    Unknown,
    /// A person left it out of this rollout.
    Excluded,
    /// The rollout was rolled back, and it runs what it ran before.
    RolledBack,
}

/// Counts so many nodes more where they stand, or less.
pub(super) fn tally(counts: &mut Counts, standing: &Standing, nodes: i32) {
    counts.selected += nodes;
    *match standing {
        Standing::Pending => &mut counts.pending,
        Standing::InFlight => &mut counts.in_flight,
        Standing::Settled => &mut counts.settled,
        Standing::Failed { .. } => &mut counts.failed,
        Standing::NotApplicable => &mut counts.not_applicable,
        Standing::Unreachable => &mut counts.unreachable,
        Standing::Held => &mut counts.held,
        Standing::Unknown => &mut counts.unknown,
        Standing::Excluded => &mut counts.excluded,
        Standing::RolledBack => &mut counts.rolled_back,
    } += nodes;
}

/// What all nodes of a rollout are judged by.
#[derive(Clone, Copy, Debug)]
pub struct Yardstick<'a> {
    /// UID of the set.
    pub set_uid: &'a str,
    /// The rollout; `None` if it has not been made yet.
    pub rollout: Option<&'a RolloutView>,
    /// Which start of it this is.
    pub start: i64,
    /// What is known of the artefact.
    pub bundle: &'a BundleView,
    /// How long a node must be healthy after the livepatch took effect.
    pub min_ready: SignedDuration,
    /// The time.
    pub now: Timestamp,
}

impl Yardstick<'_> {
    fn is_going_back(&self) -> bool {
        self.rollout.is_some_and(rollback::is_on)
    }
}

/// Where `node`, whose name is `name`, stands. `wave_passed` tells whether the wave in which it was granted is over: from
/// then on a reboot is only a reboot.
///
/// A node that is left out counts as nothing else, unless it failed: leaving it out afterwards undoes no halt.
pub fn standing(name: &str, node: &NodeView, wave_passed: bool, by: &Yardstick<'_>) -> Standing {
    let excluded = by.rollout.is_some_and(|rollout| rollout.control.excludes(name));
    match included(name, node, wave_passed, by) {
        Standing::Failed { reason, message } => Standing::Failed { reason, message },
        _ if excluded => Standing::Excluded,
        standing => standing,
    }
}

/// Where a node stands that is not left out.
fn included(name: &str, node: &NodeView, wave_passed: bool, by: &Yardstick<'_>) -> Standing {
    if by.is_going_back() {
        return rollback::standing(name, node, by);
    }
    let grant = current_grant(node, by).filter(|grant| !is_given_up(name, grant, by));
    let latched = match grant {
        Some(grant) => latched_failure(name, node, grant, by),
        None => listed(name, by),
    };
    if let Some(failure) = latched {
        return failure;
    }
    if !node.ready {
        return match grant {
            Some(_) if !wave_passed => failed(reasons::NODE_LOST, "the node is not ready or cannot be reached"),
            _ => Standing::Unreachable,
        };
    }
    let Some(object) = report(node) else {
        return match grant {
            Some(grant) if !wave_passed && rebooted(node, grant) => reboot_failure(),
            Some(_) => Standing::InFlight,
            None => Standing::Unknown,
        };
    };
    match grant {
        Some(grant) => granted(node, object, grant, wave_passed, by),
        None => ungranted(node, object, by),
    }
}

/// A node that holds a grant of this rollout.
fn granted(node: &NodeView, object: &NodeObject, grant: &Grant, wave_passed: bool, by: &Yardstick<'_>) -> Standing {
    if !wave_passed {
        if rebooted(node, grant) {
            return reboot_failure();
        }
        let gained = gained_taints(&grant.kernel_taints, &object.status.kernel_taints);
        if !gained.is_empty() {
            return failed(
                reasons::KERNEL_TAINTED,
                &format!("the kernel gained the taint {gained} after the grant"),
            );
        }
    }
    if is_void(object, grant) {
        return ungranted(node, object, by);
    }
    if is_effective(object, grant) {
        let since = node.effective_since(grant);
        let settled = since.is_some_and(|since| by.now.duration_since(since) >= by.min_ready);
        return if settled { Standing::Settled } else { Standing::InFlight };
    }
    match grant_status(object, grant) {
        Some(status) if status.result == GrantResult::Failed && is_former_attempt(grant, by) => {
            ungranted(node, object, by)
        }
        Some(status) if status.result == GrantResult::Failed => failed(&status.reason, &status.message),
        _ => Standing::InFlight,
    }
}

/// A node without a grant of this rollout. What it runs already counts only if nothing else is asked of it: with a grant
/// of another revision its agent may be about to take that away.
fn ungranted(node: &NodeView, object: &NodeObject, by: &Yardstick<'_>) -> Standing {
    let grant = set_grant(node, by.set_uid).filter(|grant| !is_void(object, grant));
    let asks_otherwise = |module: &ModuleView| {
        grant.is_some_and(|grant| (grant.state, &grant.module.sha256) != (DesiredState::Loaded, &module.sha256))
    };
    match coverage(by.bundle, &object.status.kernel) {
        Coverage::Covered(module) if is_loaded(object, &module.build_id) && !asks_otherwise(module) => {
            Standing::Settled
        }
        Coverage::Covered(_) | Coverage::Unread if is_held(node, object) => Standing::Held,
        Coverage::Covered(_) | Coverage::Unread => Standing::Pending,
        Coverage::NotCovered => Standing::NotApplicable,
    }
}

/// Whether an artefact has a module for a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coverage<'a> {
    /// It has this one.
    Covered(&'a ModuleView),
    /// It has none.
    NotCovered,
    /// The artefact has not been read.
    Unread,
}

/// The module of an artefact for a kernel: one that names the kernel's build id before one that does not.
pub fn coverage<'a>(bundle: &'a BundleView, kernel: &KernelIdentity) -> Coverage<'a> {
    let BundleView::Read(modules) = bundle else {
        return Coverage::Unread;
    };
    let fits = |module: &&ModuleView| {
        module.kernel_release == kernel.release
            && module.architecture == kernel.architecture
            && module.kernel_build_id.as_ref().is_none_or(|id| *id == kernel.build_id)
    };
    modules
        .iter()
        .filter(fits)
        .max_by_key(|module| module.kernel_build_id.is_some())
        .map_or(Coverage::NotCovered, Coverage::Covered)
}

/// The grant of this rollout, in this start of it, on a node, if there. One that arrived late is none: its slot may have
/// been given to another node meanwhile.
pub fn current_grant<'a>(node: &'a NodeView, by: &Yardstick<'_>) -> Option<&'a Grant> {
    let grant = set_grant(node, by.set_uid).filter(|_| !node.late.contains(by.set_uid))?;
    by.rollout
        .is_some_and(|rollout| rollout.name == grant.rollout && by.start == grant.start)
        .then_some(grant)
}

/// The grant of a set on a node, whatever its revision, if there.
pub fn set_grant<'a>(node: &'a NodeView, set_uid: &str) -> Option<&'a Grant> {
    own_object(node)?
        .spec
        .livepatches
        .iter()
        .find(|grant| grant.set.uid == set_uid)
}

/// The node's object, if it is of this node and not of one that had the same name.
pub fn own_object(node: &NodeView) -> Option<&NodeObject> {
    node.object
        .as_ref()
        .filter(|object| object.spec.node_uid == node.uid && !object.deleting)
}

/// The node's object, if its agent has reported on the boot that the node is in.
pub fn report(node: &NodeView) -> Option<&NodeObject> {
    own_object(node).filter(|object| !object.status.boot_id.is_empty() && object.status.boot_id == node.boot_id)
}

/// Whether the kernel runs the module of `grant`, or a cumulative one that contains it, on the kernel for which it was
/// granted, as the agent reports.
pub fn is_effective(object: &NodeObject, grant: &Grant) -> bool {
    let superseded = || grant_status(object, grant).is_some_and(|status| status.result == GrantResult::Superseded);
    object.status.kernel.build_id == grant.module.kernel_build_id
        && (is_loaded(object, &grant.module.build_id) || superseded())
}

/// Whether what a grant asks for is so, as the agent reports.
pub fn is_carried_out(object: &NodeObject, grant: &Grant) -> bool {
    match grant.state {
        DesiredState::Loaded => is_effective(object, grant),
        DesiredState::Absent => grant_status(object, grant).is_some_and(|status| status.result == GrantResult::Absent),
    }
}

/// What tells a grant from the others of its node.
pub fn key(grant: &Grant) -> GrantKey {
    (grant.rollout.clone(), grant.attempt, grant.back)
}

/// Whether the node runs another kernel than the one for which it was granted: the grant is for nothing then.
pub(super) fn is_void(object: &NodeObject, grant: &Grant) -> bool {
    let build_id = &object.status.kernel.build_id;
    !build_id.is_empty() && *build_id != grant.module.kernel_build_id
}

/// Whether a node that a set selects no longer has a grant of it that has not ended: it holds its slot until then.
///
/// A grant of a former leadership that was not begun has ended: no agent begins with it.
pub fn is_leaving(node: &NodeView, set_uid: &str, leave: &Leave) -> bool {
    let Some(grant) =
        set_grant(node, set_uid).filter(|grant| grant.failed.is_none() && grant.state == DesiredState::Loaded)
    else {
        return false;
    };
    let Some(object) = report(node) else {
        return true;
    };
    let begun = grant_status(object, grant).is_some_and(|status| status.result != GrantResult::Pending);
    let outdated = matches!(leave, Leave::Granted { epoch } if *epoch != grant.epoch);
    is_unresolved(object, grant) && (begun || !outdated)
}

/// Whether a grant on a reporting node has come to no end yet. One of absence holds nothing up.
pub fn is_unresolved(object: &NodeObject, grant: &Grant) -> bool {
    grant.state == DesiredState::Loaded
        && !is_void(object, grant)
        && !is_effective(object, grant)
        && grant_status(object, grant).is_none_or(|status| status.result != GrantResult::Failed)
}

/// Whether a person's label says that nothing may be begun on the node.
pub(super) fn is_skipped(node: &NodeView) -> bool {
    node.labels.get(SKIP_LABEL).is_some_and(|value| value == "true")
}

/// Whether nothing may be begun on the node: its object says so, or will once it has been written anew.
pub(super) fn is_held(node: &NodeView, object: &NodeObject) -> bool {
    !object.spec.hold.is_empty() || is_skipped(node)
}

fn is_loaded(object: &NodeObject, build_id: &str) -> bool {
    !build_id.is_empty()
        && object
            .status
            .loaded
            .iter()
            .any(|loaded| loaded.build_id == build_id && loaded.enabled && !loaded.transition)
}

/// What the agent says of a grant. One to go back has the rollout and the attempt of the one before it, so it is asked
/// only what was said since it was given.
pub(super) fn grant_status<'a>(object: &'a NodeObject, grant: &Grant) -> Option<&'a GrantStatus> {
    let is_recent = !grant.back || object.status.observed_generation >= object.generation;
    let statuses = object.status.livepatches.iter().filter(|_| is_recent);
    statuses.into_iter().find(|status| {
        status.set == grant.set.name && status.rollout == grant.rollout && status.attempt == grant.attempt
    })
}

/// Whether a person asked for another attempt since the grant was given.
pub(super) fn is_former_attempt(grant: &Grant, by: &Yardstick<'_>) -> bool {
    by.rollout
        .is_some_and(|rollout| rollout.control.attempt > grant.attempt)
}

/// Whether a grant failed in a former attempt: the node may be granted anew.
pub(super) fn is_given_up(name: &str, grant: &Grant, by: &Yardstick<'_>) -> bool {
    is_former_attempt(grant, by)
        && (grant.failed.is_some() || listed_failure(name, grant.attempt, grant.back, by).is_some())
}

/// A failure stays one, whatever the node looks like later, until a person raises the attempt.
///
/// Between the mark on the grant and the list in the rollout's status only the agent's own words tell why.
pub(super) fn latched_failure(name: &str, node: &NodeView, grant: &Grant, by: &Yardstick<'_>) -> Option<Standing> {
    let attempt = by.rollout?.control.attempt;
    let listed = listed_failure(name, attempt, grant.back, by);
    let marked = grant.failed.as_ref().filter(|_| grant.attempt == attempt);
    let reason = listed.map(|failure| &failure.reason).or(marked)?;
    let told = own_object(node)
        .and_then(|object| grant_status(object, grant))
        .filter(|status| status.result == GrantResult::Failed && status.reason == *reason);
    let message = listed
        .map(|failure| &failure.message)
        .or_else(|| told.map(|status| &status.message));
    Some(failed(
        reason,
        message.map_or("this attempt failed before", String::as_str),
    ))
}

/// The same for a node without a grant of this start: it failed in a former one, or its grant is gone.
fn listed(name: &str, by: &Yardstick<'_>) -> Option<Standing> {
    let failure = listed_failure(name, by.rollout?.control.attempt, false, by)?;
    Some(failed(&failure.reason, &failure.message))
}

/// The failure of a node in the rollout's status, where only the first ones are.
fn listed_failure<'a>(name: &str, attempt: i32, back: bool, by: &Yardstick<'a>) -> Option<&'a Failure> {
    let failures = &by.rollout?.status.failures;
    failures
        .iter()
        .find(|failure| failure.node == name && (failure.attempt, failure.back) == (attempt, back))
}

fn rebooted(node: &NodeView, grant: &Grant) -> bool {
    node.boot_id != grant.boot_id
}

fn reboot_failure() -> Standing {
    failed(reasons::NODE_REBOOTED, "the node rebooted after the grant")
}

pub(super) fn failed(reason: &str, message: &str) -> Standing {
    Standing::Failed {
        reason: reason.to_owned(),
        message: message.to_owned(),
    }
}

/// The taints that tell of a crash (D), a warning (W) or a lockup (L) and were not there before.
fn gained_taints(before: &str, now: &str) -> String {
    ['D', 'W', 'L']
        .into_iter()
        .filter(|taint| now.contains(*taint) && !before.contains(*taint))
        .collect()
}
