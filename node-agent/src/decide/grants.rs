//! What becomes of one grant. No IO.

use livepatch_crds::LivepatchType;

use super::verdict::{Verdict, reasons};
use super::{Load, Preparation, Step, Work, bookkeeping, coexist};
use crate::journal::{Entry, Failure, Pair, Phase};
use crate::retry::Subject;
use crate::validate::Wish;

/// How a grant stands with the journal.
enum Standing {
    /// It may be begun.
    Open,
    /// It was begun before, so often.
    Begun(u32),
    /// It is said and done.
    Closed(Verdict),
}

impl Work<'_> {
    pub(super) fn grant(&mut self, wish: &Wish<'_>) -> Verdict {
        if let Err(failure) = &wish.form {
            return Verdict::failed(failure);
        }
        let truth = self.snapshot.truth;
        let module = &wish.grant.module;
        if module.kernel_build_id != truth.kernel_build_id() {
            let message = format!("granted for kernel build {}", module.kernel_build_id);
            return Verdict::failed(&Failure::new(reasons::WRONG_KERNEL, &message));
        }
        if bookkeeping::is_loaded(truth, wish) {
            return Verdict::loaded();
        }
        if let Some(verdict) = self.in_transition(wish) {
            return verdict;
        }
        let starts = match self.standing(wish) {
            Standing::Closed(verdict) => return verdict,
            Standing::Open => 1,
            Standing::Begun(starts) => starts + 1,
        };
        let verdict = self.begin(wish, starts);
        // Whatever keeps it: a cumulative that is still to come would throw out what is loaded before it.
        if wish.grant.livepatch_type == LivepatchType::Cumulative {
            self.cumulative_to_come = true;
        }
        verdict
    }

    fn in_transition(&self, wish: &Wish<'_>) -> Option<Verdict> {
        let module = &wish.grant.module;
        let truth = self.snapshot.truth;
        let entry = self.journal.as_ref().and_then(|journal| journal.entry_for(wish.grant));
        let ours = entry.is_some_and(Entry::is_under_way);
        match truth.standing(&module.name, &module.build_id) {
            Some(_) if ours => Some(self.under_way_verdict(wish)),
            Some(standing) if standing.enabled => Some(Verdict::transitioning(
                reasons::FOREIGN_TRANSITION,
                "begun by somebody else",
                &[],
            )),
            Some(_) => Some(Verdict::failed(&Failure::new(
                reasons::DRIFTED,
                "somebody is disabling it",
            ))),
            None if ours && truth.coming_or_going.contains(&module.name) => Some(Verdict::transitioning(
                reasons::TRANSITION,
                "finit_module has not returned",
                &[],
            )),
            None => None,
        }
    }

    /// While a transition is past its deadline, why it goes on all the same.
    fn under_way_verdict(&self, wish: &Wish<'_>) -> Verdict {
        let follow = Subject::Follow(Pair::of(wish.grant));
        match self.snapshot.retries.last(&follow) {
            Some(waiting) => Verdict::transitioning(
                &waiting.failure.reason,
                &waiting.failure.message,
                &waiting.failure.blockers,
            ),
            None => Verdict::transitioning(reasons::TRANSITION, "", self.snapshot.blockers),
        }
    }

    fn standing(&self, wish: &Wish<'_>) -> Standing {
        let grant = wish.grant;
        let Some(journal) = &self.journal else {
            return Standing::Open;
        };
        let quarantine = journal.entries.iter().find_map(|entry| match &entry.phase {
            Phase::Quarantined { failure } if entry.pair == Pair::of(grant) && !entry.is_retried_by(grant) => {
                Some(failure)
            }
            _ => None,
        });
        if let Some(failure) = quarantine {
            return Standing::Closed(Verdict::failed(failure));
        }
        let Some(entry) = journal.entry_for(grant) else {
            return Standing::Open;
        };
        let drifted = || Failure::new(reasons::DRIFTED, "it was in effect, and somebody disabled it");
        match &entry.phase {
            Phase::Failed { failure } if entry.is_attempt(grant) => Standing::Closed(Verdict::failed(failure)),
            Phase::NotRestored { failure } if !entry.is_retried_by(grant) => Standing::Closed(Verdict::failed(failure)),
            Phase::Applied { .. } | Phase::Settled if entry.boot == self.snapshot.truth.boot => {
                if entry.is_retried_by(grant) {
                    Standing::Open
                } else {
                    Standing::Closed(Verdict::failed(&drifted()))
                }
            }
            Phase::Settled | Phase::Starting { again: true } => Standing::Closed(self.restoring(entry)),
            Phase::Starting { again: false } if entry.is_attempt(grant) => Standing::Begun(entry.starts),
            _ => Standing::Open,
        }
    }

    fn restoring(&self, entry: &Entry) -> Verdict {
        if let Some(obstacle) = &self.obstacle {
            return Verdict::waits_for(obstacle);
        }
        match self.snapshot.retries.last(&Subject::Restore(entry.pair.clone())) {
            Some(waiting) => Verdict::waits_for(&waiting.failure),
            None => Verdict::pending(reasons::RESTORING, "in effect before the reboot"),
        }
    }

    fn begin(&mut self, wish: &Wish<'_>, starts: u32) -> Verdict {
        if let Some(obstacle) = &self.obstacle {
            return Verdict::waits_for(obstacle);
        }
        let truth = self.snapshot.truth;
        let subject = Subject::grant(wish.grant);
        if let Some(waiting) = self.snapshot.retries.waiting(&subject, truth.now) {
            let verdict = Verdict::waits_for(&waiting.failure);
            let after = waiting.until.since(truth.now);
            self.look_again(after);
            return verdict;
        }
        if self.cumulative_to_come && wish.grant.livepatch_type == LivepatchType::OffBand {
            return Verdict::pending(
                reasons::WAITING_FOR_CUMULATIVE,
                "the cumulative livepatch is loaded first",
            );
        }
        // While it is tried again, what is said does not change: that would be a write for nothing.
        let said = self
            .snapshot
            .retries
            .last(&subject)
            .map(|waiting| Verdict::waits_for(&waiting.failure));
        if self.occupied() {
            return said.unwrap_or_else(|| Verdict::pending(reasons::QUEUED, "another step of this node comes first"));
        }
        let mut entry = Entry::begin(wish.grant, truth.boot.clone(), truth.now);
        entry.starts = starts;
        let Some(inspection) = self.snapshot.prepared.get(&entry.pair.sha256) else {
            self.propose(Step::Prepare(Box::new(Preparation {
                entry,
                subject,
                again: false,
            })));
            return said.unwrap_or_else(|| Verdict::pending(reasons::PREPARING, "fetching and checking the module"));
        };
        if let Err(failure) = coexist::judge(&self.newcomer(&entry, inspection)) {
            let verdict = Verdict::failed(&failure);
            self.refuse(entry, Phase::Failed { failure });
            return verdict;
        }
        self.propose(Step::Load(Box::new(Load {
            entry,
            grant: Some(wish.grant.clone()),
        })));
        said.unwrap_or_else(|| Verdict::pending(reasons::STARTING, "about to be loaded"))
    }
}
