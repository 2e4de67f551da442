//! One turn of the reconcile loop up to its decision: fetch, validate, decide.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use livepatch_operator::reconcile::fetch::{Look, NodeLook, references};
use livepatch_operator::watch::world::Kind;
use livepatch_planner::fleet;
use livepatch_planner::fleet::snapshot::{BundleView, Leave, Limits};

use super::Operator;
use super::apply::Turn;
use super::unsettled::Settling;
use crate::api::ask::Basis;
use crate::ctx::Ctx;
use crate::event::{Event, OperatorTick};
use crate::modules::Shelf;
use crate::mutant::{self, Mutant};

/// The shortest time between two turns.
const PACE: Duration = Duration::from_millis(5);
/// A standby only has to remember since when what is effective.
const STANDBY_PACE: Duration = Duration::from_secs(1);
/// For that long after a takeover nothing is decided until all is known.
const QUIET: Duration = Duration::from_secs(5);
/// The shortest time after which a turn is taken although nothing changed.
const SOON: Duration = Duration::from_millis(50);

/// What the loop is doing.
#[derive(Debug, Default)]
pub(crate) enum Phase {
    #[default]
    Idle,
    /// Writes whose outcome is unknown are sent again, before anything else.
    Settling(Settling),
    /// What was decided is written.
    Applying(Box<Turn>),
}

impl Operator {
    pub(super) fn turn_may_be_due(&mut self, ctx: &mut Ctx, shelf: &Shelf) {
        let now = ctx.now();
        let due = self.changed || self.again.is_some_and(|again| again <= now);
        if !matches!(self.phase, Phase::Idle) || !due || now < self.rests_until || self.ended {
            return;
        }
        self.changed = false;
        self.again = None;
        let term = self.current_term(now);
        self.unsettled.belong_to(term.as_ref().map(|term| term.epoch.as_str()));
        if let Some(term) = term {
            self.refresh_watches(ctx, term.began);
            if let Some(settling) = self.settle(ctx, &term.epoch) {
                self.phase = Phase::Settling(settling);
                return;
            }
        }
        self.look(ctx, shelf);
    }

    pub(super) fn current_term(&self, now: Duration) -> Option<super::Term> {
        self.term.clone().filter(|term| now < term.ends)
    }

    /// The turn goes on when all that was unsettled has been asked about.
    pub(super) fn look(&mut self, ctx: &mut Ctx, shelf: &Shelf) {
        let now = ctx.now();
        self.phase = Phase::Idle;
        let term = self.current_term(now);
        self.synced |= self.caches.complete_as_of().is_some();
        let leave = self.leave(ctx, term.as_ref());
        let decides = self.may_decide(ctx, term.as_ref());
        let look = self.read(ctx, leave, decides);
        let wall = self.wall(ctx);
        self.view.take_in(look, wall);
        let Some(term) = term.filter(|_| decides) else {
            let again = self.look_again_at(ctx);
            return self.end_turn(ctx, again, false, shelf);
        };
        self.turns += 1;
        let (mut decision, basis) = self.decide(ctx, &term.epoch);
        mutant::change_decision(ctx, &mut decision, self.view.snapshot());
        let wake = decision.wake_at.map(|at| {
            let rest = Duration::try_from(at.duration_since(wall)).unwrap_or(Duration::ZERO);
            now + rest.max(SOON)
        });
        self.apply(ctx, term.epoch, decision, basis, wake, shelf);
    }

    fn decide(&mut self, ctx: &mut Ctx, epoch: &str) -> (fleet::Decision, Basis) {
        let wall = self.wall(ctx);
        // As `livepatch_operator::reconcile::decide` does.
        let changed = mutant::changed_snapshot(ctx, self.view.snapshot());
        let mut decision = match &changed {
            Some(snapshot) => fleet::decide(snapshot, wall),
            None => self.view.decide(wall),
        };
        if !self.view.is_whole() && !ctx.is(Mutant::UnreadableIgnored) {
            decision.new_rollouts.clear();
            decision.expired_rollouts.clear();
            decision.node_changes.clear();
        }
        let basis = Basis {
            operator: self.id,
            life: self.life,
            epoch: epoch.to_owned(),
            at: ctx.now(),
            places: self.places(),
        };
        (decision, basis)
    }

