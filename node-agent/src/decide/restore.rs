//! Bringing back what is to be in effect and is not: after a reboot, and after another one took it out. No IO.
//!
//! Whether it is granted does not matter here: what a node already runs is never granted anew, so the absence of a grant
//! does not mean that nobody wants it, and a lost list of grants must not take the fixes from a fleet at its next reboot.

use std::time::Duration;

use super::advance::Advance;
use super::verdict::reasons;
use super::{MAX_STARTS, Work};
use crate::journal::{Entry, Phase};
use crate::retry::Subject;
use crate::truth::is_build;

/// How long the transition of one that is brought back may take before the next one has its turn.
const SLICE: Duration = Duration::from_secs(30);

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

    /// Whether an entry is to be in effect and the kernel has nothing of it.
    pub(super) fn is_missing(&self, entry: &Entry) -> bool {
        let truth = self.snapshot.truth;
        let waits = match entry.phase {
            Phase::Settled => entry.boot != truth.boot,
            Phase::Starting { again } => again && (entry.starts < MAX_STARTS || entry.absence.is_some()),
            Phase::Displaced => true,
            _ => false,
        };
        // One that was just replaced is listed, disabled, for a moment longer; the load waits for that.
        let gone = truth.livepatch(&entry.module).is_none_or(|livepatch| {
            is_build(livepatch, &entry.build_id) && !livepatch.standing.enabled && !livepatch.standing.transition
        });
        waits
            && entry.pair.kernel_build_id == truth.kernel_build_id()
            && gone
            && !truth.coming_or_going.contains(&entry.module)
    }

    /// A person who stops the agent stops what it would begin. What it took out for a plan of its own it brings back:
    /// the nearest safe point of that plan is where nothing is missing.
    pub(super) fn may_restore(&self, entry: &Entry) -> bool {
        let own_doing = entry.absence.as_ref().is_some_and(|absence| !absence.by.is_empty());
        match &self.obstacle {
            None => true,
            Some(obstacle) => own_doing && obstacle.reason == reasons::HELD,
        }
    }

    fn restore_one(&mut self, entry: Entry) {
        if !self.may_restore(&entry) {
            return;
        }
        let truth = self.snapshot.truth;
        let subject = Subject::Restore(entry.pair.clone());
        if let Some(waiting) = self.snapshot.retries.waiting(&subject, truth.now) {
            return self.look_again(waiting.until.since(truth.now));
        }
        if entry.cumulative {
            self.cumulative_to_come = true;
        } else if self.cumulative_to_come {
            return;
        }
        if self.occupied() {
            return;
        }
        let span = match entry.absence {
            Some(_) => SLICE,
            None => Duration::from_secs(entry.timeout_seconds.into()),
        };
        let begun = Entry {
            boot: truth.boot.clone(),
            started: truth.now,
            deadline: truth.now + span,
            starts: if entry.is_under_way() { entry.starts + 1 } else { 1 },
            phase: Phase::Starting { again: true },
            ..entry
        };
        let (cumulative, pair) = (begun.cumulative, begun.pair.clone());
        if let Advance::Refused(failure) | Advance::Waits(failure) = self.advance(begun, None, subject) {
            // Told in its verdict; it may be gone the next time, and holds up nobody.
            self.not_restored.insert(pair, failure);
            if cumulative {
                self.cumulative_to_come = false;
            }
        }
    }
}
