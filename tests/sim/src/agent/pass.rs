//! Passes: fetch, decide, report, and what a step needs of the disk.

use std::time::Duration;

use livepatch_agent::decide::{Decision, IDLE, JournalState, Snapshot, Step, decide};
use livepatch_agent::journal::{Failure, Journal};
use livepatch_agent::references::DROPPED;
use livepatch_agent::retry::Subject;
use livepatch_agent::status;
use livepatch_agent::tidy::Uses;
use livepatch_agent::truth::Truth;
use livepatch_crds::{NodeLivepatch, NodeLivepatchStatus};
use livepatch_kernel::Kernel as _;
use livepatch_kernel::operation::Unload;

use super::{Agent, CALL, Doing, Host, Reported};
use crate::api::ask::{Answer, Ask, Fault};
use crate::coverage::{Moment, Point};
use crate::ctx::Ctx;
use crate::event::AgentTick;
use crate::modules::Shelf;
use crate::mutant;

/// Most steps in one pass.
const MAX_STEPS: u32 = 64;
/// What a step takes.
const STEP: Duration = Duration::from_millis(2);

/// What became of a status.
pub(super) enum Told {
    Sent,
    /// It was not to be sent; when to look at that again.
    Not(Duration),
}

impl Agent {
    /// Reads the kernel.
    pub(super) fn truth(&mut self, host: &Host<'_>) -> Option<Truth> {
        let names = self.memory.journal.modules_under_way();
        let mut truth = Truth::read(host.seam, &names).ok()?;
        self.memory.unreturned.retain(|name| truth.livepatch(name).is_none());
        truth.coming_or_going.extend(self.memory.unreturned.iter().cloned());
        truth.pinned = self.memory.references.pinned(&truth);
        Some(truth)
    }

    fn decide(&self, ctx: &Ctx, host: &Host<'_>, truth: &Truth) -> Decision {
        let journal = mutant::changed_journal(ctx, &self.memory.journal, truth);
        let object = self.desired.object();
        decide(&Snapshot {
            spec: object.map(|object| &object.spec),
            truth,
            journal: journal.as_ref().unwrap_or(&self.memory.journal),
            stop: host.stop,
            prepared: &self.memory.prepared,
            retries: &self.memory.retries,
            blockers: &self.memory.blockers,
            settle: host.settle,
        })
    }

    /// One step, or the beginning of a pass.
    pub(super) fn pass(&mut self, ctx: &mut Ctx, shelf: &Shelf, host: &mut Host<'_>) {
        match self.doing {
            Doing::Resting => self.steps = 0,
            Doing::Stepping => {}
            Doing::Preparing(_) | Doing::Working(_) | Doing::Removing { .. } => return,
        }
        if self.reporting.is_some() {
            return;
        }
        self.doing = Doing::Stepping;
        self.steps += 1;
        if self.steps > MAX_STEPS {
            return self.rest(ctx, Duration::from_secs(1));
        }
        let Some(truth) = self.truth(host) else {
            return self.rest(ctx, IDLE);
        };
        let decision = self.decide(ctx, host, &truth);
        let told = if matches!(decision.step, Step::Nothing | Step::RemoveLeftover(_)) {
            self.report(ctx, host, &truth, &decision)
        } else {
            Told::Not(IDLE)
        };
        if decision.step == Step::Nothing {
            self.tidy(host, &truth);
            match told {
                Told::Sent => self.rest_after_report = Some(decision.recheck),
                Told::Not(again) => self.rest(ctx, decision.recheck.min(again)),
            }
            return;
        }
        self.apply(ctx, shelf, host, decision.step, &truth);
        if matches!(self.doing, Doing::Stepping) && self.reporting.is_none() {
            self.pass_at(ctx, STEP);
        }
    }

    /// Until something changes, or it is time to look again.
    pub(super) fn rest(&mut self, ctx: &mut Ctx, recheck: Duration) {
        self.doing = Doing::Resting;
        self.pass_at(ctx, recheck.max(Duration::from_millis(1)));
    }

    fn apply(&mut self, ctx: &mut Ctx, shelf: &Shelf, host: &mut Host<'_>, step: Step, truth: &Truth) {
        match step {
            Step::Nothing => {}
            Step::Write(journal) => _ = self.keep(ctx, host, journal, Point::WriteJournal),
            Step::Prepare(preparation) => self.prepare(ctx, shelf, host, *preparation, truth),
            Step::Load(load) => self.load(ctx, host, *load),
            Step::Disable(disable) => self.disable(ctx, host, *disable),
            Step::Follow(key) => self.follow(ctx, host, &key),
            Step::RemoveLeftover(name) => {
                let unload = Unload::new(name.clone(), host.seam.now() + DROPPED);
                self.doing = Doing::Removing { name, unload };
                self.schedule(ctx, STEP, AgentTick::Operation);
            }
        }
    }

    /// Makes the journal durable; from then on it is what is known. False if that failed, or the agent died.
    pub(super) fn keep(&mut self, ctx: &mut Ctx, host: &mut Host<'_>, journal: Journal, point: Point) -> bool {
        if self.dies(ctx, point, Moment::Before) {
            return false;
        }
        if host.disk.full {
            let failure = Failure::new("JournalNotWritable", "no space left on device");
            self.wait_with(ctx, host, Subject::Journal, failure);
            return false;
        }
        host.disk.journal = serde_json::to_string(&journal).ok();
        self.memory.retries.forget(&Subject::Journal);
        self.memory.journal = JournalState::Known(journal);
        !self.dies(ctx, point, Moment::After)
    }

