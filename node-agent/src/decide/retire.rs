//! Disabling what has a successor in effect. No IO.

use std::time::Duration;

use super::{Disable, Step, Work};
use crate::journal::{Entry, Phase};
use crate::retry::Subject;

/// How long the transition of one that goes may take before it is taken back and tried again later.
const SLICE: Duration = Duration::from_secs(30);

impl Work<'_> {
    /// If it cannot be disabled both stay, the later one in effect, and it is tried again for ever.
    pub(super) fn retire(&mut self) {
        if self.obstacle.is_some() || self.occupied() {
            return;
        }
        let truth = self.snapshot.truth;
        let entries = self.journal.as_ref().map_or(&[][..], |journal| &journal.entries);
        let enabled = |entry: &&Entry| {
            truth
                .standing(&entry.module, &entry.build_id)
                .is_some_and(|standing| standing.enabled)
        };
        let retiring = |entry: &&Entry| matches!(entry.phase, Phase::Retiring { .. }) && entry.boot == truth.boot;
        let mut wait = None;
        let mut next = None;
        for entry in entries.iter().filter(retiring).filter(enabled) {
            let subject = Subject::Retire(entry.pair.clone());
            match self.snapshot.retries.waiting(&subject, truth.now) {
                Some(waiting) => wait = Some(waiting.until.since(truth.now)),
                None => next = next.or_else(|| Some((entry.clone(), subject))),
            }
        }
        if let Some(wait) = wait {
            self.look_again(wait);
        }
        if let Some((mut entry, subject)) = next {
            entry.started = truth.now;
            entry.deadline = truth.now + SLICE;
            self.propose(Step::Disable(Box::new(Disable {
                entry,
                target: None,
                grant: None,
                subject,
            })));
        }
    }
}
