//! The way back: nodes that a rollout reached go to what they ran before it, within the same budgets.
//!
//! It is the same rollout and the same grants, with the former module or with absence, and marked as a way back. Begun by
//! a person, or by failurePolicy and then written down, it is never turned round: another revision goes on from there.

use super::course::Course;
use super::progress::Progress;
use super::reasons;
use super::snapshot::{BundleView, Described, ModuleView, NodeView, RolloutView, SetView};
use super::standing::{self, Standing, Yardstick, current_grant, failed, is_carried_out, report};
use livepatch_crds::LivepatchType;
use livepatch_crds::node::{DesiredState, Grant, GrantResult, ModuleReference};
use livepatch_crds::policy::GrantPolicy;
use livepatch_crds::revision::{revision, rollout_name};
use livepatch_crds::rollout::ControlState;
use livepatch_crds::set::Counts;
use livepatch_module::conflict::{LoadedView, Owner, Refusal, SetKind, Wanted, admission};

/// What an agent tells among its features if it can take a livepatch away.
const CAN_REMOVE: &str = "Absent";

/// Whether a rollout is on its way back.
pub fn is_on(rollout: &RolloutView) -> bool {
    rollout.control.state == ControlState::RolledBack || rollout.status.rolling_back
}

/// Whether there is a way back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rollback {
    /// Nothing speaks against it.
    Possible,
    /// It is not known; the kernel would refuse without harm.
    Unknown(String),
    /// The kernel would refuse it.
    Impossible(String),
}

impl Rollback {
    /// As the status tells it.
    pub fn told(&self) -> String {
        match self {
            Self::Possible => "Possible".to_owned(),
            Self::Unknown(why) => format!("Unknown: {why}"),
            Self::Impossible(why) => format!("Impossible: {why}"),
        }
    }

    /// Whether the way back from the set's revision is open, as far as artefacts tell.
    ///
    /// `klp_is_state_compatible()` (kernel/livepatch/state.c, 5.5-7.2) lets no cumulative livepatch take the place of one
    /// that has a state in a higher version, or a state it does not know.
    pub fn of(set: &SetView) -> Self {
        let former = match (&set.former, set.spec.livepatch_type) {
            // Absence is always possible, and an off-band livepatch is gone before the former one comes, or has no state.
            (None, _) | (_, LivepatchType::OffBand) => return Self::Possible,
            (Some(former), LivepatchType::Cumulative) => former,
        };
        let (BundleView::Read(former), BundleView::Read(present)) = (former, &set.bundle) else {
            return Self::Unknown("the artefacts of this revision and of the former one have to be read".to_owned());
        };
        let pairs = present.iter().flat_map(|loaded| {
            let wanted = former.iter().filter(move |wanted| is_for_one_kernel(loaded, wanted));
            wanted.map(move |wanted| (loaded, wanted))
        });
        let refusal = pairs.filter_map(|(loaded, wanted)| {
            let refusal = state_refusal(set, loaded.described.as_deref()?, wanted.described.as_deref()?)?;
            Some(format!("on kernel {} {refusal}", loaded.kernel_release))
        });
        refusal.map(Self::Impossible).next().unwrap_or(Self::Possible)
    }
}

fn is_for_one_kernel(one: &ModuleView, other: &ModuleView) -> bool {
    let differ = one
        .kernel_build_id
        .as_ref()
        .zip(other.kernel_build_id.as_ref())
        .is_some_and(|(one, other)| one != other);
    (&one.kernel_release, &one.architecture) == (&other.kernel_release, &other.architecture) && !differ
}

fn state_refusal(set: &SetView, loaded: &Described, wanted: &Described) -> Option<Refusal> {
    let kind = SetKind::Cumulative;
    let owner = Owner::Set {
        name: set.name.clone(),
        kind,
    };
    let wanted = Wanted {
        set: &set.name,
        kind,
        inspection: wanted.inspection(),
        supersedes: &[],
        replace_foreign: false,
    };
    let refusals = admission(&[LoadedView::of(loaded.inspection(), owner)], &wanted);
    refusals
        .into_iter()
        .find(|refusal| matches!(refusal, Refusal::StateVersionDown { .. } | Refusal::StateMissing { .. }))
}

/// The rollout whose revision the nodes of a set ran before the present one: the one that was completed last, or else the
/// youngest other.
pub fn former(set: &SetView) -> Option<&RolloutView> {
    let present = rollout_name(&set.name, &revision(&set.spec.template));
    let completed = set
        .status
        .current_revision
        .as_ref()
        .map(|revision| rollout_name(&set.name, revision));
    let others = set
        .rollouts
        .iter()
        .filter(|rollout| rollout.name != present && !rollout.deleting);
    others.max_by_key(|rollout| {
        (
            Some(&rollout.name) == completed.as_ref(),
            rollout.created,
            &rollout.name,
        )
    })
}

