//! What the status says. No IO.

use k8s_openapi::jiff::Timestamp;
use livepatch_crds::bounded::bounded;
use livepatch_crds::conditions::{self, DEGRADED, READY, Saying};
use livepatch_crds::node::{GrantResult, GrantStatus, LoadedLivepatch, MAX_LIVEPATCHES, Owner};
use livepatch_crds::{NodeLivepatch, NodeLivepatchStatus};
use livepatch_kernel::{Livepatch, Standing};

use crate::decide::{Decision, JournalState, reasons};
use crate::journal::{Entry, Failure, Journal};
use crate::truth::{Truth, is_build};

/// Version of this program.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What this agent can do beyond loading.
pub const FEATURES: [&str; 3] = ["RestoreOffBand", "Supersedes", "Absent"];

/// The status of an object, given what was seen and decided. `before` lends the times of its conditions.
pub fn status(
    object: &NodeLivepatch,
    truth: &Truth,
    journal: &JournalState,
    decision: &Decision,
    before: &NodeLivepatchStatus,
    now: Timestamp,
) -> NodeLivepatchStatus {
    let generation = object.metadata.generation.unwrap_or(0);
    let known = match journal {
        JournalState::Known(journal) => Some(journal),
        JournalState::Missing | JournalState::Unreadable(_) => None,
    };
    let sayings = [
        ready(&decision.verdicts, decision.obstacle.as_ref()),
        degraded(decision, truth, journal),
    ];
    NodeLivepatchStatus {
        observed_generation: generation,
        agent_version: VERSION.to_owned(),
        boot_id: bounded(&truth.boot.0, 36),
        features: FEATURES.map(str::to_owned).to_vec(),
        kernel: truth.kernel(),
        kernel_taints: bounded(&truth.taints.to_string(), 32),
        loaded_count: i32::try_from(truth.livepatches.len()).unwrap_or(i32::MAX),
        livepatches: decision.verdicts.clone(),
        loaded: truth
            .livepatches
            .iter()
            .take(MAX_LIVEPATCHES)
            .map(|livepatch| loaded(livepatch, object, truth, known))
            .collect(),
        conditions: conditions::merge(&before.conditions, &sayings, generation, now),
    }
}

/// The status while the kernel cannot be read: what was known of it is not repeated as if it still held.
pub fn blind(
    object: &NodeLivepatch,
    why: &Failure,
    before: &NodeLivepatchStatus,
    now: Timestamp,
) -> NodeLivepatchStatus {
    let generation = object.metadata.generation.unwrap_or(0);
    let pending = |grant: &livepatch_crds::node::Grant| GrantStatus {
        set: grant.set.name.clone(),
        rollout: grant.rollout.clone(),
        attempt: grant.attempt,
        result: GrantResult::Pending,
        reason: why.reason.clone(),
        message: why.message.clone(),
        blockers: Vec::new(),
        gap_milliseconds: None,
    };
    let sayings = [
        Saying {
            kind: READY,
            status: None,
            reason: "KernelUnknown",
            message: why.message.clone(),
        },
        Saying {
            kind: DEGRADED,
            status: Some(true),
            reason: "KernelUnknown",
            message: why.message.clone(),
        },
    ];
    NodeLivepatchStatus {
        observed_generation: generation,
        agent_version: VERSION.to_owned(),
        livepatches: object
            .spec
            .livepatches
            .iter()
            .take(MAX_LIVEPATCHES)
            .map(pending)
            .collect(),
        conditions: conditions::merge(&before.conditions, &sayings, generation, now),
        ..NodeLivepatchStatus::default()
    }
}

