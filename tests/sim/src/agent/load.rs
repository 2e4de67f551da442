//! Loading and disabling: the last checks, the two live reads, the intent, and the kernel's operation to its end, as
//! `livepatch_agent::{apply, fetch, operate}` do it.

use std::sync::Arc;
use std::time::Duration;

use livepatch_agent::aftermath::{before_disable, before_load};
use livepatch_agent::conclude::unreadable;
use livepatch_agent::decide::{Disable, Key, Load};
use livepatch_agent::foreseen;
use livepatch_agent::journal::{Entry, Failure};
use livepatch_agent::operate::{blockers_of, request};
use livepatch_agent::retry::Subject;
use livepatch_agent::store::sha256_of;
use livepatch_crds::node::{Blocker, Grant};
use livepatch_kernel::Kernel as _;
use livepatch_kernel::operation::{self, DisableOutcome, LoadOutcome, OnTimeout, Operation as _, Roster, Step};

use super::confirm::Confirming;
use super::{Agent, Doing, Host, PROGRESS};
use crate::coverage::Point;
use crate::ctx::Ctx;
use crate::event::AgentTick;
use crate::mutant::Mutant;

/// Something that is done to the kernel, on its way.
pub(crate) struct Working {
    /// The entry, to be written before the kernel is asked.
    pub entry: Entry,
    pub subject: Subject,
    pub purpose: Purpose,
    pub stage: Stage,
}

impl std::fmt::Debug for Working {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Working")
            .field("module", &self.entry.module)
            .finish_non_exhaustive()
    }
}

/// What for.
#[expect(
    clippy::large_enum_variant,
    reason = "one of them is alive in each agent, and lives as long as a load"
)]
pub(crate) enum Purpose {
    Load {
        image: Arc<[u8]>,
    },
    /// A livepatch is disabled, for the plan of another entry perhaps.
    Disable {
        target: Option<Entry>,
    },
}

#[expect(
    clippy::large_enum_variant,
    reason = "one of them is alive in each agent, and lives as long as a load"
)]
pub(crate) enum Stage {
    /// The object and the Lease are being read.
    Confirming(Confirming),
    /// The kernel works.
    Loading(operation::Load),
    Disabling(operation::Disable),
    /// It ended, and a status may still be on its way.
    Loaded(LoadOutcome),
    Disabled(DisableOutcome),
}

impl Agent {
    pub(super) fn load(&mut self, ctx: &mut Ctx, host: &mut Host<'_>, load: Load) {
        let Load { entry, grant, subject } = load;
        let Some(image) = Self::image(ctx, host, &entry) else {
            // Damaged since it was checked: to be fetched anew.
            self.memory.prepared.remove(&entry.pair.sha256);
            return;
        };
        if !self.way_back_is_here(ctx, host, &entry) {
            return;
        }
        // What was in effect a moment ago is asked of the kernel at once.
        if entry.absence.is_none()
            && let Some(failure) = self.preflight(host, &entry)
        {
            return match failure {
                Ok(certain) => self.give_up(ctx, host, entry, certain),
                Err(passing) => self.wait_with(ctx, host, subject, passing),
            };
        }
        self.confirm(ctx, host, (entry, subject, Purpose::Load { image }), grant);
    }

    pub(super) fn disable(&mut self, ctx: &mut Ctx, host: &mut Host<'_>, disable: Disable) {
        let Disable {
            entry,
            target,
            grant,
            subject,
        } = disable;
        if let Some(target) = &target
            && !self.way_back_is_here(ctx, host, target)
        {
            return;
        }
        if let Some(target) = &target
            && let Some(failure) = self.preflight(host, target)
        {
            return match failure {
                Ok(certain) => self.give_up(ctx, host, target.clone(), certain),
                Err(passing) => self.wait_with(ctx, host, subject, passing),
            };
        }
        self.confirm(ctx, host, (entry, subject, Purpose::Disable { target }), grant);
    }