    pub(super) fn wait_with(&mut self, ctx: &mut Ctx, host: &Host<'_>, subject: Subject, failure: Failure) {
        let node = &self.node;
        ctx.say(|| format!("{node}: waits with {subject:?}: {} {}", failure.reason, failure.message));
        let (now, jitter) = (host.seam.now(), ctx.jitter());
        self.memory.retries.failed(subject, failure, now, jitter);
    }

    /// Sends the status if it is another one than the API server has.
    pub(super) fn report(&mut self, ctx: &mut Ctx, host: &Host<'_>, truth: &Truth, decision: &Decision) -> Told {
        let Some(object) = self.desired.object().cloned() else {
            return Told::Not(IDLE);
        };
        let before = self.standing_status(&object);
        let wall = ctx.clock.wall(jiff::SignedDuration::ZERO);
        let mut said = status::status(&object, truth, &self.memory.journal, decision, &before, wall);
        mutant::change_node_status(ctx, &mut said);
        let Some(uid) = object.metadata.uid.clone() else {
            return Told::Not(IDLE);
        };
        let has_one = object.status.is_some() || self.memory.reported.as_ref().is_some_and(|told| told.uid == uid);
        if (has_one && said == before) || self.reporting.is_some() {
            return Told::Not(IDLE);
        }
        let now = host.seam.now();
        if let Some(waiting) = self.memory.retries.waiting(&Subject::Report, now) {
            return Told::Not(waiting.until.since(now));
        }
        if self.dies(ctx, Point::WriteStatus, Moment::Before) {
            return Told::Not(IDLE);
        }
        let ask = Ask::AgentStatus {
            node: self.node.clone(),
            uid: uid.clone(),
            status: Box::new(said.clone()),
        };
        let id = ctx.call(self.caller(), ask, CALL);
        self.just_said = Some(said.clone());
        self.reporting = Some((id, uid, said));
        self.dies(ctx, Point::WriteStatus, Moment::Sent);
        Told::Sent
    }

    /// The status that the API server has: what this agent wrote last, unless the watch has seen a later one.
    fn standing_status(&self, object: &NodeLivepatch) -> NodeLivepatchStatus {
        let version = object
            .metadata
            .resource_version
            .as_deref()
            .and_then(|text| text.parse().ok());
        match &self.memory.reported {
            Some(reported)
                if object.metadata.uid.as_ref() == Some(&reported.uid)
                    && version.is_none_or(|version: u64| version <= reported.version) =>
            {
                reported.status.clone()
            }
            _ => object.status.clone().unwrap_or_default(),
        }
    }

    pub(super) fn reported(&mut self, ctx: &mut Ctx, host: &mut Host<'_>, answer: Answer) {
        if self.dies(ctx, Point::WriteStatus, Moment::After) {
            return;
        }
        let Some((_, uid, status)) = self.reporting.take() else {
            return;
        };
        let mut again = IDLE;
        match answer {
            Answer::NodeObject(Some(object)) => {
                self.memory.retries.forget(&Subject::Report);
                self.memory.reported = Some(Reported {
                    uid,
                    version: object.version,
                    status,
                });
            }
            answer => {
                let reason = match answer {
                    Answer::Failed(Fault::Refused) => "ApiServerRefused",
                    _ => "ApiServerUnavailable",
                };
                self.wait_with(
                    ctx,
                    host,
                    Subject::Report,
                    Failure::new(reason, "writing the status failed"),
                );
                if let Some(waiting) = self.memory.retries.last(&Subject::Report) {
                    again = waiting.until.since(host.seam.now());
                }
            }
        }
        if let Some(recheck) = self.rest_after_report.take() {
            self.rest(ctx, recheck.min(again));
        } else if matches!(self.doing, Doing::Stepping) {
            self.pass_at(ctx, STEP);
        } else {
            self.conclude_if_ended(ctx, host);
        }
    }

    /// What takes long is told meanwhile.
    pub(super) fn progress(&mut self, ctx: &mut Ctx, host: &Host<'_>) {
        if !matches!(self.doing, Doing::Preparing(_) | Doing::Working(_)) {
            return;
        }
        self.schedule(ctx, super::PROGRESS, AgentTick::Progress);
        self.memory.blockers = self.blockers();
        if let Some(truth) = self.truth(host) {
            let decision = self.decide(ctx, host, &truth);
            self.report(ctx, host, &truth, &decision);
        }
    }

    /// Forgets what is of no use any more.
    fn tidy(&mut self, host: &mut Host<'_>, truth: &Truth) {
        let JournalState::Known(journal) = &self.memory.journal else {
            return;
        };
        let object = self.desired.object();
        let uses = Uses {
            journal,
            grants: object.map_or(&[][..], |object| &object.spec.livepatches),
            truth,
        };
        let before = self.memory.prepared.len();
        self.memory.prepared.retain(|sha256, _| uses.need(sha256));
        if self.memory.prepared.len() != before || (!self.memory.tidied && object.is_some()) {
            self.memory.tidied = true;
            host.disk.store.retain(|sha256, _| uses.need(sha256));
        }
        self.memory.retries.retain(|subject| uses.concern(subject));
    }
}
