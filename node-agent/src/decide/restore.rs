//! Bringing back after a reboot what had settled before it. No IO.
//!
//! Whether it is granted does not matter here: what a node already runs is never granted anew, so the absence of a grant
//! does not mean that nobody wants it, and a lost list of grants must not take the fixes from a fleet at its next reboot.

use std::time::Duration;

use super::{Load, MAX_STARTS, Preparation, Step, Work, coexist};
use crate::journal::{Entry, Phase};
use crate::retry::Subject;

impl Work<'_> {
    /// Cumulative first, then in the order of their first loads.
    pub(super) fn restore(&mut self) {
        let Some(journal) = &self.journal else { return };
        let mut missing: Vec<Entry> = journal
            .entries
            .iter()
            .filter(|entry| self.is_missing(entry))
            .cloned()
            .collect();
        missing.sort_by_key(|entry| !entry.cumulative);
        for entry in missing {
            self.restore_one(entry);
        }
    }

    /// Whether an entry was in effect before the reboot and is not now.
    pub(super) fn is_missing(&self, entry: &Entry) -> bool {
        let truth = self.snapshot.truth;
        let waits = match entry.phase {
            Phase::Settled => entry.boot != truth.boot,
            Phase::Starting { again } => again && entry.starts < MAX_STARTS,
            _ => false,
        };
        waits
            && entry.pair.kernel_build_id == truth.kernel_build_id()
            && truth.livepatch(&entry.module).is_none()
            && !truth.coming_or_going.contains(&entry.module)
    }

    fn restore_one(&mut self, entry: Entry) {
        if self.obstacle.is_some() {
            return;
        }
        if entry.cumulative {
            self.cumulative_to_come = true;
        } else if self.cumulative_to_come {
            return;
        }
        let truth = self.snapshot.truth;
        let subject = Subject::Restore(entry.pair.clone());
        if let Some(waiting) = self.snapshot.retries.waiting(&subject, truth.now) {
            self.look_again(waiting.until.since(truth.now));
            return;
        }
        if self.occupied() {
            return;
        }
        let Some(inspection) = self.snapshot.prepared.get(&entry.pair.sha256) else {
            self.propose(Step::Prepare(Box::new(Preparation {
                entry,
                subject,
                again: true,
            })));
            return;
        };
        if let Err(failure) = coexist::judge(&self.newcomer(&entry, inspection)) {
            return self.refuse(entry, Phase::NotRestored { failure });
        }
        let begun = Entry {
            boot: truth.boot.clone(),
            started: truth.now,
            deadline: truth.now + Duration::from_secs(entry.timeout_seconds.into()),
            starts: if entry.is_under_way() { entry.starts + 1 } else { 1 },
            phase: Phase::Starting { again: true },
            ..entry
        };
        self.propose(Step::Load(Box::new(Load {
            entry: begun,
            grant: None,
        })));
    }

    /// Writes down that an entry cannot be loaded beside what is there.
    pub(super) fn refuse(&mut self, entry: Entry, phase: Phase) {
        let Some(mut journal) = self.journal.clone() else {
            return;
        };
        journal.put(Entry {
            boot: self.snapshot.truth.boot.clone(),
            phase,
            ..entry
        });
        self.propose(Step::Write(journal));
    }

    pub(super) fn newcomer<'b>(
        &'b self,
        entry: &'b Entry,
        inspection: &'b livepatch_module::Inspection,
    ) -> coexist::Newcomer<'b> {
        coexist::Newcomer {
            entry,
            inspection,
            truth: self.snapshot.truth,
            entries: self.journal.as_ref().map_or(&[], |journal| &journal.entries),
            known: self.snapshot.prepared,
        }
    }
}