    /// The grant still stands, or none is needed.
    fn confirm(&mut self, ctx: &mut Ctx, host: &mut Host<'_>, what: (Entry, Subject, Purpose), grant: Option<Grant>) {
        let (entry, subject, purpose) = what;
        match grant.filter(|_| !ctx.is(Mutant::LiveReadsSkipped)) {
            Some(grant) => self.ask_to_confirm(ctx, entry, subject, purpose, grant),
            None => self.begin(ctx, host, entry, subject, purpose),
        }
    }

    /// The intent becomes durable, and the kernel's operation begins.
    pub(super) fn begin(
        &mut self,
        ctx: &mut Ctx,
        host: &mut Host<'_>,
        mut entry: Entry,
        subject: Subject,
        purpose: Purpose,
    ) {
        if matches!(purpose, Purpose::Load { .. }) {
            entry.roster = match Roster::take(host.seam) {
                Ok(roster) => roster,
                Err(error) => return self.wait_with(ctx, host, subject, unreadable(&error)),
            };
        }
        let (Some(journal), now) = (self.journal(), host.seam.now()) else {
            return;
        };
        let journal = match &purpose {
            Purpose::Load { .. } => before_load(journal, &mut entry, now),
            Purpose::Disable { target } => before_disable(journal, &mut entry, target.as_ref(), now),
        };
        if !ctx.is(Mutant::IntentAfterAct) && !self.keep(ctx, host, journal, Point::WriteIntent) {
            return;
        }
        let node = &self.node;
        let stage = match &purpose {
            Purpose::Load { image } => {
                ctx.say(|| {
                    format!(
                        "{node}: loads {} for {} attempt {}",
                        entry.module, entry.rollout, entry.attempt
                    )
                });
                Stage::Loading(operation::Load::new(request(&entry, Arc::clone(image))))
            }
            Purpose::Disable { .. } => {
                ctx.say(|| format!("{node}: disables {}", entry.module));
                Stage::Disabling(operation::Disable::new(
                    &entry.module,
                    entry.deadline,
                    OnTimeout::Revert,
                ))
            }
        };
        self.work(ctx, entry, subject, purpose, stage);
    }

    pub(super) fn follow(&mut self, ctx: &mut Ctx, host: &mut Host<'_>, key: &Key) {
        let Some(entry) = self
            .journal()
            .and_then(|journal| journal.entry(&key.set_uid, &key.pair))
            .cloned()
        else {
            return;
        };
        let node = &self.node;
        ctx.say(|| format!("{node}: goes on with {}", entry.module));
        let subject = Subject::Follow(entry.pair.clone());
        if entry.is_going() {
            let operation = operation::Disable::new(&entry.module, entry.deadline, OnTimeout::Revert);
            let purpose = Purpose::Disable { target: None };
            return self.work(ctx, entry, subject, purpose, Stage::Disabling(operation));
        }
        let image = Self::image(ctx, host, &entry).unwrap_or_else(|| Arc::from(Vec::new()));
        let request = request(&entry, Arc::clone(&image));
        let operation = operation::Load::resume(request, entry.started, entry.roster.clone());
        self.work(ctx, entry, subject, Purpose::Load { image }, Stage::Loading(operation));
    }

    fn work(&mut self, ctx: &mut Ctx, entry: Entry, subject: Subject, purpose: Purpose, stage: Stage) {
        self.doing = Doing::Working(Box::new(Working {
            entry,
            subject,
            purpose,
            stage,
        }));
        self.schedule(ctx, Duration::from_millis(1), AgentTick::Operation);
        self.schedule(ctx, PROGRESS, AgentTick::Progress);
    }

