//! What the journal says before and after an operation, and what is waited with. No IO.

use livepatch_kernel::BootTime;
use livepatch_kernel::operation::{DisableOutcome, LoadOutcome, Loaded};

use crate::conclude::{Conclusion, Disabled, conclude, disabled};
use crate::decide::reasons;
use crate::journal::{Entry, Failure, Journal, Phase};
use crate::retry::Subject;

/// What follows from an operation.
#[derive(Debug, Default)]
pub struct Aftermath {
    /// To be written, if there is anything to write. What the kernel shows is written down by the next look at it.
    pub journal: Option<Journal>,
    /// What is waited with, and why.
    pub waits: Option<(Subject, Failure)>,
    /// What need not be waited with any more.
    pub ended: Option<Subject>,
    /// What failed for good.
    pub failed: Option<Failure>,
    /// The finished load.
    pub loaded: Option<Loaded>,
    /// A module whose `finit_module` has not returned.
    pub unreturned: Option<String>,
}

impl Aftermath {
    fn ends(subject: Subject) -> Self {
        Self {
            ended: Some(subject),
            ..Self::default()
        }
    }

    fn waits(subject: Subject, failure: Failure) -> Self {
        Self {
            waits: Some((subject, failure)),
            ..Self::default()
        }
    }
}

/// The journal as it must be on disk before the kernel is asked to load. Deadlines begin now.
pub fn before_load(journal: &Journal, entry: &mut Entry, now: BootTime) -> Journal {
    entry.postpone(now);
    let mut journal = journal.clone();
    journal.boots.last_load = Some(now);
    journal.put(entry.clone());
    journal
}

/// The journal as it must be on disk before the kernel is asked to disable `entry`, for the plan of `target` if there is
/// one.
pub fn before_disable(journal: &Journal, entry: &mut Entry, target: Option<&Entry>, now: BootTime) -> Journal {
    entry.postpone(now);
    let mut journal = journal.clone();
    if let Some(target) = target {
        journal.put(target.clone());
    }
    journal.put(entry.clone());
    journal
}

/// What follows from how a load ended.
pub fn after_load(journal: &Journal, entry: Entry, subject: Subject, outcome: LoadOutcome) -> Aftermath {
    let mut journal = journal.clone();
    // While an atomic replace lasted, tasks that had switched ran without the fixes that it would have thrown out.
    let exposed = match &outcome {
        LoadOutcome::Reverted { exposure, .. } => journal.expose(&entry, *exposure),
        _ => false,
    };
    match conclude(outcome) {
        Conclusion::Loaded(loaded) => Aftermath {
            loaded: Some(loaded),
            ..Aftermath::ends(subject)
        },
        Conclusion::Failed(failure) => give_up(journal, entry, failure),
        Conclusion::Later(failure) => {
            unbegin(&mut journal, &entry);
            Aftermath {
                journal: Some(journal),
                ..Aftermath::waits(subject, failure)
            }
        }
        Conclusion::Unfinished(failure) => Aftermath {
            journal: exposed.then_some(journal),
            ..Aftermath::waits(Subject::Follow(entry.pair), failure)
        },
        Conclusion::NotReturned => Aftermath {
            unreturned: Some(entry.module),
            ..Aftermath::default()
        },
    }
}

/// What follows from how disabling ended.
pub fn after_disable(journal: &Journal, entry: &Entry, subject: Subject, outcome: DisableOutcome) -> Aftermath {
    match disabled(outcome) {
        Disabled::Gone => Aftermath::ends(subject),
        Disabled::Back(failure) => match plan_of(journal, entry) {
            Some(target) => give_up(journal.clone(), target, failure),
            None => Aftermath::waits(subject, failure),
        },
        Disabled::Later(failure) => Aftermath::waits(subject, failure),
        Disabled::Unfinished(failure) => Aftermath::waits(Subject::Follow(entry.pair.clone()), failure),
    }
}

/// What follows from a failure that does not pass by itself: it is written down. But what was in effect before is tried
/// again for ever, if it was taken out by another one's load or only held up.
pub fn give_up(mut journal: Journal, entry: Entry, failure: Failure) -> Aftermath {
    let again = entry.phase == Phase::Starting { again: true };
    if entry.absence.is_some() || again && failure.reason == reasons::TIMED_OUT {
        let subject = Subject::Restore(entry.pair.clone());
        unbegin(&mut journal, &entry);
        return Aftermath {
            journal: Some(journal),
            ..Aftermath::waits(subject, failure)
        };
    }
    journal.put(entry.failed(failure.clone()));
    Aftermath {
        journal: Some(journal),
        failed: Some(failure),
        ..Aftermath::default()
    }
}

fn unbegin(journal: &mut Journal, entry: &Entry) {
    let Some(written) = journal.entry(&entry.set_uid, &entry.pair).cloned() else {
        return;
    };
    match written.unbegun() {
        Some(changed) => journal.put(changed),
        None => journal
            .entries
            .retain(|other| other.set_uid != entry.set_uid || other.pair != entry.pair),
    }
}

/// The entry whose plan takes this one out.
fn plan_of(journal: &Journal, entry: &Entry) -> Option<Entry> {
    let absence = entry.absence.as_ref()?;
    let is_target = |other: &&Entry| other.phase == Phase::Clearing && other.pair.sha256 == absence.by;
    journal.entries.iter().find(is_target).cloned()
}
