//! What follows from how something ended: `livepatch_agent::aftermath` says what, and here it is done.

use livepatch_agent::aftermath::{Aftermath, after_disable, after_load, give_up};
use livepatch_agent::journal::{Entry, Failure};
use livepatch_agent::retry::Subject;
use livepatch_kernel::operation::UnloadOutcome;

use super::load::{Stage, Working};
use super::{Agent, Doing, Host};
use crate::coverage::Point;
use crate::ctx::Ctx;

impl Agent {
    /// What follows from how it ended, unless a status is still on its way.
    pub(super) fn conclude_if_ended(&mut self, ctx: &mut Ctx, host: &mut Host<'_>) {
        let ended = matches!(
            &self.doing,
            Doing::Working(working) if matches!(working.stage, Stage::Loaded(_) | Stage::Disabled(_))
        );
        if !ended || self.reporting.is_some() {
            return;
        }
        let Doing::Working(working) = std::mem::replace(&mut self.doing, Doing::Stepping) else {
            return;
        };
        let Working {
            entry, subject, stage, ..
        } = *working;
        self.memory.blockers.clear();
        let Some(journal) = self.journal() else { return };
        let (node, module) = (&self.node, &entry.module);
        let aftermath = match stage {
            Stage::Loaded(outcome) => {
                ctx.say(|| format!("{node}: {module}: {outcome:?}"));
                after_load(journal, entry.clone(), subject, outcome)
            }
            Stage::Disabled(outcome) => {
                ctx.say(|| format!("{node}: {module}: {outcome:?}"));
                after_disable(journal, &entry, subject, outcome)
            }
            Stage::Confirming(_) | Stage::Loading(_) | Stage::Disabling(_) => return,
        };
        self.face(ctx, host, aftermath, &entry);
        self.next_step(ctx);
    }

    fn face(&mut self, ctx: &mut Ctx, host: &mut Host<'_>, aftermath: Aftermath, entry: &Entry) {
        // Without `..`: nothing that follows can be forgotten.
        let Aftermath {
            journal,
            waits,
            ended,
            failed,
            loaded: _,
            unreturned,
        } = aftermath;
        if let Some(failure) = failed {
            let node = &self.node;
            ctx.say(|| {
                format!(
                    "{node}: {} failed: {} {}",
                    entry.module, failure.reason, failure.message
                )
            });
        }
        if let Some(journal) = journal {
            self.keep(ctx, host, journal, Point::WriteJournal);
        }
        if let Some(subject) = ended {
            self.memory.retries.forget(&subject);
        }
        if let Some((subject, failure)) = waits {
            if matches!(subject, Subject::Follow(_)) {
                self.memory.blockers.clone_from(&failure.blockers);
            }
            self.wait_with(ctx, host, subject, failure);
        }
        self.memory.unreturned.extend(unreturned);
    }

    pub(super) fn removed(&mut self, ctx: &mut Ctx, host: &mut Host<'_>, name: String, outcome: &UnloadOutcome) {
        match outcome {
            UnloadOutcome::Unloaded | UnloadOutcome::NotLoaded | UnloadOutcome::StillActive => {
                self.memory.retries.forget(&Subject::Leftover(name));
            }
            other => {
                let failure = Failure::new("LeftoverNotRemoved", &format!("{other:?}"));
                self.wait_with(ctx, host, Subject::Leftover(name), failure);
            }
        }
        self.next_step(ctx);
    }

    /// Notes a failure that does not pass.
    pub(super) fn give_up(&mut self, ctx: &mut Ctx, host: &mut Host<'_>, entry: Entry, failure: Failure) {
        if let Some(journal) = self.journal().cloned() {
            let aftermath = give_up(journal, entry.clone(), failure);
            self.face(ctx, host, aftermath, &entry);
        }
    }

    /// Told to leave: a boot that ends now ended cleanly.
    pub fn leave(&mut self, host: &mut Host<'_>) {
        if let Some(mut journal) = self.journal().cloned().filter(|_| self.running && !host.disk.full) {
            journal.boots.left = true;
            host.disk.journal = serde_json::to_string(&journal).ok();
        }
    }
}
