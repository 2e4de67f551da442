//! The four watches, with what kube's watcher and `livepatch_operator::watch` make of lists, events and errors. What they
//! fill are the operator's own caches.

use std::time::Duration;

use livepatch_operator::watch::cache::{Cache, Shown};
use livepatch_operator::watch::seen::{NodeContent, NodeObjectContent, RolloutContent, SetContent};
use livepatch_operator::watch::world::{Caches, Kind};

use super::Operator;
use crate::api::ask::{Answer, Ask};
use crate::api::server::{REPLICAS, Server, Stored};
use crate::ctx::Ctx;
use crate::event::{Caller, Event, OperatorTick};
use crate::mutant::Mutant;

/// The watcher's own limit of a list.
const LIST: Duration = Duration::from_secs(30);
/// Waits after an error.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// One watch.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// Events for a former generation are void.
    generation: u64,
    /// When its list was asked for.
    began: Duration,
    phase: Phase,
    /// It shows nothing until then, and nobody notices.
    pub silent_until: Duration,
    failures: u32,
    due: bool,
    /// The place in the kind's history up to which it has shown everything.
    pub shown: usize,
}

#[derive(Debug, Default)]
enum Phase {
    #[default]
    Waiting,
    Listing(u64),
    Watching {
        replica: usize,
        place: usize,
    },
}

/// Kinds with a cache.
pub(crate) trait Cached: Stored {
    fn cache(caches: &mut Caches) -> &mut Cache<Self>;
}

impl Cached for SetContent {
    fn cache(caches: &mut Caches) -> &mut Cache<Self> {
        &mut caches.sets
    }
}

impl Cached for RolloutContent {
    fn cache(caches: &mut Caches) -> &mut Cache<Self> {
        &mut caches.rollouts
    }
}

impl Cached for NodeObjectContent {
    fn cache(caches: &mut Caches) -> &mut Cache<Self> {
        &mut caches.node_objects
    }
}

impl Cached for NodeContent {
    fn cache(caches: &mut Caches) -> &mut Cache<Self> {
        &mut caches.nodes
    }
}

impl Operator {
    pub(super) fn begin_watches(&mut self, ctx: &mut Ctx) {
        for kind in Kind::ALL {
            self.begin_watch(ctx, kind);
        }
    }

    fn watch(&mut self, kind: Kind) -> &mut Watch {
        let [sets, rollouts, objects, nodes] = &mut self.watches;
        match kind {
            Kind::Set => sets,
            Kind::Rollout => rollouts,
            Kind::NodeObject => objects,
            Kind::Node => nodes,
        }
    }

    /// Asks for a list, from which the watch then goes on.
    fn begin_watch(&mut self, ctx: &mut Ctx, kind: Kind) {
        let (operator, life, now) = (self.id, self.life, ctx.now());
        let watch = self.watch(kind);
        watch.generation += 1;
        watch.began = now;
        watch.due = false;
        let generation = watch.generation;
        self.show_list_begins(ctx, kind);
        let caller = Caller::List {
            operator,
            life,
            kind,
            generation,
        };
        // The first list is a consistent read, unless that is the bug.
        let replica = ctx.is(Mutant::StaleLists).then(|| ctx.chance.usize(0..REPLICAS));
        let id = ctx.call(caller, Ask::List { kind, replica }, LIST);
        self.watch(kind).phase = Phase::Listing(id);
    }

    /// Asks for new lists of all that is not known to be complete as of `moment`.
    pub(super) fn refresh_watches(&mut self, ctx: &mut Ctx, moment: Duration) {
        for kind in Kind::ALL {
            if self.watch(kind).began < moment {
                self.begin_watch(ctx, kind);
            }
        }
    }

    fn show_list_begins(&mut self, ctx: &Ctx, kind: Kind) {
        let at = ctx.clock.instant();
        match kind {
            Kind::Set => self.caches.sets.show(Shown::ListBegins, at),
            Kind::Rollout => self.caches.rollouts.show(Shown::ListBegins, at),
            Kind::NodeObject => self.caches.node_objects.show(Shown::ListBegins, at),
            Kind::Node => self.caches.nodes.show(Shown::ListBegins, at),
        }
    }

    pub(super) fn listed(
        &mut self,
        ctx: &mut Ctx,
        server: &Server,
        kind: Kind,
        generation: u64,
        id: u64,
        answer: &Answer,
    ) {
        let watch = self.watch(kind);
        if watch.generation != generation || !matches!(watch.phase, Phase::Listing(asked) if asked == id) {
            return;
        }
        let Answer::Listed { place } = *answer else {
            return self.watch_failed(ctx, kind);
        };
        watch.failures = 0;
        watch.shown = place;
        watch.phase = Phase::Watching {
            replica: ctx.chance.usize(0..REPLICAS),
            place,
        };
        match kind {
            Kind::Set => self.take_list::<SetContent>(ctx, server, place),
            Kind::Rollout => self.take_list::<RolloutContent>(ctx, server, place),
            Kind::NodeObject => self.take_list::<NodeObjectContent>(ctx, server, place),
            Kind::Node => self.take_list::<NodeContent>(ctx, server, place),
        }
        self.news(ctx);
        self.watch_may_show(ctx, kind);
    }

