//! One operator. Its caches, its view of the world, its judgement of the lease and the fleet planner are the real ones
//! (`livepatch_operator::{watch::cache, reconcile::validate, lease::evaluate}`, `livepatch_planner::fleet`); the loop
//! around them, which in the real program waits for sockets and clocks, is taken step by step here, in the files that
//! are named like its own.

mod apply;
mod keeper;
mod turn;
mod unsettled;
pub(crate) mod watches;

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use livepatch_operator::lease::evaluate::Timing;
use livepatch_operator::reconcile::validate::View;
use livepatch_operator::watch::world::{Caches, Kind};
use livepatch_planner::fleet::snapshot::BundleView;

use crate::api::ask::Answer;
use crate::api::server::Server;
use crate::coverage::{Death, Moment, Point};
use crate::ctx::Ctx;
use crate::event::{Caller, Event, OperatorTick};
use crate::modules::Shelf;
use keeper::Keeper;
use turn::Phase;
use unsettled::Unsettled;
use watches::Watch;

/// A term of leadership.
#[derive(Clone, Debug)]
pub(crate) struct Term {
    pub epoch: String,
    pub began: Duration,
    pub ends: Duration,
}

/// One operator process, or the place of one.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is one of the original's variables")]
pub(crate) struct Operator {
    pub id: usize,
    /// Which process this is; what was meant for a former one is void.
    pub life: u32,
    pub running: bool,
    /// Nothing it does happens before then, and it does not know.
    pub paused_until: Duration,
    /// How far its wall clock is ahead.
    pub skew: SignedDuration,
    pub timing: Timing,
    identity: String,
    keeper: Keeper,
    pub term: Option<Term>,
    caches: Caches,
    pub watches: [Watch; 4],
    view: View,
    library: BTreeMap<String, BundleView>,
    unsettled: Unsettled,
    synced: bool,
    stale_since: Option<Duration>,
    phase: Phase,
    /// The pause after a turn ends then.
    rests_until: Duration,
    /// When to take a turn although nothing changed.
    again: Option<Duration>,
    changed: bool,
    failures: u32,
    /// When each status was last written.
    written: BTreeMap<(Kind, String), Duration>,
    /// Something has killed it; to be buried by the world.
    pub dying: Option<Death>,
    /// It has ended in good order.
    pub ended: bool,
    /// How many decisions it took.
    pub turns: u64,
}

impl Operator {
    pub fn new(id: usize) -> Self {
        Self {
            id,
            life: 0,
            running: false,
            paused_until: Duration::ZERO,
            skew: SignedDuration::ZERO,
            timing: Timing::default(),
            identity: String::new(),
            keeper: Keeper::default(),
            term: None,
            caches: Caches::default(),
            watches: Default::default(),
            view: View::default(),
            library: BTreeMap::new(),
            unsettled: Unsettled::default(),
            synced: false,
            stale_since: None,
            phase: Phase::Idle,
            rests_until: Duration::ZERO,
            again: None,
            changed: false,
            failures: 0,
            written: BTreeMap::new(),
            dying: None,
            ended: false,
            turns: 0,
        }
    }

    /// A new process with nothing remembered.
    fn start(&mut self, ctx: &mut Ctx) {
        let (id, life, skew) = (self.id, self.life, self.skew);
        *self = Self::new(id);
        self.life = life;
        self.skew = skew;
        self.running = true;
        self.identity = format!("operator-{id}-{life}");
        ctx.say(|| format!("operator {id} starts as process {life}"));
        self.begin_watches(ctx);
        self.keeper_turn(ctx);
    }

    /// The process ends at once, and nothing is given up.
    pub fn kill(&mut self) {
        self.life += 1;
        self.running = false;
        self.dying = None;
        self.ended = false;
        self.term = None;
    }

    /// The process is asked to end.
    pub fn stop(&mut self, ctx: &mut Ctx) {
        if self.running && !self.ended {
            self.phase = Phase::Idle;
            self.release_lease(ctx);
        }
    }

    pub fn tick(&mut self, ctx: &mut Ctx, server: &Server, shelf: &Shelf, tick: OperatorTick) {
        match tick {
            OperatorTick::Start => self.start(ctx),
            OperatorTick::Keeper => self.keeper_turn(ctx),
            OperatorTick::Turn => self.turn_may_be_due(ctx, shelf),
            OperatorTick::Watch { kind, generation } => self.watch_shows(ctx, server, kind, generation),
            OperatorTick::Rewatch { kind, generation } => self.rewatch(ctx, kind, generation),
            OperatorTick::Artefact(reference) => self.artefact_read(ctx, shelf, reference),
        }
    }

    pub fn answered(&mut self, ctx: &mut Ctx, server: &Server, shelf: &Shelf, caller: Caller, id: u64, answer: Answer) {
        match caller {
            Caller::Keeper { .. } => self.keeper_answered(ctx, id, answer),
            Caller::Turn { .. } => self.write_answered(ctx, shelf, id, answer),
            Caller::List { kind, generation, .. } => self.listed(ctx, server, kind, generation, id, &answer),
            Caller::Agent { .. } | Caller::AgentList { .. } => {}
        }
    }

    fn wall(&self, ctx: &Ctx) -> Timestamp {
        ctx.clock.wall(self.skew)
    }

    /// Something changed that a turn may have to be taken for.
    fn news(&mut self, ctx: &mut Ctx) {
        self.changed = true;
        self.wake(ctx, self.rests_until);
    }

    fn terms_changed(&mut self, ctx: &mut Ctx) {
        self.rests_until = ctx.now();
        self.news(ctx);
    }

    fn wake(&self, ctx: &mut Ctx, at: Duration) {
        let (operator, life) = (self.id, self.life);
        let tick = OperatorTick::Turn;
        ctx.clock.at(at, Event::Operator { operator, life, tick });
    }

    /// Whether it dies here. If so, the caller does nothing more.
    fn dies(&mut self, ctx: &mut Ctx, point: Point, moment: Moment) -> bool {
        if self.dying.is_none() {
            self.dying = ctx.point(self.id, point, moment);
        }
        self.dying.is_some()
    }

    fn leads(&self, now: Duration, epoch: &str) -> bool {
        self.term
            .as_ref()
            .is_some_and(|term| term.epoch == epoch && now < term.ends)
    }

    fn artefact_read(&mut self, ctx: &mut Ctx, shelf: &Shelf, reference: String) {
        let away = shelf.away_until > ctx.now();
        let view = match shelf.artefact(&reference) {
            Some(modules) if !away => BundleView::Read(modules),
            _ => BundleView::Unusable {
                reason: "RegistryUnavailable",
                message: "the registry does not answer".to_owned(),
                retried: true,
            },
        };
        if !matches!(view, BundleView::Read(_)) {
            let (operator, life) = (self.id, self.life);
            let tick = OperatorTick::Artefact(reference.clone());
            let at = ctx.clock.now + Duration::from_secs(20);
            ctx.clock.at(at, Event::Operator { operator, life, tick });
        }
        self.library.insert(reference, view);
        self.news(ctx);
    }
}
