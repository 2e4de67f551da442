//! The agent's one watch. Any replica's cache may answer its list, so what it says can be old, and older than before.

use std::time::Duration;

use livepatch_agent::watch::Desired;

use super::{Agent, DEBOUNCE, Doing, object_of};
use crate::api::ask::{Answer, Ask};
use crate::api::server::{REPLICAS, Server};
use crate::ctx::Ctx;
use crate::event::{AgentTick, Caller};

/// The watcher's own limit of a list.
const LIST: Duration = Duration::from_secs(30);
/// Waits after an error, up to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(800);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

#[derive(Debug, Default)]
pub(crate) struct Watch {
    generation: u64,
    replica: usize,
    place: Option<usize>,
    failures: u32,
    pub silent_until: Duration,
    due: bool,
}

impl Agent {
    pub(super) fn begin_watch(&mut self, ctx: &mut Ctx) {
        self.watch.generation += 1;
        self.watch.place = None;
        self.watch.due = false;
        self.watch.replica = ctx.chance.usize(0..REPLICAS);
        let caller = Caller::AgentList {
            machine: self.machine,
            life: self.life,
            generation: self.watch.generation,
        };
        let ask = Ask::ListNodeObject {
            node: self.node.clone(),
            replica: self.watch.replica,
        };
        ctx.call(caller, ask, LIST);
    }

    pub(super) fn rewatch(&mut self, ctx: &mut Ctx, generation: u64) {
        if self.watch.generation == generation {
            self.begin_watch(ctx);
        }
    }

    pub(super) fn listed(&mut self, ctx: &mut Ctx, generation: u64, answer: Answer) {
        if self.watch.generation != generation {
            return;
        }
        let Answer::NodeObjectFrom { object, place } = answer else {
            return self.watch_failed(ctx);
        };
        self.watch.failures = 0;
        self.watch.place = Some(place);
        self.tell(ctx, object.as_deref().map_or(Desired::Absent, object_of));
        self.watch_may_show(ctx);
    }

    /// The watch is broken: the object is listed anew after a while, and stays as it was until then.
    pub fn watch_failed(&mut self, ctx: &mut Ctx) {
        self.watch.generation += 1;
        self.watch.place = None;
        let doubled = FIRST_PAUSE * 2_u32.saturating_pow(self.watch.failures.min(8));
        self.watch.failures += 1;
        let pause = doubled.min(LONGEST_PAUSE).mul_f64(1.0 + ctx.jitter());
        let generation = self.watch.generation;
        self.schedule(ctx, pause, AgentTick::Rewatch { generation });
    }

    /// A replica has something new.
    pub fn replicated(&mut self, ctx: &mut Ctx, by: usize) {
        if self.watch.replica == by && self.watch.place.is_some() {
            self.watch_may_show(ctx);
        }
    }

    fn watch_may_show(&mut self, ctx: &mut Ctx) {
        if self.watch.due {
            return;
        }
        self.watch.due = true;
        let soon = Duration::from_micros(ctx.chance.u64(100..3_000));
        let silent = self.watch.silent_until.saturating_sub(ctx.now());
        let generation = self.watch.generation;
        self.schedule(ctx, soon.max(silent), AgentTick::Watch { generation });
    }

    pub(super) fn watch_shows(&mut self, ctx: &mut Ctx, server: &Server, generation: u64) {
        self.watch.due = false;
        if self.watch.generation != generation || self.watch.silent_until > ctx.now() {
            if self.watch.place.is_some() {
                self.watch_may_show(ctx);
            }
            return;
        }
        let Some(from) = self.watch.place else { return };
        let to = server.place(livepatch_operator::watch::world::Kind::NodeObject, self.watch.replica);
        if to <= from {
            return;
        }
        self.watch.place = Some(to);
        let node = self.node.clone();
        let last = server
            .objects
            .between(from, to)
            .iter()
            .rev()
            .find(|record| record.object.name == node);
        if let Some(record) = last {
            let desired = if record.gone {
                Desired::Absent
            } else {
                object_of(&record.object)
            };
            self.tell(ctx, desired);
        }
    }

    /// The watch says what the object is; what this agent wrote itself is no news.
    fn tell(&mut self, ctx: &mut Ctx, desired: Desired) {
        let version = |desired: &Desired| {
            let version = desired.object()?.metadata.resource_version.clone()?;
            version.parse::<u64>().ok()
        };
        let own = version(&desired)
            .zip(self.memory.reported.as_ref())
            .is_some_and(|(version, reported)| version == reported.version);
        self.desired = desired;
        if !own && matches!(self.doing, Doing::Resting) && self.reporting.is_none() {
            self.pass_at(ctx, DEBOUNCE);
        }
    }
}
