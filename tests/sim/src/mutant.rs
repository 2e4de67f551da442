//! Bugs that are planted to see whether they are found. They sit at the simulator's seams: between the planner and what it
//! is shown, between what it decides and what is written, and in the loops that stand for the programs' own. No program
//! that is shipped knows of them.

use jiff::Timestamp;
use livepatch_agent::decide::JournalState;
use livepatch_agent::journal::Phase;
use livepatch_agent::truth::Truth;
use livepatch_crds::NodeLivepatchStatus;
use livepatch_crds::SKIP_LABEL;
use livepatch_crds::concurrency::IntOrPercent;
use livepatch_crds::node::{Grant, GrantResult, NodeLivepatchSpec};
use livepatch_crds::rollout::{ControlState, LivepatchRolloutStatus, WaveState};
use livepatch_crds::set::Then;
use livepatch_planner::fleet::decision::NodeChange;
use livepatch_planner::fleet::snapshot::{NodeObject, NodeView, RolloutView, SetView};
use livepatch_planner::fleet::{Decision, Snapshot};

use crate::ctx::Ctx;

macro_rules! mutants {
    ($($(#[doc = $told:literal])+ $name:ident,)+) => {
        /// A bug.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Mutant {
            $($(#[doc = $told])+ $name,)+
        }

        impl Mutant {
            /// Every bug.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// What is wrong.
            pub fn told(self) -> &'static str {
                match self {
                    $(Self::$name => concat!($($told,)+).trim_ascii(),)+
                }
            }
        }
    };
}

mutants! {
    /// What the operator wrote is not laid over what the watch shows.
    NoOverlay,
    /// A late answer is put over what the watch has shown since.
    LateAnswerWins,
    /// Grants are given before the caches are as new as the leadership.
    FreshnessSkipped,
    /// The first list of a watch may come from any replica's cache.
    StaleLists,
    /// A write whose outcome is unknown is forgotten.
    UnknownForgotten,
    /// Specs are written without a resourceVersion.
    NoPrecondition,
    /// The operator goes on writing after its term.
    TermIgnored,
    /// A candidate takes a lease that is still held.
    LeaseTakenEarly,
    /// A new leader has the epoch of the former one.
    EpochNotRaised,
    /// What cannot be read is taken for gone.
    UnreadableIgnored,
    /// The agent loads without reading its object and the lease once more.
    LiveReadsSkipped,
    /// The agent reads the lease and does not look at it.
    EpochIgnored,
    /// The agent does not look whether its grant is still there.
    WithdrawalIgnored,
    /// The agent does not look at the hold.
    HoldIgnored,
    /// The intent is not written before the kernel is asked.
    IntentAfterAct,
    /// What was pulled is not compared with its digest.
    DigestUnchecked,
    /// The agent's status differs in every pass.
    StatusFlaps,
    /// The agent tells of a livepatch as in effect while its transition runs.
    TransitionIgnored,
    /// What was on probation comes back after a panic: a boot loop.
    ProbationSkipped,
    /// A quarantine is forgotten: a boot loop by grant.
    QuarantineForgotten,
    /// A failed load is tried again and again.
    FailureForgotten,
    /// A dead node's last words are read as success.
    DeadNodeSucceeds,
    /// A reboot after the grant is overlooked.
    RebootOverlooked,
    /// New taints of the kernel are overlooked.
    TaintsOverlooked,
    /// The slot of a node that is lost is free, and nothing has failed.
    LostNodeForgotten,
    /// The slot of a removed node is held for ever.
    RemovedNodeKept,
    /// A node counts as settled at once.
    MinReadyIgnored,
    /// A wave passes without its soak.
    SoakIgnored,
    /// A wave passes with too few settled nodes.
    MinSucceededIgnored,
    /// A wave passes without the promotion it awaits.
    PromotionIgnored,
    /// An empty wave passes.
    EmptyWavePasses,
    /// Waves are served before those before them have passed.
    WaveJumped,
    /// Budgets are not kept.
    BudgetIgnored,
    /// One grant too many is given each time.
    SecondGrant,
    /// A pause, or an abort, is undone by the operator.
    PauseUndone,
    /// Failures are forgotten, and a halt is undone.
    HaltUndone,
    /// The operator retries by itself.
    RetriedUnasked,
    /// The label that holds a node is overlooked.
    SkipLabelIgnored,
    /// Nodes are granted that the set does not select.
    SelectorIgnored,
    /// A report of another boot counts.
    StaleReportCounts,
    /// A node is granted what it runs.
    SamePairGranted,
}

/// What the planner is shown in place of what there is.
pub(crate) fn changed_snapshot(ctx: &Ctx, snapshot: &Snapshot) -> Option<Snapshot> {
    let mutant = ctx.mutant?;
    let mut changed = snapshot.clone();
    for set in &mut changed.sets {
        change_set(mutant, set);
    }
    if mutant == Mutant::LostNodeForgotten {
        changed.nodes.retain(|_, node| node.ready);
    }
    for node in changed.nodes.values_mut() {
        change_node(mutant, node);
    }
    Some(changed)
}

fn change_set(mutant: Mutant, set: &mut SetView) {
    let strategy = &mut set.spec.rollout;
    match mutant {
        Mutant::BudgetIgnored => {
            strategy.max_concurrent = IntOrPercent::Int(1000);
            for wave in &mut strategy.waves {
                wave.max_concurrent = None;
            }
        }
        Mutant::SoakIgnored => strategy.waves.iter_mut().for_each(|wave| wave.soak_seconds = 0),
        Mutant::MinSucceededIgnored => strategy.waves.iter_mut().for_each(|wave| wave.min_succeeded = 0),
        Mutant::PromotionIgnored => strategy.waves.iter_mut().for_each(|wave| wave.then = Then::Continue),
        Mutant::SelectorIgnored => set.spec.node_selector = livepatch_crds::NodeSelector::default(),
        _ => {}
    }
    for rollout in &mut set.rollouts {
        change_rollout(mutant, rollout);
    }
}

fn change_rollout(mutant: Mutant, rollout: &mut RolloutView) {
    match mutant {
        Mutant::PauseUndone => rollout.control.state = ControlState::Run,
        Mutant::HaltUndone => {
            rollout.status.failures.clear();
            rollout.status.failed = livepatch_crds::rollout::FailureTally::default();
        }
        Mutant::RetriedUnasked => {
            let failed = rollout.status.failures.iter().map(|failure| failure.attempt).max();
            rollout.control.attempt = failed.map_or(rollout.control.attempt, |failed| failed + 1);
        }
        Mutant::WaveJumped => {
            for wave in &mut rollout.status.waves {
                wave.state = WaveState::Passed;
            }
        }
        _ => {}
    }
}

fn change_node(mutant: Mutant, node: &mut NodeView) {
    match mutant {
        Mutant::MinReadyIgnored => {
            for since in node.effective_since.values_mut() {
                *since = Timestamp::UNIX_EPOCH;
            }
        }
        Mutant::SkipLabelIgnored => _ = node.labels.remove(SKIP_LABEL),
        Mutant::DeadNodeSucceeds => node.ready = true,
        _ => {}
    }
    let granted = node
        .object
        .as_ref()
        .is_some_and(|object| !object.spec.livepatches.is_empty());
    let boot_id = node.boot_id.clone();
    let Some(object) = &mut node.object else { return };
    match mutant {
        Mutant::DeadNodeSucceeds => {
            object.status.boot_id.clone_from(&boot_id);
            for grant in &object.spec.livepatches {
                let key = (grant.rollout.clone(), grant.attempt, grant.back);
                node.effective_since.insert(key, Timestamp::UNIX_EPOCH);
            }
        }
        Mutant::RebootOverlooked => {
            for grant in &mut object.spec.livepatches {
                grant.boot_id.clone_from(&boot_id);
            }
        }
        Mutant::StaleReportCounts => object.status.boot_id.clone_from(&boot_id),
        Mutant::HaltUndone => {
            for grant in &mut object.spec.livepatches {
                grant.failed = None;
            }
        }
        Mutant::TaintsOverlooked => object.status.kernel_taints.clear(),
        Mutant::SkipLabelIgnored => object.spec.hold.clear(),
        Mutant::SamePairGranted if !granted => object.status.loaded.clear(),
        _ => {}
    }
}

/// Changes what was decided.
pub(crate) fn change_decision(ctx: &Ctx, decision: &mut Decision, snapshot: &Snapshot) {
    if !ctx.is(Mutant::SecondGrant) {
        return;
    }
    let Some(given) = decision
        .node_changes
        .iter()
        .find(|change| change.new_grants > 0)
        .cloned()
    else {
        return;
    };
    let Some(grant) = given.spec.livepatches.last() else {
        return;
    };
    let build = &grant.module.kernel_build_id;
    let fits = |object: &NodeObject| {
        object.spec.livepatches.is_empty() && object.spec.hold.is_empty() && object.status.kernel.build_id == *build
    };
    let second = snapshot
        .nodes
        .iter()
        .find(|(name, node)| **name != given.node && node.ready && node.object.as_ref().is_some_and(&fits));
    if let Some((name, node)) = second
        && let Some(object) = &node.object
        && !decision.node_changes.iter().any(|change| change.node == *name)
    {
        let mut spec = object.spec.clone();
        let mut grant = grant.clone();
        grant.boot_id.clone_from(&node.boot_id);
        spec.livepatches.push(grant);
        decision.node_changes.push(NodeChange {
            node: name.clone(),
            resource_version: object.resource_version.clone(),
            spec,
            new_grants: 1,
        });
    }
}

/// Changes what is said of a rollout.
pub(crate) fn change_rollout_status(ctx: &Ctx, status: &mut LivepatchRolloutStatus) {
    if ctx.is(Mutant::EmptyWavePasses) {
        for wave in status.waves.iter_mut().filter(|wave| wave.state == WaveState::Empty) {
            wave.state = WaveState::Passed;
        }
    }
}

/// Changes what an agent says.
pub(crate) fn change_node_status(ctx: &Ctx, status: &mut NodeLivepatchStatus) {
    if ctx.is(Mutant::StatusFlaps) {
        status.agent_version = format!("0.{}", ctx.clock.now.as_millis());
    }
    if ctx.is(Mutant::TransitionIgnored) {
        for loaded in &mut status.loaded {
            loaded.transition = false;
        }
        for told in status
            .livepatches
            .iter_mut()
            .filter(|told| told.result == GrantResult::Transitioning)
        {
            told.result = GrantResult::Loaded;
        }
    }
}

/// Changes what an agent reads right before a load.
pub(crate) fn change_read(ctx: &Ctx, spec: &mut NodeLivepatchSpec, grant: &Grant) {
    if ctx.is(Mutant::HoldIgnored) {
        spec.hold.clear();
    }
    if ctx.is(Mutant::WithdrawalIgnored) && !spec.livepatches.contains(grant) {
        spec.livepatches.push(grant.clone());
    }
}

/// What the node planner is shown in place of its journal.
pub(crate) fn changed_journal(ctx: &Ctx, journal: &JournalState, truth: &Truth) -> Option<JournalState> {
    let mutant = ctx.mutant?;
    let JournalState::Known(journal) = journal else {
        return None;
    };
    let mut journal = journal.clone();
    match mutant {
        Mutant::ProbationSkipped => {
            for entry in journal.entries.iter_mut().filter(|entry| entry.boot != truth.boot) {
                if matches!(entry.phase, Phase::Applied { .. } | Phase::Starting { .. }) {
                    entry.phase = Phase::Settled;
                }
            }
        }
        Mutant::QuarantineForgotten => {
            journal.enter_boot(&truth.boot);
            journal
                .entries
                .retain(|entry| !matches!(entry.phase, Phase::Quarantined { .. }));
        }
        Mutant::FailureForgotten => {
            journal
                .entries
                .retain(|entry| !matches!(entry.phase, Phase::Failed { .. }));
        }
        _ => return None,
    }
    Some(JournalState::Known(journal))
}
