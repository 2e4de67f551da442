//! What the journal should say now, before anything is done. No IO.

use std::time::Duration;

use livepatch_crds::node::DesiredState;
use livepatch_crds::policy::{Drift, GrantPolicy};
use livepatch_kernel::{BootId, Seen, Standing};
use livepatch_planner::node::situation::supersedes;

use super::verdict::reasons;
use super::{JournalState, MAX_STARTS, Snapshot};
use crate::journal::succession::Shown;
use crate::journal::{Entry, Failure, Journal, Pair, Phase};
use crate::truth::Truth;
use crate::validate::Wish;

/// What somebody disables by hand is brought back once in that time.
const DRIFT: Duration = Duration::from_hours(1);

/// The journal as it should be, and why nothing may be done.
pub(super) struct Kept {
    /// `None` if there can be no journal now.
    pub journal: Option<Journal>,
    pub obstacle: Option<Failure>,
}

pub(super) fn keep(snapshot: &Snapshot<'_>, wishes: &[Wish<'_>]) -> Kept {
    let mut journal = match snapshot.journal {
        JournalState::Known(journal) => journal.clone(),
        JournalState::Unreadable(failure) => {
            return Kept {
                journal: None,
                obstacle: Some(failure.clone()),
            };
        }
        JournalState::Missing => match unknown_livepatch(snapshot.truth, wishes) {
            None => Journal::default(),
            Some(name) => {
                return Kept {
                    journal: None,
                    obstacle: Some(journal_missing(&name)),
                };
            }
        },
    };
    let truth = snapshot.truth;
    if let Some(spec) = snapshot.spec {
        journal.hold.clone_from(&spec.hold);
        journal.boots.heed(&spec.livepatches);
    }
    journal.enter_boot(&truth.boot);
    journal.boots.pass(truth.now);
    journal.settle(&truth.boot, truth.now, snapshot.settle);
    close_under_way(&mut journal, truth, wishes);
    close_going(&mut journal, truth);
    if snapshot.spec.is_some() {
        drop_plans(&mut journal, wishes);
    }
    adopt(&mut journal, truth, wishes);
    try_again(&mut journal, wishes);
    absent(&mut journal, truth, wishes);
    uncontained(&mut journal, truth);
    let obstacle = obstacle(snapshot, &journal);
    if obstacle.is_none() {
        drift(&mut journal, truth, snapshot.spec.is_none(), wishes);
    }
    journal.prune(truth.kernel_build_id());
    Kept {
        journal: Some(journal),
        obstacle,
    }
}