    /// One step of what runs in the kernel.
    pub(super) fn operate(&mut self, ctx: &mut Ctx, host: &mut Host<'_>) {
        let wait = match &mut self.doing {
            Doing::Working(working) => match &mut working.stage {
                Stage::Loading(operation) => match operation.step(host.seam) {
                    Step::Wait(span) => span,
                    Step::Done(outcome) => {
                        working.stage = Stage::Loaded(outcome);
                        return self.conclude_if_alive(ctx, host);
                    }
                },
                Stage::Disabling(operation) => match operation.step(host.seam) {
                    Step::Wait(span) => span,
                    Step::Done(outcome) => {
                        working.stage = Stage::Disabled(outcome);
                        return self.conclude_if_alive(ctx, host);
                    }
                },
                Stage::Confirming(_) | Stage::Loaded(_) | Stage::Disabled(_) => return,
            },
            Doing::Removing { unload, .. } => match unload.step(host.seam) {
                Step::Wait(span) => span,
                Step::Done(outcome) => {
                    if let Doing::Removing { name, .. } = std::mem::replace(&mut self.doing, Doing::Stepping)
                        && host.seam.heard().died.is_none()
                    {
                        self.removed(ctx, host, name, &outcome);
                    }
                    return;
                }
            },
            Doing::Resting | Doing::Stepping | Doing::Preparing(_) => return,
        };
        self.schedule(ctx, wait.max(Duration::from_millis(1)), AgentTick::Operation);
    }

    fn conclude_if_alive(&mut self, ctx: &mut Ctx, host: &mut Host<'_>) {
        // Who has just died at the kernel's seam concludes nothing.
        let dead = host.seam.heard().died.is_some();
        if !dead {
            self.conclude_if_ended(ctx, host);
        }
    }

    pub(super) fn next_step(&mut self, ctx: &mut Ctx) {
        if matches!(self.doing, Doing::Stepping) && self.reporting.is_none() {
            self.pass_at(ctx, Duration::from_millis(1));
        }
    }

    /// Tasks in the way of what runs.
    pub(super) fn blockers(&self) -> Vec<Blocker> {
        match &self.doing {
            Doing::Working(working) => match &working.stage {
                Stage::Loading(operation) => blockers_of(operation.stragglers()),
                Stage::Disabling(operation) => blockers_of(operation.stragglers()),
                Stage::Confirming(_) | Stage::Loaded(_) | Stage::Disabled(_) => Vec::new(),
            },
            _ => Vec::new(),
        }
    }

    /// The bytes of an entry's module, if they are in the local store and undamaged.
    fn image(ctx: &Ctx, host: &Host<'_>, entry: &Entry) -> Option<Arc<[u8]>> {
        let bytes = host.disk.store.get(&entry.pair.sha256)?;
        (sha256_of(bytes) == entry.pair.sha256 || ctx.is(Mutant::DigestUnchecked)).then(|| Arc::clone(bytes))
    }

    /// Whether everything that the plan of an entry may bring back is on local disk, undamaged. What is not is to be
    /// fetched anew.
    fn way_back_is_here(&mut self, ctx: &Ctx, host: &Host<'_>, entry: &Entry) -> bool {
        let Some(plan) = &entry.plan else { return true };
        let is_there = |sha256: &String| {
            let bytes = host.disk.store.get(sha256);
            bytes.is_some_and(|bytes| sha256_of(bytes) == *sha256 || ctx.is(Mutant::DigestUnchecked))
        };
        let damaged: Vec<&String> = plan.way_back.iter().filter(|sha256| !is_there(sha256)).collect();
        for sha256 in &damaged {
            self.memory.prepared.remove(*sha256);
        }
        damaged.is_empty()
    }

    /// What is known to fail is not tried: `Ok` is such a failure, `Err` one to know.
    fn preflight(&self, host: &Host<'_>, entry: &Entry) -> Option<Result<Failure, Failure>> {
        let inspection = self.memory.prepared.get(&entry.pair.sha256)?;
        let foreseen = foreseen::failure(host.seam, &entry.module, inspection);
        foreseen.map_err(|error| unreadable(&error)).transpose()
    }
}
