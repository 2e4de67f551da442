//! What already runs in the kernel. No IO.

use livepatch_kernel::Standing;

use super::{BUSY, Key, Step, Work};
use crate::journal::Entry;
use crate::retry::Subject;
use crate::truth::Truth;

impl Work<'_> {
    /// A transition of ours is followed; while any runs, nothing is begun.
    pub(super) fn under_way(&mut self) {
        let truth = self.snapshot.truth;
        let entries = self
            .journal
            .as_ref()
            .map(|journal| journal.entries.clone())
            .unwrap_or_default();
        for entry in &entries {
            if entry.is_under_way() && truth.coming_or_going.contains(&entry.module) {
                self.busy = true;
                self.look_again(BUSY);
            } else if is_followed(entry, truth) {
                let follow = Subject::Follow(entry.pair.clone());
                match self.snapshot.retries.waiting(&follow, truth.now) {
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

/// Whether the kernel is loading what we asked it to load, or disabling what we asked it to disable.
fn is_followed(entry: &Entry, truth: &Truth) -> bool {
    match truth.standing(&entry.module, &entry.build_id) {
        None => false,
        Some(standing) if entry.is_under_way() => !standing.is_effective(),
        Some(Standing { enabled, transition }) => entry.is_going() && !enabled && transition,
    }
}
