//! What already runs in the kernel. No IO.

use super::{BUSY, Key, Step, Work};
use crate::retry::Subject;

impl Work<'_> {
    /// A transition of ours is followed; while any runs, nothing is begun.
    pub(super) fn under_way(&mut self) {
        let truth = self.snapshot.truth;
        let entries = self
            .journal
            .as_ref()
            .map(|journal| journal.entries.clone())
            .unwrap_or_default();
        for entry in entries.iter().filter(|entry| entry.is_under_way()) {
            if truth.coming_or_going.contains(&entry.module) {
                self.busy = true;
                self.look_again(BUSY);
            } else if truth
                .standing(&entry.module, &entry.build_id)
                .is_some_and(|standing| !standing.is_effective())
            {
                match self
                    .snapshot
                    .retries
                    .waiting(&Subject::Follow(entry.pair.clone()), truth.now)
                {
                    Some(waiting) => self.look_again(waiting.until.since(truth.now)),
                    None => self.propose(Step::Follow(Key::of(entry))),
                }
                self.busy = true;
            }
        }
        if truth.in_transition().is_some() && !self.busy {
            self.busy = true;
            self.look_again(BUSY);
        }
    }
}
