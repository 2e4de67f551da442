//! What can wait. No IO.

use super::{Step, Work};
use crate::journal::Phase;
use crate::retry::Subject;

impl Work<'_> {
    /// Modules of livepatches of ours that were replaced or taken back are removed: as long as one is there, the same
    /// file cannot be loaded again.
    pub(super) fn housekeeping(&mut self) {
        if self.occupied() || self.obstacle.is_some() {
            return;
        }
        let Some(journal) = &self.journal else { return };
        let truth = self.snapshot.truth;
        let ours = |name: &str, build_id: &str| {
            journal.entries.iter().any(|entry| {
                entry.module == name
                    && entry.build_id == build_id
                    && matches!(
                        entry.phase,
                        Phase::Superseded { .. } | Phase::Contained { .. } | Phase::Removed | Phase::Failed { .. }
                    )
            })
        };
        let leftover = truth.leftovers.iter().find(|module| {
            let build_id = module.build_id.known().and_then(Option::as_ref);
            build_id.is_some_and(|id| ours(&module.name, id.as_str()))
                && self
                    .snapshot
                    .retries
                    .waiting(&Subject::Leftover(module.name.clone()), truth.now)
                    .is_none()
        });
        if let Some(module) = leftover {
            self.propose(Step::RemoveLeftover(module.name.clone()));
        }
    }
}
