//! Doing one step. IO, and the only place from which the kernel is changed.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use livepatch_kernel::operation::{self, Loaded, OnTimeout, Operation, Roster, Unload, UnloadOutcome};
use tokio::sync::watch;

use crate::aftermath::{self, Aftermath};
use crate::agent::Agent;
use crate::conclude::{chain, unreadable};
use crate::decide::{Disable, JournalState, Key, Load, Step};
use crate::fetch::Seen;
use crate::foreseen;
use crate::journal::{Entry, Failure, Journal};
use crate::operate::{self, request};
use crate::references::DROPPED;
use crate::retry::Subject;
use crate::tidy::Uses;

impl Agent {
    pub(crate) async fn apply(&mut self, step: Step, seen: &Seen) {
        match step {
            Step::Nothing => {}
            Step::Write(journal) => {
                self.keep(journal).await;
            }
            Step::Prepare(preparation) => self.prepare(*preparation, seen).await,
            Step::Load(load) => self.load(*load).await,
            Step::Disable(disable) => self.disable(*disable).await,
            Step::Follow(key) => self.follow(&key).await,
            Step::RemoveLeftover(name) => self.remove_leftover(name).await,
        }
    }

    /// Makes the journal durable; from then on it is what is known. False if that failed.
    async fn keep(&mut self, journal: Journal) -> bool {
        let (file, content) = (self.file.clone(), journal.clone());
        match self.blocking(move || file.write(&content)).await {
            Ok(()) => {
                self.memory.retries.forget(&Subject::Journal);
                self.note_gaps(&journal);
                self.memory.journal = JournalState::Known(journal);
                true
            }
            Err(error) => {
                self.wait_with(Subject::Journal, Failure::new(error.reason(), &chain(&error)));
                false
            }
        }
    }

    /// Counts how long livepatches were out of effect that are back.
    fn note_gaps(&self, journal: &Journal) {
        let JournalState::Known(before) = &self.memory.journal else {
            return;
        };
        for entry in &journal.entries {
            let told = before
                .entry(&entry.set_uid, &entry.pair)
                .and_then(|entry| entry.gap_milliseconds);
            if let Some(gap) = entry.gap_milliseconds.filter(|gap| Some(*gap) != told) {
                self.metrics.observe_gap(Duration::from_millis(gap));
            }
        }
    }

    /// Notes a failure that passes.
    pub(crate) fn wait_with(&mut self, subject: Subject, failure: Failure) {
        tracing::warn!(reason = %failure.reason, subject = ?subject, "waiting: {}", failure.message);
        self.metrics.failed(&failure.reason);
        self.memory
            .retries
            .failed(subject, failure, self.kernel.now(), Self::jitter());
    }

    /// Notes a failure that does not.
    pub(crate) async fn give_up(&mut self, entry: Entry, failure: Failure) {
        if let JournalState::Known(journal) = &self.memory.journal {
            let aftermath = aftermath::give_up(journal.clone(), entry.clone(), failure);
            self.face(aftermath, &entry).await;
        }
    }

    /// Writes down what follows from an operation on `entry`.
    async fn face(&mut self, aftermath: Aftermath, entry: &Entry) {
        let Aftermath {
            journal,
            waits,
            ended,
            failed,
            loaded,
            unreturned,
        } = aftermath;
        if let Some(loaded) = loaded {
            self.note_load(&loaded, entry);
        }
        if let Some(failure) = failed {
            tracing::error!(
                reason = %failure.reason, set = %entry.set, rollout = %entry.rollout, module = %entry.module,
                "failed: {}", failure.message
            );
            self.metrics.failed(&failure.reason);
        }
        if let Some(journal) = journal {
            self.keep(journal).await;
        }
        if let Some(subject) = ended {
            self.memory.retries.forget(&subject);
        }
        if let Some((subject, failure)) = waits {
            if matches!(subject, Subject::Follow(_)) {
                self.memory.blockers.clone_from(&failure.blockers);
            }
            self.wait_with(subject, failure);
        }
        self.memory.unreturned.extend(unreturned);
    }

    fn note_load(&self, loaded: &Loaded, entry: &Entry) {
        let took = loaded.effective.since(loaded.called.unwrap_or(entry.started));
        self.metrics.observe_transition(took);
        if let Some(repair) = &loaded.repair {
            self.metrics.observe_gap(repair.gap);
        }
        tracing::info!(
            set = %entry.set, rollout = %entry.rollout, module = %entry.module,
            milliseconds = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            replaced = ?loaded.replaced, repair = ?loaded.repair, "loaded"
        );
    }

