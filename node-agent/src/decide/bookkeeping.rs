//! What the journal should say now, before anything is done. No IO.

use livepatch_kernel::{Seen, Standing};

use super::verdict::reasons;
use super::{JournalState, MAX_STARTS, Snapshot};
use crate::journal::{Entry, Failure, Journal, Pair, Phase};
use crate::truth::Truth;
use crate::validate::Wish;

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
    if let Some(spec) = snapshot.spec {
        journal.hold.clone_from(&spec.hold);
    }
    journal.enter_boot(&snapshot.truth.boot);
    journal.settle(&snapshot.truth.boot, snapshot.truth.now, snapshot.settle);
    close_under_way(&mut journal, snapshot.truth, wishes);
    adopt(&mut journal, snapshot.truth, wishes);
    journal.prune(snapshot.truth.kernel_build_id());
    let obstacle = obstacle(snapshot, &journal);
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
    let failure = if truth.now >= entry.deadline {
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

/// Takes over what a grant asks for and the kernel already runs.
fn adopt(journal: &mut Journal, truth: &Truth, wishes: &[Wish<'_>]) {
    for wish in wishes.iter().filter(|wish| is_loaded(truth, wish)) {
        match journal.entry_for(wish.grant) {
            // A person who loads by hand what is in quarantine does not vouch for the next boot.
            Some(entry) if entry.is_in_effect() || entry.is_under_way() => continue,
            Some(Entry {
                phase: Phase::Quarantined { .. },
                ..
            }) => continue,
            _ => {}
        }
        let mut entry = Entry::begin(wish.grant, truth.boot.clone(), truth.now);
        entry.phase = Phase::Settled;
        journal.put(entry);
    }
}