/// Where a node stands on the way back. Nothing is asked of a node that the rollout never reached.
pub(super) fn standing(name: &str, node: &NodeView, by: &Yardstick<'_>) -> Standing {
    let Some(grant) = current_grant(node, by) else {
        return Standing::RolledBack;
    };
    if grant.back && !standing::is_given_up(name, grant, by) {
        if let Some(failure) = standing::latched_failure(name, node, grant, by) {
            return failure;
        }
        return going_back(node, grant, by);
    }
    if !node.ready {
        return Standing::Unreachable;
    }
    match report(node) {
        None => Standing::Unknown,
        // It runs another kernel by now, on which this rollout loaded nothing.
        Some(object) if standing::is_void(object, grant) => Standing::RolledBack,
        Some(object) if standing::is_held(node, object) => Standing::Held,
        Some(_) => Standing::Pending,
    }
}

/// A node with a grant to go back.
fn going_back(node: &NodeView, grant: &Grant, by: &Yardstick<'_>) -> Standing {
    let object = report(node);
    let is_back = object.is_some_and(|object| is_carried_out(object, grant));
    if !node.ready {
        return if is_back {
            Standing::Unreachable
        } else {
            failed(reasons::NODE_LOST, "the node is not ready or cannot be reached")
        };
    }
    if is_back {
        let since = node.effective_since(grant);
        let settled = since.is_some_and(|since| by.now.duration_since(since) >= by.min_ready);
        return if settled {
            Standing::RolledBack
        } else {
            Standing::InFlight
        };
    }
    // A reboot in between is none by itself: the agent loads again what had settled, and tells what it does not trust.
    let told = object.and_then(|object| standing::grant_status(object, grant));
    match told.filter(|status| status.result == GrantResult::Failed) {
        Some(_) if standing::is_former_attempt(grant, by) => Standing::Pending,
        Some(status) => failed(&status.reason, &status.message),
        None => Standing::InFlight,
    }
}

/// The grant that takes a node back, if it can be given.
pub(super) fn grant(course: &Course<'_>, rollout: &RolloutView, node: &NodeView, epoch: &str) -> Option<Grant> {
    let object = report(node)?;
    let reached = standing::set_grant(node, &course.set.uid)?;
    let kernel = &object.status.kernel.build_id;
    let fits = |module: &&ModuleReference| module.kernel_build_id == *kernel;
    let (state, module) = match reached.previous.as_ref().filter(fits) {
        _ if reached.back => (reached.state, &reached.module),
        Some(previous) => (DesiredState::Loaded, previous),
        None => (DesiredState::Absent, &reached.module),
    };
    let is_understood = state == DesiredState::Loaded || object.status.features.iter().any(|one| one == CAN_REMOVE);
    is_understood.then(|| Grant {
        epoch: epoch.to_owned(),
        attempt: rollout.control.attempt,
        state,
        module: module.clone(),
        previous: None,
        policy: policy(course.set, reached),
        boot_id: node.boot_id.clone(),
        kernel_taints: object.status.kernel_taints.clone(),
        transition_timeout_seconds: course.set.spec.transition.timeout_seconds,
        failed: None,
        back: true,
        ..reached.clone()
    })
}

/// What the revision before allowed the node: what the present one contains, that one need not.
pub(super) fn policy(set: &SetView, reached: &Grant) -> GrantPolicy {
    let former = former(set).map(|rollout| set.spec.grant_policy(&rollout.template));
    former.unwrap_or_else(|| GrantPolicy {
        supersedes: Vec::new(),
        ..reached.policy.clone()
    })
}

/// How far the way back has come. The waves stay as they were when it began.
pub(super) fn progress(rollout: &RolloutView, counts: &Counts, rollback: &Rollback, halt: Option<&str>) -> Progress {
    let waits = counts.pending + counts.in_flight + counts.unknown;
    let (reason, blocked_by) = match (rollout.control.state, rollback, halt) {
        (ControlState::Aborted, ..) => (
            reasons::ABORTED,
            "a person aborted the rollout on its way back (spec.control.state)".to_owned(),
        ),
        (ControlState::Paused, ..) => (
            reasons::PAUSED,
            "a person paused the rollout on its way back (spec.control.state)".to_owned(),
        ),
        (_, Rollback::Impossible(why), _) => (
            reasons::ROLLBACK_IMPOSSIBLE,
            format!("there is no way back: {why}; make another revision"),
        ),
        (_, _, Some(halt)) => (reasons::HALTED, format!("on the way back {halt}")),
        _ if waits > 0 => (
            reasons::ROLLING_BACK,
            format!("{waits} nodes have to go back; {}", why(rollout)),
        ),
        _ => (
            reasons::ROLLED_BACK,
            format!("{}; another revision goes on", why(rollout)),
        ),
    };
    Progress {
        waves: rollout.status.waves.clone(),
        current: None,
        halted: ![reasons::ROLLING_BACK, reasons::ROLLED_BACK].contains(&reason),
        reason,
        blocked_by,
        soak_until: None,
    }
}

/// Why a rollout goes back.
fn why(rollout: &RolloutView) -> String {
    if rollout.control.state == ControlState::RolledBack {
        return "a person rolled it back (spec.control.state)".to_owned();
    }
    let first = rollout.status.failures.iter().rfind(|failure| !failure.back);
    first.map_or_else(
        || "more failed than is borne (failurePolicy)".to_owned(),
        |first| format!("node {} failed with {} (failurePolicy)", first.node, first.reason),
    )
}
