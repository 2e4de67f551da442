//! Writes whose outcome is unknown, settled as `livepatch_operator::reconcile::unsettled` does.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Operator;
use super::turn::Phase;
use crate::api::ask::{Answer, Ask, Fault, NodePatch};
use crate::coverage::{Moment, Point};
use crate::ctx::Ctx;
use crate::event::Caller;
use crate::modules::Shelf;
use crate::mutant::Mutant;

/// A request that was not answered by then is given up.
pub(super) const REQUEST: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
pub(crate) struct Unsettled {
    writes: BTreeMap<String, NodePatch>,
    epoch: String,
    failures: u32,
    not_before: Option<Duration>,
}

/// What was asked about them, and not yet answered.
#[derive(Debug, Default)]
pub(crate) struct Settling {
    asked: BTreeMap<u64, (String, bool)>,
}

impl Unsettled {
    pub fn add(&mut self, patch: NodePatch, now: Duration, jitter: f64) {
        self.writes.insert(patch.node.clone(), patch);
        if self.not_before.is_none() {
            self.not_before = Some(now + self.pause(jitter));
        }
    }

    fn pause(&mut self, jitter: f64) -> Duration {
        let doubled = Duration::from_millis(500) * 2_u32.saturating_pow(self.failures.min(8));
        self.failures += 1;
        doubled.min(Duration::from_secs(10)).mul_f64(0.5 + 0.5 * jitter)
    }

    pub fn belong_to(&mut self, epoch: Option<&str>) {
        let epoch = epoch.unwrap_or_default();
        if self.epoch != epoch {
            epoch.clone_into(&mut self.epoch);
            self.writes.clear();
            self.not_before = None;
        }
    }

    pub fn message(&self) -> Option<String> {
        let count = self.writes.len();
        (count > 0).then(|| format!("the outcome of {count} writes is unknown; they are being settled"))
    }

    pub fn due_at(&self) -> Option<Duration> {
        self.not_before
    }
}

impl Operator {
    /// Begins to settle what is due; `None` if nothing is.
    pub(super) fn settle(&mut self, ctx: &mut Ctx, epoch: &str) -> Option<Settling> {
        let due = self.unsettled.not_before.is_none_or(|due| due <= ctx.now());
        if self.unsettled.writes.is_empty() || !due {
            return None;
        }
        let mut settling = Settling::default();
        for (name, patch) in self.unsettled.writes.clone() {
            if !self.leads(ctx.now(), epoch) || self.dies(ctx, Point::SettleWrite, Moment::Before) {
                break;
            }
            let id = self.ask(ctx, Ask::ChangeNode(Box::new(patch)));
            settling.asked.insert(id, (name, true));
            if self.dies(ctx, Point::SettleWrite, Moment::Sent) {
                break;
            }
        }
        Some(settling)
    }

    pub(super) fn ask(&self, ctx: &mut Ctx, ask: Ask) -> u64 {
        let caller = Caller::Turn {
            operator: self.id,
            life: self.life,
        };
        ctx.call(caller, ask, REQUEST)
    }

    pub(super) fn settled(&mut self, ctx: &mut Ctx, shelf: &Shelf, id: u64, answer: Answer) {
        let Phase::Settling(settling) = &mut self.phase else {
            return;
        };
        let Some((name, patched)) = settling.asked.remove(&id) else {
            return;
        };
        if patched && self.dies(ctx, Point::SettleWrite, Moment::After) {
            return;
        }
        match answer {
            Answer::NodeObject(object) => {
                self.unsettled.writes.remove(&name);
                if let Some(object) = object.filter(|_| !ctx.is(Mutant::NoOverlay)) {
                    let at = ctx.clock.instant();
                    self.caches.node_objects.remember(object.as_ref().clone(), at);
                }
            }
            Answer::Failed(Fault::Gone) => _ = self.unsettled.writes.remove(&name),
            Answer::Failed(Fault::Conflict | Fault::Refused) if patched => {
                let node = name.clone();
                let id = self.ask(ctx, Ask::GetNodeObject { node });
                if let Phase::Settling(settling) = &mut self.phase {
                    settling.asked.insert(id, (name, false));
                }
            }
            _ => {}
        }
        let Phase::Settling(settling) = &self.phase else {
            return;
        };
        if !settling.asked.is_empty() {
            return;
        }
        if self.unsettled.writes.is_empty() {
            self.unsettled.failures = 0;
            self.unsettled.not_before = None;
        } else {
            let pause = self.unsettled.pause(ctx.jitter());
            self.unsettled.not_before = Some(ctx.now() + pause);
        }
        self.look(ctx, shelf);
    }
}
