//! The lease's keeper, step by step as `livepatch_operator::lease::Keeper` takes them; who may hold the lease is judged by
//! the operator's own [`evaluate`].

use std::time::Duration;

use livepatch_operator::lease::evaluate::{Timing, Verdict, evaluate, first, released};

use super::{Operator, Term};
use crate::api::ask::{Answer, Ask, Fault, Lease};
use crate::coverage::{Moment, Point};
use crate::ctx::Ctx;
use crate::event::{Caller, Event, OperatorTick};
use crate::mutant::Mutant;

/// One request for the lease takes no longer than one part in so many of the deadline.
const TRIES: u32 = 3;

#[derive(Debug, Default)]
pub(crate) struct Keeper {
    /// The lease as last seen, and since when it has not changed.
    seen: Option<(Lease, Duration)>,
    asked: Option<(u64, Asked)>,
    releasing: bool,
}

#[derive(Debug)]
enum Asked {
    Look,
    Write { began: Duration, point: Point },
    Release,
}

impl Operator {
    pub(super) fn keeper_turn(&mut self, ctx: &mut Ctx) {
        if self.keeper.releasing {
            return;
        }
        if self.term.is_none() || self.keeper.seen.is_none() {
            let id = self.ask_for_lease(ctx, Ask::GetLease);
            self.keeper.asked = Some((id, Asked::Look));
        } else {
            self.judge_lease(ctx);
        }
    }

    /// Told to stop: the lease is given up.
    pub(super) fn release_lease(&mut self, ctx: &mut Ctx) {
        self.end_term(ctx, "it stops");
        self.keeper.releasing = true;
        let id = self.ask_for_lease(ctx, Ask::GetLease);
        self.keeper.asked = Some((id, Asked::Release));
    }

    fn ask_for_lease(&self, ctx: &mut Ctx, ask: Ask) -> u64 {
        let caller = Caller::Keeper {
            operator: self.id,
            life: self.life,
        };
        ctx.call(caller, ask, self.timing.deadline / TRIES)
    }

    fn judge_lease(&mut self, ctx: &mut Ctx) {
        let now = self.wall(ctx);
        let Some((lease, since)) = self.keeper.seen.clone() else {
            let spec = first(&self.identity, now, &self.timing);
            return self.write_lease(ctx, Ask::CreateLease(spec), Point::TakeLease);
        };
        let mut timing: Timing = self.timing;
        let mut unchanged = ctx.now().saturating_sub(since);
        if ctx.is(Mutant::LeaseTakenEarly) {
            unchanged *= 4;
            timing.duration = Duration::from_secs(5);
        }
        let leads = self.term.as_ref().is_some_and(|term| ctx.now() < term.ends);
        match evaluate(&lease.spec, &self.identity, leads, now, unchanged, &timing) {
            Verdict::HeldBy(_) => {
                self.end_term(ctx, "another operator holds the lease");
                self.keeper_sleeps(ctx);
            }
            Verdict::Write(mut spec) => {
                let renewal = lease.spec.lease_transitions == spec.lease_transitions;
                if ctx.is(Mutant::EpochNotRaised) && !renewal {
                    spec.lease_transitions = lease.spec.lease_transitions;
                }
                let point = if renewal { Point::RenewLease } else { Point::TakeLease };
                let version = lease.version;
                self.write_lease(ctx, Ask::ReplaceLease { version, spec }, point);
            }
        }
    }

    fn write_lease(&mut self, ctx: &mut Ctx, ask: Ask, point: Point) {
        if self.dies(ctx, point, Moment::Before) {
            return;
        }
        let began = ctx.now();
        let id = self.ask_for_lease(ctx, ask);
        self.keeper.asked = Some((id, Asked::Write { began, point }));
        self.dies(ctx, point, Moment::Sent);
    }

    pub(super) fn keeper_answered(&mut self, ctx: &mut Ctx, id: u64, answer: Answer) {
        if self.keeper.asked.as_ref().is_none_or(|(asked, _)| *asked != id) {
            return;
        }
        let Some((_, asked)) = self.keeper.asked.take() else {
            return;
        };
        match asked {
            Asked::Look => match answer {
                Answer::Lease(lease) => {
                    self.lease_seen(ctx, lease);
                    self.judge_lease(ctx);
                }
                _ => self.keeper_sleeps(ctx),
            },
            Asked::Write { began, point } => {
                if self.dies(ctx, point, Moment::After) {
                    return;
                }
                self.lease_written(ctx, began, answer);
                self.keeper_sleeps(ctx);
            }
            Asked::Release => {
                if let Answer::Lease(Some(lease)) = answer
                    && lease.spec.holder_identity.as_deref() == Some(&self.identity)
                {
                    let spec = released(&lease.spec, self.wall(ctx));
                    let version = lease.version;
                    self.ask_for_lease(ctx, Ask::ReplaceLease { version, spec });
                }
                self.ended = true;
            }
        }
    }

    fn lease_seen(&mut self, ctx: &Ctx, lease: Option<Lease>) {
        let known = self.keeper.seen.take();
        self.keeper.seen = lease.map(|lease| match known {
            Some(known) if known.0.version == lease.version => known,
            _ => (lease, ctx.now()),
        });
    }

    fn lease_written(&mut self, ctx: &mut Ctx, began: Duration, answer: Answer) {
        let lease = match answer {
            Answer::Lease(Some(lease)) => lease,
            Answer::Failed(Fault::Conflict | Fault::Exists | Fault::Gone) => {
                self.keeper.seen = None;
                return self.end_term(ctx, "the lease was written by another");
            }
            _ => {
                self.keeper.seen = None;
                return;
            }
        };
        let ends = began + self.timing.deadline;
        let epoch = lease.epoch();
        match &mut self.term {
            Some(term) if term.epoch == epoch && ctx.clock.now < term.ends => term.ends = ends,
            Some(term) if term.epoch == epoch => self.end_term(ctx, "the renewal came too late"),
            _ => {
                let identity = self.id;
                ctx.say(|| format!("operator {identity} leads under {epoch}"));
                self.term = Some(Term { epoch, began, ends });
                self.terms_changed(ctx);
            }
        }
        self.keeper.seen = Some((lease, ctx.now()));
    }

    fn end_term(&mut self, ctx: &mut Ctx, why: &str) {
        if self.term.take().is_some() {
            let id = self.id;
            ctx.say(|| format!("operator {id} leads no more: {why}"));
            self.terms_changed(ctx);
        }
    }

    fn keeper_sleeps(&mut self, ctx: &mut Ctx) {
        let now = ctx.now();
        if self.term.as_ref().is_some_and(|term| now >= term.ends) {
            self.end_term(ctx, "the lease could not be renewed in time");
        }
        let pause = if self.term.is_some() {
            self.timing.renewal
        } else {
            self.timing.look
        };
        let pause = pause.mul_f64(0.9 + 0.2 * ctx.jitter());
        let (operator, life) = (self.id, self.life);
        let tick = OperatorTick::Keeper;
        ctx.clock
            .at(ctx.clock.now + pause, Event::Operator { operator, life, tick });
    }
}