    async fn load(&mut self, load: Load) {
        let Load {
            mut entry,
            grant,
            subject,
        } = load;
        let Some(image) = self.image(&entry).await else {
            // Damaged since it was checked: to be fetched anew.
            self.memory.prepared.remove(&entry.pair.sha256);
            return;
        };
        if !self.way_back_is_here(&entry).await {
            return;
        }
        // What was in effect a moment ago is asked of the kernel at once: each look before it would lengthen the gap.
        if entry.absence.is_none()
            && let Some(failure) = self.preflight(&entry).await
        {
            return match failure {
                Ok(certain) => self.give_up(entry, certain).await,
                Err(passing) => self.wait_with(subject, passing),
            };
        }
        if let Some(grant) = &grant
            && let Err(failure) = self.confirm(grant).await
        {
            return self.wait_with(subject, failure);
        }
        let kernel = Arc::clone(&self.kernel);
        let roster = self.blocking(move || Roster::take(kernel.as_ref())).await;
        entry.roster = match roster {
            Ok(roster) => roster,
            Err(error) => return self.wait_with(subject, unreadable(&error)),
        };
        let JournalState::Known(journal) = &self.memory.journal else {
            return;
        };
        let journal = aftermath::before_load(journal, &mut entry, self.kernel.now());
        if !self.keep(journal).await {
            return;
        }
        tracing::info!(set = %entry.set, rollout = %entry.rollout, module = %entry.module, "loading");
        let operation = operation::Load::new(request(&entry, image));
        if let (Some(outcome), JournalState::Known(journal)) = (self.operate(operation).await, &self.memory.journal) {
            let aftermath = aftermath::after_load(journal, entry.clone(), subject, outcome);
            self.face(aftermath, &entry).await;
        }
    }

    /// Disables a livepatch: for a plan, for its successor, or because its absence was granted.
    async fn disable(&mut self, disable: Disable) {
        let Disable {
            mut entry,
            target,
            grant,
            subject,
        } = disable;
        if let Some(target) = &target
            && !self.way_back_is_here(target).await
        {
            return;
        }
        if let Some(target) = &target
            && let Some(failure) = self.preflight(target).await
        {
            return match failure {
                Ok(certain) => self.give_up(target.clone(), certain).await,
                Err(passing) => self.wait_with(subject, passing),
            };
        }
        if let Some(grant) = &grant
            && let Err(failure) = self.confirm(grant).await
        {
            return self.wait_with(subject, failure);
        }
        let JournalState::Known(journal) = &self.memory.journal else {
            return;
        };
        let journal = aftermath::before_disable(journal, &mut entry, target.as_ref(), self.kernel.now());
        if !self.keep(journal).await {
            return;
        }
        tracing::info!(set = %entry.set, module = %entry.module, phase = ?entry.phase, "disabling");
        let operation = operation::Disable::new(&entry.module, entry.deadline, OnTimeout::Revert);
        self.disabling(operation, &entry, subject).await;
    }

    async fn disabling(&mut self, operation: operation::Disable, entry: &Entry, subject: Subject) {
        if let (Some(outcome), JournalState::Known(journal)) = (self.operate(operation).await, &self.memory.journal) {
            let aftermath = aftermath::after_disable(journal, entry, subject, outcome);
            self.face(aftermath, entry).await;
        }
    }

    /// Whether everything that the plan of an entry may bring back is on local disk, undamaged, right now. What is not is
    /// to be fetched anew.
    async fn way_back_is_here(&mut self, entry: &Entry) -> bool {
        let needed: Vec<String> = match &entry.plan {
            Some(plan) => plan.way_back.clone(),
            None => return true,
        };
        let store = self.store.clone();
        let is_there = move |sha256: &String| matches!(store.read(sha256), Ok(Some(_)));
        let damaged: Vec<String> = self
            .blocking(move || needed.into_iter().filter(|sha256| !is_there(sha256)).collect())
            .await;
        for sha256 in &damaged {
            self.memory.prepared.remove(sha256);
        }
        damaged.is_empty()
    }

    /// What is known to fail is not tried: `Ok` is such a failure, `Err` one to know.
    async fn preflight(&self, entry: &Entry) -> Option<Result<Failure, Failure>> {
        let inspection = self.memory.prepared.get(&entry.pair.sha256)?.clone();
        let (kernel, module) = (Arc::clone(&self.kernel), entry.module.clone());
        let look = move || foreseen::failure(kernel.as_ref(), &module, &inspection);
        let foreseen = self.blocking(look).await;
        foreseen.map_err(|error| unreadable(&error)).transpose()
    }