fn loaded(livepatch: &Livepatch, object: &NodeLivepatch, truth: &Truth, journal: Option<&Journal>) -> LoadedLivepatch {
    let grant = object.spec.livepatches.iter().find(|grant| {
        grant.module.name == livepatch.name
            && grant.module.kernel_build_id == truth.kernel_build_id()
            && is_build(livepatch, &grant.module.build_id)
    });
    let entry = journal.and_then(|journal| {
        journal
            .entries
            .iter()
            .find(|entry| entry.module == livepatch.name && is_build(livepatch, &entry.build_id))
    });
    let (owner, set) = match (grant, entry) {
        (Some(grant), _) => (Owner::Set, Some(grant.set.name.clone())),
        (None, Some(entry)) => (Owner::Retained, Some(entry.set.clone())),
        (None, None) => (Owner::Foreign, None),
    };
    LoadedLivepatch {
        module: bounded(&livepatch.name, 64),
        build_id: livepatch
            .build_id
            .known()
            .and_then(Option::as_ref)
            .map_or_else(String::new, |id| id.as_str().to_owned()),
        owner,
        set,
        enabled: livepatch.standing.enabled,
        transition: livepatch.standing.transition,
        function_count: livepatch
            .functions_reliable
            .then(|| i32::try_from(livepatch.function_count()).unwrap_or(i32::MAX)),
    }
}

fn ready(verdicts: &[GrantStatus], obstacle: Option<&Failure>) -> Saying {
    let first = |result| verdicts.iter().find(|verdict| verdict.result == result);
    let say = |status, reason, message: String| Saying {
        kind: READY,
        status: Some(status),
        reason,
        message,
    };
    if let Some(failed) = first(GrantResult::Failed) {
        return say(
            false,
            "Failed",
            format!("{}: {}: {}", failed.set, failed.reason, failed.message),
        );
    }
    let done = |verdict: &GrantStatus| {
        matches!(
            verdict.result,
            GrantResult::Loaded | GrantResult::Superseded | GrantResult::Absent
        )
    };
    if verdicts.iter().all(done) {
        let message = match verdicts.len() {
            0 => "nothing was granted".to_owned(),
            1 => "the granted livepatch is as it should be".to_owned(),
            more => format!("all {more} granted livepatches are as they should be"),
        };
        return say(true, "UpToDate", message);
    }
    if let Some(obstacle) = obstacle {
        let reason = if obstacle.reason == reasons::HELD {
            "Held"
        } else {
            "Blocked"
        };
        return say(false, reason, format!("{}: {}", obstacle.reason, obstacle.message));
    }
    let waiting = first(GrantResult::Transitioning).or_else(|| first(GrantResult::Pending));
    let message = waiting.map(|waiting| format!("{}: {}: {}", waiting.set, waiting.reason, waiting.message));
    say(false, "Working", message.unwrap_or_default())
}

fn degraded(decision: &Decision, truth: &Truth, journal: &JournalState) -> Saying {
    let say = |status, reason, message: String| Saying {
        kind: DEGRADED,
        status: Some(status),
        reason,
        message,
    };
    if let JournalState::Unreadable(failure) = journal {
        return say(true, "JournalUnreadable", failure.message.clone());
    }
    if let Some(obstacle) = &decision.obstacle {
        for reason in [reasons::CRASH_LOOP, reasons::REBOOT_REQUIRED] {
            if obstacle.reason == reason {
                return say(true, reason, obstacle.message.clone());
            }
        }
    }
    let missing = missing(truth, journal);
    if !missing.is_empty() {
        let message = format!("out of effect, and to be brought back: {}", missing.join(", "));
        return say(true, "FixMissing", message);
    }
    let failed: Vec<&str> = decision
        .verdicts
        .iter()
        .filter(|verdict| verdict.result == GrantResult::Failed)
        .map(|verdict| verdict.set.as_str())
        .collect();
    if failed.is_empty() {
        say(false, "AsExpected", String::new())
    } else {
        say(true, "Failed", format!("failed on this node: {}", failed.join(", ")))
    }
}

/// The fixes that were in effect in this boot, were taken out by a load of ours and are not back yet.
fn missing(truth: &Truth, journal: &JournalState) -> Vec<String> {
    let JournalState::Known(journal) = journal else {
        return Vec::new();
    };
    let is_missing = |entry: &&Entry| {
        entry.absence.is_some()
            && !truth
                .standing(&entry.module, &entry.build_id)
                .is_some_and(Standing::is_effective)
    };
    let told = |entry: &Entry| format!("{} of set {}", entry.module, entry.set);
    journal.entries.iter().filter(is_missing).map(told).collect()
}