    fn take_list<T: Cached>(&mut self, ctx: &Ctx, server: &Server, place: usize) {
        let at = ctx.clock.instant();
        let cache = T::cache(&mut self.caches);
        for object in T::store(server).as_of(place) {
            cache.show(Shown::Listed(object.as_ref().clone()), at);
        }
        cache.show(Shown::ListEnds, at);
    }

    /// The watch is broken: everything is listed anew after a while.
    pub fn watch_failed(&mut self, ctx: &mut Ctx, kind: Kind) {
        match kind {
            Kind::Set => self.caches.sets.lose(),
            Kind::Rollout => self.caches.rollouts.lose(),
            Kind::NodeObject => self.caches.node_objects.lose(),
            Kind::Node => self.caches.nodes.lose(),
        }
        let (operator, life) = (self.id, self.life);
        let watch = self.watch(kind);
        watch.generation += 1;
        watch.phase = Phase::Waiting;
        // A fresher list that is asked for meanwhile is waited for like this one.
        watch.began = Duration::MAX;
        let pause = (FIRST_PAUSE * 2_u32.saturating_pow(watch.failures.min(8))).min(LONGEST_PAUSE);
        watch.failures += 1;
        let generation = watch.generation;
        let pause = pause.mul_f64(0.5 + 0.5 * ctx.jitter());
        let tick = OperatorTick::Rewatch { kind, generation };
        ctx.clock
            .at(ctx.clock.now + pause, Event::Operator { operator, life, tick });
        self.news(ctx);
    }

    pub(super) fn rewatch(&mut self, ctx: &mut Ctx, kind: Kind, generation: u64) {
        if self.watch(kind).generation == generation {
            self.begin_watch(ctx, kind);
        }
    }

    /// Shows nothing until then.
    pub fn silence(&mut self, kind: Kind, until: Duration) {
        self.watch(kind).silent_until = until;
    }

    /// The connection ends without an error; the watch goes on from its place, with whichever replica answers.
    pub fn reconnect(&mut self, ctx: &mut Ctx, kind: Kind) {
        let other = ctx.chance.usize(0..REPLICAS);
        let watch = self.watch(kind);
        watch.due = false;
        if let Phase::Watching { replica, .. } = &mut watch.phase {
            *replica = other;
        }
        self.watch_may_show(ctx, kind);
    }

    /// A replica has something new of a kind.
    pub fn replicated(&mut self, ctx: &mut Ctx, kind: Kind, by: usize) {
        if matches!(self.watch(kind).phase, Phase::Watching { replica, .. } if replica == by) {
            self.watch_may_show(ctx, kind);
        }
    }

    fn watch_may_show(&mut self, ctx: &mut Ctx, kind: Kind) {
        let (operator, life) = (self.id, self.life);
        let watch = self.watch(kind);
        if watch.due {
            return;
        }
        watch.due = true;
        let generation = watch.generation;
        let at = (ctx.clock.now + Duration::from_micros(ctx.chance.u64(100..2_000))).max(watch.silent_until);
        let tick = OperatorTick::Watch { kind, generation };
        ctx.clock.at(at, Event::Operator { operator, life, tick });
    }

    pub(super) fn watch_shows(&mut self, ctx: &mut Ctx, server: &Server, kind: Kind, generation: u64) {
        let now = ctx.now();
        let watch = self.watch(kind);
        watch.due = false;
        if watch.generation != generation || watch.silent_until > now {
            return self.watch_may_show(ctx, kind);
        }
        let Phase::Watching { replica, place } = &mut watch.phase else {
            return;
        };
        let (from, to) = (*place, server.place(kind, *replica));
        // A replica that is behind this watch has nothing for it yet.
        *place = from.max(to);
        if to <= from {
            return;
        }
        watch.shown = to;
        match kind {
            Kind::Set => self.take_events::<SetContent>(ctx, server, from, to),
            Kind::Rollout => self.take_events::<RolloutContent>(ctx, server, from, to),
            Kind::NodeObject => self.take_events::<NodeObjectContent>(ctx, server, from, to),
            Kind::Node => self.take_events::<NodeContent>(ctx, server, from, to),
        }
        self.news(ctx);
    }

    fn take_events<T: Cached>(&mut self, ctx: &Ctx, server: &Server, from: usize, to: usize) {
        let at = ctx.clock.instant();
        let cache = T::cache(&mut self.caches);
        for record in T::store(server).between(from, to) {
            let object = record.object.as_ref().clone();
            let shown = if record.gone {
                Shown::Deleted(object)
            } else {
                Shown::Changed(object)
            };
            cache.show(shown, at);
        }
    }

    /// How much of the history of each kind was shown.
    pub(super) fn places(&self) -> [usize; 4] {
        self.watches.each_ref().map(|watch| watch.shown)
    }
}
