//! From a plan to its first step. No IO.

use std::time::Duration;

use livepatch_crds::node::Grant;
use livepatch_planner::node::{self as planner, Action, Answer, Mode, Plan, Refusal};

use super::situation::{self, Owned};
use super::verdict::reasons;
use super::{Disable, Load, Preparation, Step, Work};
use crate::journal::{Entry, Failure, Intent, Pair, Phase};
use crate::retry::Subject;

/// How a plan gets on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Advance {
    /// All is as it should be, in this way.
    Done(Mode),
    /// A step is taken.
    Takes(Mode),
    /// Modules are brought to the node first.
    Prepares,
    /// It waits for something that passes.
    Waits(Failure),
    /// It is refused.
    Refused(Failure),
}

impl Work<'_> {
    /// Plans for an entry and proposes the plan's first step. Nothing else may be proposed yet. `grant` is what asks
    /// for it; `None` for a return to what was in effect before, which asks nobody.
    pub(super) fn advance(&mut self, entry: Entry, grant: Option<&Grant>, subject: Subject) -> Advance {
        let owned = Owned::of(self);
        let answer = planner::plan(&owned.situation(self.snapshot), &situation::wish(&entry, grant));
        match answer {
            Answer::Refused(refusal) => Advance::Refused(failure(&refusal)),
            Answer::Waits(refusal) => Advance::Waits(failure(&refusal)),
            Answer::Needs(keys) => {
                let wanted = keys.first().and_then(|key| self.module_of(key, &entry, grant));
                let Some(wanted) = wanted else {
                    let message = "it is not known where a module that the way back needs comes from";
                    return Advance::Refused(Failure::new(reasons::MODULE_UNKNOWN, message));
                };
                self.propose(Step::Prepare(Box::new(Preparation {
                    granted: wanted.pair == entry.pair && grant.is_some(),
                    wanted,
                    target: entry,
                    subject,
                })));
                Advance::Prepares
            }
            Answer::Plan(plan) => match plan.steps.first() {
                None => Advance::Done(plan.mode),
                Some(first) => {
                    let (action, key) = (first.action, first.key.clone());
                    self.take(&plan, action, key.as_ref(), entry, grant, subject)
                }
            },
        }
    }

    fn take(
        &mut self,
        plan: &Plan,
        action: Action,
        key: Option<&planner::Key>,
        mut entry: Entry,
        grant: Option<&Grant>,
        subject: Subject,
    ) -> Advance {
        let mode = plan.mode;
        let begun = self
            .journal
            .as_ref()
            .and_then(|journal| journal.entry(&entry.set_uid, &entry.pair))
            .filter(|begun| begun.phase == Phase::Clearing);
        // A plan that is begun was confirmed, and keeps the intent it was begun with.
        let confirm = grant.filter(|_| begun.is_none()).cloned();
        entry.plan = begun.map_or_else(|| Some(intent(plan)), |begun| begun.plan.clone());
        match action {
            Action::Load => self.propose(Step::Load(Box::new(Load {
                entry,
                grant: confirm,
                subject,
            }))),
            Action::Disable if mode == Mode::Remove => {
                entry.phase = Phase::Removing;
                self.propose(Step::Disable(Box::new(Disable {
                    entry,
                    target: None,
                    grant: confirm,
                    subject,
                })));
            }
            Action::Disable | Action::Unload => {
                let goes = key.and_then(|key| self.entry_of(key).cloned());
                let Some(mut goes) = goes else {
                    let message = "it is not known whose livepatch has to be disabled first";
                    return Advance::Refused(Failure::new(reasons::MODULE_UNKNOWN, message));
                };
                let now = self.snapshot.truth.now;
                let settled = goes.has_settled();
                goes.displace(&entry.pair.sha256, now, settled);
                goes.started = now;
                goes.deadline = now + Duration::from_secs(entry.timeout_seconds.into());
                // A return asks nobody and cannot be called off: it stays among what is missing.
                match (grant, &entry.absence) {
                    (Some(_), _) => entry.phase = Phase::Clearing,
                    (None, Some(_)) => entry.phase = Phase::Displaced,
                    (None, None) => entry.displace("", now, true),
                }
                self.propose(Step::Disable(Box::new(Disable {
                    entry: goes,
                    target: Some(entry),
                    grant: confirm,
                    subject,
                })));
            }
        }
        Advance::Takes(mode)
    }

    fn entry_of(&self, key: &planner::Key) -> Option<&Entry> {
        let kernel_build_id = self.snapshot.truth.kernel_build_id().to_owned();
        let pair = Pair {
            kernel_build_id,
            sha256: key.sha256.clone(),
        };
        self.journal.as_ref()?.entry(&key.set_uid, &pair)
    }

    /// Where a module comes from: its own grant, the journal, or the grant that names it as its predecessor.
    fn module_of(&self, key: &planner::Key, entry: &Entry, grant: Option<&Grant>) -> Option<Entry> {
        if key.sha256 == entry.pair.sha256 {
            return Some(entry.clone());
        }
        let known = self.entry_of(key).cloned();
        known.or_else(|| {
            let previous = grant?.previous.as_ref().filter(|module| module.sha256 == key.sha256)?;
            Some(Entry::of_module(entry, previous))
        })
    }
}

fn failure(refusal: &Refusal) -> Failure {
    Failure::new(&refusal.reason, &refusal.message)
}

fn intent(plan: &Plan) -> Intent {
    let after_commit = plan.commit.as_ref().map_or(0, |commit| commit.step + 1);
    let restores = plan
        .steps
        .iter()
        .skip(after_commit)
        .filter(|step| step.action == Action::Load);
    Intent {
        mode: plan.mode,
        because: plan.because.clone(),
        restores: restores
            .filter_map(|step| Some(step.key.as_ref()?.sha256.clone()))
            .collect(),
        // The first is the module itself.
        way_back: plan.verified.iter().skip(1).map(|key| key.sha256.clone()).collect(),
    }
}
