//! What becomes of one grant. No IO.

use std::time::Duration;

use livepatch_crds::LivepatchType;
use livepatch_crds::node::DesiredState;
use livepatch_planner::node::Mode;
use livepatch_planner::node::situation::supersedes;

use super::advance::Advance;
use super::verdict::{Verdict, reasons};
use super::{Work, bookkeeping};
use crate::journal::{Entry, Failure, Intent, Pair, Phase};
use crate::retry::Subject;
use crate::validate::{self, Wish};

/// Wait for the entry of a livepatch that is no longer in use: its workqueue takes milliseconds.
const VANISHES: Duration = Duration::from_millis(500);

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
    /// Plans that have taken something out already go on before anything else: what they took out is missing meanwhile.
    pub(super) fn begun_plans(&mut self, wishes: &[Wish<'_>], verdicts: &mut [Option<Verdict>]) {
        for (wish, slot) in wishes.iter().zip(verdicts) {
            let entry = self.journal.as_ref().and_then(|journal| journal.entry_for(wish.grant));
            if entry.is_some_and(|entry| entry.phase == Phase::Clearing) {
                *slot = Some(self.grant(wish));
            }
        }
        // Whether one of them waits does not concern those that are to be brought back.
        self.cumulative_to_come = false;
    }

    pub(super) fn new_plans(&mut self, wishes: &[Wish<'_>], verdicts: &mut [Option<Verdict>]) {
        for index in validate::working_order(wishes) {
            if let (Some(wish), Some(slot)) = (wishes.get(index), verdicts.get_mut(index))
                && slot.is_none()
            {
                *slot = Some(self.grant(wish));
            }
        }
    }

    fn grant(&mut self, wish: &Wish<'_>) -> Verdict {
        if let Err(failure) = &wish.form {
            return Verdict::failed(failure);
        }
        let truth = self.snapshot.truth;
        let module = &wish.grant.module;
        if module.kernel_build_id != truth.kernel_build_id() {
            let message = format!("granted for kernel build {}", module.kernel_build_id);
            return Verdict::failed(&Failure::new(reasons::WRONG_KERNEL, &message));
        }
        let gap = self.entry_for(wish).and_then(|entry| entry.gap_milliseconds);
        self.judge(wish).with_gap(gap)
    }

    fn judge(&mut self, wish: &Wish<'_>) -> Verdict {
        if wish.grant.state == DesiredState::Absent {
            return self.absence(wish);
        }
        if bookkeeping::is_loaded(self.snapshot.truth, wish) {
            return self.loaded(wish);
        }
        if self.is_superseded(wish) {
            return Verdict::superseded();
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
        // Whatever keeps it: a cumulative that is still to come would throw out what is loaded before it. One that has failed
        // does not come in this attempt, and what a later one throws out comes back.
        if wish.grant.livepatch_type == LivepatchType::Cumulative && !verdict.is_failed() {
            self.cumulative_to_come = true;
        }
        verdict
    }

    fn entry_for(&self, wish: &Wish<'_>) -> Option<&Entry> {
        self.journal.as_ref()?.entry_for(wish.grant)
    }

    fn loaded(&self, wish: &Wish<'_>) -> Verdict {
        let entries = self.journal.as_ref().map_or(&[][..], |journal| &journal.entries);
        let remains =
            |entry: &&Entry| matches!(&entry.phase, Phase::Retiring { by, .. } if *by == wish.grant.module.sha256);
        match entries.iter().find(remains) {
            None => Verdict::loaded(&self.way(wish)),
            Some(predecessor) => {
                let waiting = self.snapshot.retries.last(&Subject::Retire(predecessor.pair.clone()));
                Verdict::predecessor_remains(waiting.map(|waiting| &waiting.failure))
            }
        }
    }

    /// How it came to be, where that was more than a load, and why that way.
    fn way(&self, wish: &Wish<'_>) -> String {
        match self.entry_for(wish).and_then(|entry| entry.plan.as_ref()) {
            Some(Intent { mode, because, .. }) if *mode != Mode::Load => format!("{mode}: {}", because.join("; ")),
            _ => String::new(),
        }
    }

    /// Whether the cumulative livepatch in effect says that it contains what is granted.
    fn is_superseded(&self, wish: &Wish<'_>) -> bool {
        let truth = self.snapshot.truth;
        let contains = |entry: &&Entry| {
            entry.cumulative
                && entry.is_in_effect()
                && truth
                    .standing(&entry.module, &entry.build_id)
                    .is_some_and(livepatch_kernel::Standing::is_effective)
                && supersedes(&entry.policy, &wish.grant.set.name, &wish.grant.module.sha256)
        };
        let entries = self.journal.as_ref().map_or(&[][..], |journal| &journal.entries);
        wish.grant.livepatch_type == LivepatchType::OffBand && entries.iter().any(|entry| contains(&entry))
    }

    /// A grant of absence.
    fn absence(&mut self, wish: &Wish<'_>) -> Verdict {
        let truth = self.snapshot.truth;
        let module = &wish.grant.module;
        let Some(standing) = truth.standing(&module.name, &module.build_id) else {
            return Verdict::absent();
        };
        if standing.transition {
            return Verdict::transitioning(reasons::REMOVING, "", self.snapshot.blockers);
        }
        if !standing.enabled {
            return Verdict::pending(reasons::REMOVING, "its entry is about to go");
        }
        let subject = Subject::grant(wish.grant);
        if let Some(verdict) = self.kept_from(&subject) {
            return verdict;
        }
        let entry = self.entry_for(wish).cloned();
        let entry = entry.unwrap_or_else(|| Entry::begin(wish.grant, truth.boot.clone(), truth.now));
        let entry = Entry {
            boot: truth.boot.clone(),
            started: truth.now,
            deadline: Entry::begin(wish.grant, truth.boot.clone(), truth.now).deadline,
            ..entry
        };
        match self.advance(entry, Some(wish.grant), subject) {
            Advance::Refused(failure) => Verdict::failed(&failure),
            Advance::Waits(failure) => Verdict::waits_for(&failure),
            _ => Verdict::pending(reasons::REMOVING, "about to be disabled"),
        }
    }

    /// What is said of a livepatch that the kernel lists and that is not in effect; none if it may be begun.
    ///
    /// One that was disabled or replaced has an entry with `enabled` 0 and `transition` 0 for a while: the end of a
    /// transition clears `enabled` (`klp_complete_transition()`, and `klp_unpatch_replaced_patches()` while the transition
    /// of the replacing one still shows), and the entry goes only when a workqueue has come to it
    /// (`klp_free_patch_async()`; kernel/livepatch/{core,transition}.c, 5.1-7.2). What had its turn before may be begun
    /// meanwhile: the load waits for the name, to its own deadline. What is to be in effect has no verdict until its entry
    /// is gone, for by then the journal knows whose doing that was.
    fn in_transition(&mut self, wish: &Wish<'_>) -> Option<Verdict> {
        let module = &wish.grant.module;
        let truth = self.snapshot.truth;
        let entry = self.entry_for(wish);
        let ours = entry.is_some_and(Entry::is_under_way);
        let kept = entry.is_some_and(|entry| entry.is_in_effect() && entry.boot == truth.boot);
        match truth.standing(&module.name, &module.build_id) {
            Some(_) if ours => Some(self.under_way_verdict(wish)),
            Some(standing) if standing.enabled => Some(Verdict::transitioning(
                reasons::FOREIGN_TRANSITION,
                "begun by somebody else",
                &[],
            )),
            Some(_) if !kept => None,
            Some(standing) if !standing.transition => {
                self.look_again(VANISHES);
                Some(Verdict::pending(reasons::VANISHING, "its entry is about to go"))
            }
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
                } else if self.busy {
                    // A transition that ends while the kernel is being read shows what it replaced as gone already.
                    let message = "another livepatch is in transition";
                    Standing::Closed(Verdict::pending(reasons::VANISHING, message))
                } else {
                    Standing::Closed(Verdict::failed(&drifted()))
                }
            }
            Phase::Settled | Phase::Displaced | Phase::Starting { again: true } => {
                Standing::Closed(self.restoring(entry))
            }
            Phase::Starting { again: false } if entry.is_attempt(grant) => Standing::Begun(entry.starts),
            _ => Standing::Open,
        }
    }

    fn restoring(&self, entry: &Entry) -> Verdict {
        if let Some(obstacle) = self.obstacle.as_ref().filter(|_| !self.may_restore(entry)) {
            return Verdict::hindered(obstacle);
        }
        if let Some(failure) = self.not_restored.get(&entry.pair) {
            return Verdict::failed(failure);
        }
        if let Some(waiting) = self.snapshot.retries.last(&Subject::Restore(entry.pair.clone())) {
            return Verdict::waits_for(&waiting.failure);
        }
        let message = match &entry.absence {
            Some(absence) if !absence.by.is_empty() => "out of effect by the load of another livepatch",
            Some(_) => "somebody disabled it",
            None => "in effect before the reboot",
        };
        Verdict::pending(reasons::RESTORING, message)
    }

    /// What keeps a grant from being begun now.
    fn kept_from(&mut self, subject: &Subject) -> Option<Verdict> {
        if let Some(obstacle) = &self.obstacle {
            return Some(Verdict::hindered(obstacle));
        }
        let now = self.snapshot.truth.now;
        if let Some(waiting) = self.snapshot.retries.waiting(subject, now) {
            let verdict = Verdict::waits_for(&waiting.failure);
            let after = waiting.until.since(now);
            self.look_again(after);
            return Some(verdict);
        }
        if self.occupied() {
            return Some(
                self.last_said(subject)
                    .unwrap_or_else(|| Verdict::pending(reasons::QUEUED, "another step of this node comes first")),
            );
        }
        None
    }

    /// While something is tried again, what is said does not change: that would be a write for nothing.
    fn last_said(&self, subject: &Subject) -> Option<Verdict> {
        let waiting = self.snapshot.retries.last(subject)?;
        Some(Verdict::waits_for(&waiting.failure))
    }

    fn begin(&mut self, wish: &Wish<'_>, starts: u32) -> Verdict {
        if let Some(reason) = &wish.grant.failed {
            // Its slot is another node's by now.
            let message = "the operator counts this grant as failed, so it is not begun any more; a new attempt is";
            return Verdict::failed(&Failure::new(reason, message));
        }
        let subject = Subject::grant(wish.grant);
        let truth = self.snapshot.truth;
        let waiting = self.snapshot.retries.waiting(&subject, truth.now).is_some();
        if self.cumulative_to_come
            && self.obstacle.is_none()
            && !waiting
            && wish.grant.livepatch_type == LivepatchType::OffBand
        {
            return Verdict::pending(
                reasons::WAITING_FOR_CUMULATIVE,
                "the cumulative livepatch is loaded first",
            );
        }
        if let Some(verdict) = self.kept_from(&subject) {
            return verdict;
        }
        let said = self.last_said(&subject);
        let mut entry = Entry::begin(wish.grant, truth.boot.clone(), truth.now);
        entry.starts = starts;
        match self.advance(entry.clone(), Some(wish.grant), subject) {
            Advance::Done(Mode::Superseded) => Verdict::superseded(),
            Advance::Done(_) => Verdict::loaded(""),
            Advance::Takes(mode) => {
                said.unwrap_or_else(|| Verdict::pending(reasons::STARTING, &format!("about to be loaded, mode {mode}")))
            }
            Advance::Prepares => {
                said.unwrap_or_else(|| Verdict::pending(reasons::PREPARING, "fetching and checking the module"))
            }
            Advance::Waits(failure) => Verdict::waits_for(&failure),
            Advance::Refused(failure) => {
                let verdict = Verdict::failed(&failure);
                self.refuse(entry, Phase::Failed { failure });
                verdict
            }
        }
    }

    /// Writes down that a grant cannot be followed.
    fn refuse(&mut self, entry: Entry, phase: Phase) {
        let Some(mut journal) = self.journal.clone() else {
            return;
        };
        journal.put(Entry {
            boot: self.snapshot.truth.boot.clone(),
            phase,
            ..entry
        });
        self.propose(super::Step::Write(journal));
    }
}