    fn leave(&self, ctx: &Ctx, term: Option<&super::Term>) -> Leave {
        let Some(term) = term else {
            return Leave::default();
        };
        let withheld = |message: &str| Leave::Withheld {
            reason: "CatchingUp",
            message: message.to_owned(),
        };
        if let Some(message) = self.unsettled.message() {
            return withheld(&message);
        }
        if !self.is_fresh(ctx, term.began) && !ctx.is(Mutant::FreshnessSkipped) {
            return withheld("the operator is reading what there is");
        }
        Leave::Granted {
            epoch: term.epoch.clone(),
        }
    }

    /// Whether everything that was written before `moment` is known.
    fn is_fresh(&self, ctx: &Ctx, moment: Duration) -> bool {
        let moment = ctx.clock.instant_of(moment);
        self.caches.complete_as_of().is_some_and(|as_of| as_of >= moment)
    }

    fn may_decide(&mut self, ctx: &Ctx, term: Option<&super::Term>) -> bool {
        let Some(term) = term.filter(|_| self.synced) else {
            self.stale_since = None;
            return false;
        };
        if self.is_fresh(ctx, term.began) {
            self.stale_since = None;
            return true;
        }
        let since = *self.stale_since.get_or_insert(ctx.clock.now);
        ctx.clock.now >= since + QUIET || ctx.is(Mutant::FreshnessSkipped)
    }

    fn look_again_at(&self, ctx: &Ctx) -> Option<Duration> {
        let quiet = self
            .stale_since
            .map(|since| since + QUIET)
            .filter(|until| *until > ctx.clock.now);
        [quiet, self.unsettled.due_at()].into_iter().flatten().min()
    }

    fn read(&mut self, ctx: &mut Ctx, leave: Leave, decide: bool) -> Look {
        let mut names = self.caches.nodes.take_changed();
        names.append(&mut self.caches.node_objects.take_changed());
        let nodes = names
            .into_iter()
            .map(|name| NodeLook {
                node: self.caches.nodes.get(&name).cloned(),
                object: self.caches.node_objects.get(&name).cloned(),
                name,
            })
            .filter(|look| look.node.is_some() || !ctx.is(Mutant::RemovedNodeKept))
            .collect();
        let sets: Vec<_> = self.caches.sets.iter().cloned().collect();
        let rollouts: Vec<_> = self.caches.rollouts.iter().cloned().collect();
        let bundles = Self::look_up(
            &mut self.library,
            ctx,
            (self.id, self.life),
            &references(&sets, &rollouts),
        );
        Look {
            bundles,
            rollouts,
            sets,
            nodes,
            leave,
            limits: Limits::default(),
            decide,
        }
    }

    /// What is known of each artefact. Those that are new are begun to be read.
    fn look_up(
        library: &mut BTreeMap<String, BundleView>,
        ctx: &mut Ctx,
        (operator, life): (usize, u32),
        references: &BTreeSet<&str>,
    ) -> BTreeMap<String, BundleView> {
        library.retain(|reference, _| references.contains(reference.as_str()));
        for reference in references {
            if !library.contains_key(*reference) {
                library.insert((*reference).to_owned(), BundleView::Unread);
                let tick = OperatorTick::Artefact((*reference).to_owned());
                let at = ctx.clock.now + Duration::from_millis(ctx.chance.u64(20..500));
                ctx.clock.at(at, Event::Operator { operator, life, tick });
            }
        }
        library.clone()
    }

    pub(super) fn end_turn(&mut self, ctx: &mut Ctx, again: Option<Duration>, failed: bool, _shelf: &Shelf) {
        let now = ctx.now();
        let after_failure = if failed {
            self.failures += 1;
            let doubled = Duration::from_secs(1) * 2_u32.saturating_pow(self.failures.min(6) - 1);
            let pause = doubled.min(Duration::from_secs(30));
            Some(now + pause.mul_f64(0.5 + 0.5 * ctx.jitter()))
        } else {
            self.failures = 0;
            None
        };
        self.again = [again, after_failure].into_iter().flatten().min();
        let pace = if self.term.is_some() { PACE } else { STANDBY_PACE };
        self.rests_until = now + pace;
        if self.changed {
            self.wake(ctx, self.rests_until);
        }
        if let Some(again) = self.again {
            self.wake(ctx, again.max(self.rests_until));
        }
    }

    /// A status may be written again.
    pub(super) fn may_tell(&self, now: Duration, kind: Kind, name: &str) -> Result<(), Duration> {
        match self.written.get(&(kind, name.to_owned())) {
            Some(at) if now < *at + super::apply::AT_MOST_EVERY => Err(*at + super::apply::AT_MOST_EVERY),
            _ => Ok(()),
        }
    }
}