/// Without a journal everything loaded has to match a grant: what else it may be, nobody knows any more.
fn unknown_livepatch(truth: &Truth, wishes: &[Wish<'_>]) -> Option<String> {
    let known = |name: &str| {
        wishes
            .iter()
            .any(|wish| wish.grant.module.name == name && is_loaded(truth, wish))
    };
    truth
        .livepatches
        .iter()
        .map(|livepatch| livepatch.name.clone())
        .find(|name| !known(name))
}

fn journal_missing(name: &str) -> Failure {
    Failure::new(
        reasons::JOURNAL_MISSING,
        &format!("there is no journal, and livepatch {name} matches no grant: nothing is changed while it is loaded"),
    )
}

fn obstacle(snapshot: &Snapshot<'_>, journal: &Journal) -> Option<Failure> {
    if snapshot.truth.policy.replace_set == Seen::Known(true) {
        let message = "this kernel has replace_set, whose rules this version does not know";
        return Some(Failure::new(reasons::REPLACE_SET, message));
    }
    if let Some(module) = snapshot.truth.pinned.first() {
        let message = format!(
            "module {module} is no longer in use and keeps its reference, as after a forced transition: only a reboot removes it"
        );
        return Some(Failure::new(reasons::REBOOT_REQUIRED, &message));
    }
    if journal.boots.is_looping() {
        let message = format!(
            "the node went down uncleanly {} times, each time within an hour of a load: nothing is loaded until a person raises the attempt of a rollout",
            journal.boots.crashes
        );
        return Some(Failure::new(reasons::CRASH_LOOP, &message));
    }
    let held = snapshot
        .stop
        .or_else(|| Some(journal.hold.as_str()).filter(|hold| !hold.is_empty()));
    held.map(|why| Failure::new(reasons::HELD, why))
}

/// Whether the pair of a grant is what the kernel runs.
pub(super) fn is_loaded(truth: &Truth, wish: &Wish<'_>) -> bool {
    let module = &wish.grant.module;
    wish.form.is_ok()
        && module.kernel_build_id == truth.kernel_build_id()
        && truth
            .standing(&module.name, &module.build_id)
            .is_some_and(Standing::is_effective)
}

/// Writes down how loads ended that nobody was there to see end.
fn close_under_way(journal: &mut Journal, truth: &Truth, wishes: &[Wish<'_>]) {
    let under_way: Vec<Entry> = journal
        .entries
        .iter()
        .filter(|entry| entry.is_under_way())
        .cloned()
        .collect();
    for entry in under_way {
        if truth.coming_or_going.contains(&entry.module) {
            continue;
        }
        match truth.standing(&entry.module, &entry.build_id) {
            Some(standing) if standing.is_effective() => {
                applied(journal, &entry.set_uid, &entry.pair, truth);
            }
            Some(_) => {}
            None => close_absent(journal, &entry, truth, wishes),
        }
    }
    for entry in journal
        .entries
        .iter_mut()
        .filter(|entry| entry.boot != truth.boot && entry.is_in_effect())
    {
        // Somebody else loaded it again after the reboot, the initial ramdisk for example.
        if entry.pair.kernel_build_id == truth.kernel_build_id()
            && truth
                .standing(&entry.module, &entry.build_id)
                .is_some_and(Standing::is_effective)
        {
            entry.boot = truth.boot.clone();
        }
    }
}

fn close_absent(journal: &mut Journal, entry: &Entry, truth: &Truth, wishes: &[Wish<'_>]) {
    let again = matches!(entry.phase, Phase::Starting { again: true });
    if again && entry.absence.is_some() {
        // It goes on for ever.
        return;
    }
    let failure = if truth.now >= entry.deadline {
        // It may have been taken back, and its agent have died before it could say so: for how long others were exposed
        // nobody knows, but for no longer.
        journal.expose(entry, truth.now.since(entry.started));
        Failure::new(
            reasons::TIMED_OUT,
            "the deadline passed while no agent was running; the livepatch is not loaded",
        )
    } else if entry.starts >= MAX_STARTS {
        Failure::new(
            reasons::INTERRUPTED,
            "the agent was interrupted during the load again and again",
        )
    } else if again || wishes.iter().any(|wish| entry.is_attempt(wish.grant)) {
        return;
    } else {
        // Nobody asks for it any more, and it never came to be.
        journal.entries.retain(|other| other != entry);
        return;
    };
    if let Some(entry) = journal.entry_mut(&entry.set_uid, &entry.pair) {
        entry.phase = if again {
            Phase::NotRestored { failure }
        } else {
            Phase::Failed { failure }
        };
    }
}

/// Notes that an entry is in effect, and which of its set's it replaced. A replaced one is listed, disabled, for a moment
/// longer.
pub fn applied(journal: &mut Journal, set_uid: &str, pair: &Pair, truth: &Truth) {
    journal.applied(set_uid, pair, &truth.boot, truth.now, |other| {
        truth
            .standing(&other.module, &other.build_id)
            .is_some_and(|standing| standing.enabled)
    });
}

/// Writes down what has gone, and what was to go and is there all the same.
fn close_going(journal: &mut Journal, truth: &Truth) {
    let cumulative: Vec<Entry> = journal
        .entries
        .iter()
        .filter(|entry| entry.cumulative && entry.is_in_effect())
        .cloned()
        .collect();
    for entry in journal.entries.iter_mut().filter(|entry| entry.is_going()) {
        let shown = match truth.standing(&entry.module, &entry.build_id) {
            None => Shown::Gone,
            Some(standing) if standing.is_effective() => Shown::Effective,
            Some(_) => Shown::Between,
        };
        let contained = cumulative
            .iter()
            .any(|holder| holder.set != entry.set && supersedes(&holder.policy, &entry.set, &entry.pair.sha256));
        entry.gone_or_back(shown, &truth.boot, truth.now, contained);
    }
    // Kept only as long as there is something to clean up.
    journal.entries.retain(|entry| {
        entry.phase != Phase::Removed || truth.leftovers.iter().any(|module| module.name == entry.module)
    });
}

/// Plans whose grant is gone are gone too; what they took out is brought back.
fn drop_plans(journal: &mut Journal, wishes: &[Wish<'_>]) {
    journal
        .entries
        .retain(|entry| entry.phase != Phase::Clearing || wishes.iter().any(|wish| entry.is_attempt(wish.grant)));
}

/// Takes over what a grant asks for and the kernel already runs, and what grants say of it now.
fn adopt(journal: &mut Journal, truth: &Truth, wishes: &[Wish<'_>]) {
    let asked = |wish: &&Wish<'_>| wish.form.is_ok() && wish.grant.state == DesiredState::Loaded;
    for wish in wishes.iter().filter(asked) {
        if let Some(entry) = journal.entry_for_mut(wish.grant) {
            // What it supersedes was settled when it was loaded, and stays so as long as it is there.
            let supersedes = std::mem::take(&mut entry.policy.supersedes);
            entry.policy = GrantPolicy {
                supersedes,
                ..wish.grant.policy.clone()
            };
        }
        if !is_loaded(truth, wish) {
            continue;
        }
        match journal.entry_for(wish.grant) {
            // A person who loads by hand what is in quarantine does not vouch for the next boot.
            Some(entry)
                if entry.is_in_effect() || entry.is_under_way() || matches!(entry.phase, Phase::Quarantined { .. }) => {
            }
            Some(Entry {
                phase: Phase::Retiring { settled, .. },
                ..
            }) => {
                let settled = *settled;
                keep_after_all(journal, wish, truth, settled);
            }
            _ => {
                let mut entry = Entry::begin(wish.grant, truth.boot.clone(), truth.now);
                entry.phase = Phase::Settled;
                // A node that moved between sets: the livepatch moved with it.
                let moved = |other: &Entry| {
                    other.pair == entry.pair
                        && other.is_in_effect()
                        && !wishes.iter().any(|wish| wish.grant.set.uid == other.set_uid)
                };
                if let Some(former) = journal.entries.iter().find(|other| moved(other)) {
                    entry.phase = former.phase.clone();
                    entry.proven = former.proven;
                    entry.boot = former.boot.clone();
                }
                journal.entries.retain(|other| !moved(other));
                journal.put(entry);
            }
        }
    }
}

/// A new attempt at what was in effect before a reboot and could not be brought back is another try to bring it back: if
/// that fails too, the next boot still knows that it belongs there.
fn try_again(journal: &mut Journal, wishes: &[Wish<'_>]) {
    for wish in wishes.iter().filter(|wish| wish.form.is_ok()) {
        if let Some(entry) = journal.entry_for_mut(wish.grant)
            && matches!(entry.phase, Phase::NotRestored { .. })
            && entry.is_retried_by(wish.grant)
        {
            entry.rollout.clone_from(&wish.grant.rollout);
            entry.attempt = wish.grant.attempt;
            entry.phase = Phase::Settled;
            // No boot has this id, so it counts as one from before this boot.
            entry.boot = BootId(String::new());
        }
    }
}

/// A predecessor that is asked for again while it is still there: it stays, and its successor goes.
fn keep_after_all(journal: &mut Journal, wish: &Wish<'_>, truth: &Truth, settled: bool) {
    let phase = |settled| {
        if settled {
            Phase::Settled
        } else {
            Phase::Applied { at: truth.now }
        }
    };
    for entry in &mut journal.entries {
        if entry.is_for(wish.grant) {
            entry.phase = phase(settled);
        } else if entry.set == wish.grant.set.name && entry.is_in_effect() && entry.boot == truth.boot {
            entry.phase = Phase::Retiring {
                by: wish.grant.module.sha256.clone(),
                settled: entry.has_settled(),
            };
        }
    }
}

/// What is to be absent and is not there is forgotten, with the versions it had taken the place of.
fn absent(journal: &mut Journal, truth: &Truth, wishes: &[Wish<'_>]) {
    let asked = |wish: &&Wish<'_>| wish.form.is_ok() && wish.grant.state == DesiredState::Absent;
    for wish in wishes.iter().filter(asked) {
        let module = &wish.grant.module;
        let there = truth.livepatch(&module.name).is_some() || truth.coming_or_going.contains(&module.name);
        if there {
            continue;
        }
        for entry in journal
            .entries
            .iter_mut()
            .filter(|entry| entry.set_uid == wish.grant.set.uid)
        {
            match entry.phase {
                Phase::Failed { .. } | Phase::Quarantined { .. } => {}
                _ if entry.is_for(wish.grant) => entry.phase = Phase::Removed,
                Phase::Superseded { .. } => entry.phase = Phase::Removed,
                _ => {}
            }
        }
        journal.entries.retain(|entry| {
            entry.phase != Phase::Removed || truth.leftovers.iter().any(|left| left.name == entry.module)
        });
    }
}

/// What no cumulative livepatch contains any more comes back.
fn uncontained(journal: &mut Journal, truth: &Truth) {
    let holders: Vec<Entry> = journal
        .entries
        .iter()
        .filter(|entry| {
            entry.cumulative
                && !matches!(
                    entry.phase,
                    Phase::Superseded { .. }
                        | Phase::Removed
                        | Phase::Removing
                        | Phase::Failed { .. }
                        | Phase::Quarantined { .. }
                )
        })
        .cloned()
        .collect();
    for entry in &mut journal.entries {
        let Phase::Contained { settled, .. } = entry.phase else {
            continue;
        };
        let contains = |holder: &Entry| supersedes(&holder.policy, &entry.set, &entry.pair.sha256);
        if holders.iter().any(contains) {
            continue;
        }
        if entry.boot == truth.boot {
            entry.displace("", truth.now, settled);
        } else {
            entry.phase = Phase::Settled;
        }
    }
}

/// What somebody disabled by hand is brought back where the set asks for that.
fn drift(journal: &mut Journal, truth: &Truth, spec_unknown: bool, wishes: &[Wish<'_>]) {
    for entry in &mut journal.entries {
        let wanted = spec_unknown
            || wishes
                .iter()
                .any(|wish| entry.is_for(wish.grant) && wish.grant.state == DesiredState::Loaded);
        let drifted = entry.is_in_effect()
            && entry.boot == truth.boot
            && entry.pair.kernel_build_id == truth.kernel_build_id()
            && truth.livepatch(&entry.module).is_none()
            && !truth.coming_or_going.contains(&entry.module);
        let lately = entry.drift_restored.is_some_and(|at| truth.now.since(at) < DRIFT);
        if drifted && wanted && !lately && entry.policy.drift == Drift::Restore {
            let settled = entry.has_settled();
            entry.displace("", truth.now, settled);
            entry.drift_restored = Some(truth.now);
        }
    }
}