    async fn follow(&mut self, key: &Key) {
        let JournalState::Known(journal) = &self.memory.journal else {
            return;
        };
        let Some(entry) = journal.entry(&key.set_uid, &key.pair).cloned() else {
            return;
        };
        tracing::info!(set = %entry.set, rollout = %entry.rollout, module = %entry.module, "going on with a transition");
        let subject = Subject::Follow(entry.pair.clone());
        if entry.is_going() {
            let operation = operation::Disable::new(&entry.module, entry.deadline, OnTimeout::Revert);
            return self.disabling(operation, &entry, subject).await;
        }
        // Without its image a lost race could not be repaired, but the transition goes on all the same.
        let image = self.image(&entry).await.unwrap_or_default();
        let operation = operation::Load::resume(request(&entry, image), entry.started, entry.roster.clone());
        if let (Some(outcome), JournalState::Known(journal)) = (self.operate(operation).await, &self.memory.journal) {
            let aftermath = aftermath::after_load(journal, entry.clone(), subject, outcome);
            self.face(aftermath, &entry).await;
        }
    }

    /// Steps an operation to its end. `None` if the agent is to stop, or the operation's thread died; the journal says
    /// what was begun.
    async fn operate<O>(&mut self, operation: O) -> Option<O::Outcome>
    where
        O: Operation + Send + 'static,
        O::Outcome: Send + 'static,
    {
        let (sender, mut receiver) = watch::channel(Vec::new());
        let (kernel, leave) = (Arc::clone(&self.kernel), self.leave.clone());
        let working = tokio::task::spawn_blocking(move || {
            let mut operation = operation;
            operate::to_its_end(&mut operation, kernel.as_ref(), &leave, &sender)
        });
        let ended = self.reporting_blockers(working.boxed(), Some(&mut receiver)).await;
        self.memory.blockers.clear();
        ended?.ok()?
    }

    async fn remove_leftover(&mut self, name: String) {
        let kernel = Arc::clone(&self.kernel);
        let module = name.clone();
        let outcome = self
            .blocking(move || {
                let mut unload = Unload::new(module, kernel.now() + DROPPED);
                operation::run(&mut unload, kernel.as_ref(), |_| {})
            })
            .await;
        let why = match outcome {
            UnloadOutcome::Unloaded | UnloadOutcome::NotLoaded | UnloadOutcome::StillActive => {
                return self.memory.retries.forget(&Subject::Leftover(name));
            }
            UnloadOutcome::NotALivepatch => "it is not known to be a livepatch".to_owned(),
            UnloadOutcome::StillReferenced { refcount } => format!("{refcount} references to it remain"),
            UnloadOutcome::Interrupted => "interrupted".to_owned(),
            UnloadOutcome::Refused(error) => error.to_string(),
            UnloadOutcome::Unreadable(error) => chain(&error),
        };
        let failure = Failure::new(
            "LeftoverNotRemoved",
            &format!("module {name} is no longer in use and stays: {why}"),
        );
        self.wait_with(Subject::Leftover(name), failure);
    }

    /// The bytes of an entry's module, if they are in the local store and undamaged.
    async fn image(&self, entry: &Entry) -> Option<Arc<[u8]>> {
        let (store, sha256) = (self.store.clone(), entry.pair.sha256.clone());
        let read = self.blocking(move || store.read(&sha256)).await;
        read.inspect_err(|error| tracing::warn!(reason = error.reason(), "{}", chain(error)))
            .ok()
            .flatten()
            .map(Arc::from)
    }

    /// Forgets what is of no use any more.
    pub(crate) fn tidy(&mut self, seen: &Seen) {
        let JournalState::Known(journal) = &self.memory.journal else {
            return;
        };
        let uses = Uses {
            journal,
            grants: seen.object.as_ref().map_or(&[][..], |object| &object.spec.livepatches),
            truth: &seen.truth,
        };
        let before = self.memory.prepared.len();
        self.memory.prepared.retain(|sha256, _| uses.need(sha256));
        if self.memory.prepared.len() != before || (!self.memory.tidied && seen.object.is_some()) {
            self.memory.tidied = true;
            self.store.retain(|sha256| uses.need(sha256));
        }
        self.memory.retries.retain(|subject| uses.concern(subject));
    }
}
