//! What was decided is written, in the order and with the preconditions of `livepatch_operator::reconcile::{apply, report}`.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use livepatch_operator::watch::cache::Shown;
use livepatch_operator::watch::world::Kind;
use livepatch_operator::writes::CONCURRENCY;
use livepatch_planner::fleet::Decision;

use super::Operator;
use super::turn::Phase;
use crate::api::ask::{Answer, Ask, Basis, Fault, NodePatch};
use crate::coverage::{Moment, Point};
use crate::ctx::Ctx;
use crate::modules::Shelf;
use crate::mutant::{self, Mutant};

/// A status is written no more often.
pub(super) const AT_MOST_EVERY: Duration = Duration::from_secs(1);

/// A decision that is being written.
#[derive(Debug)]
pub(crate) struct Turn {
    epoch: String,
    wake: Option<Duration>,
    /// What comes after the present stage; the last one is the statuses.
    stages: VecDeque<VecDeque<Ask>>,
    stage: VecDeque<Ask>,
    flying: BTreeMap<u64, Ask>,
    cut_short: bool,
    failed: bool,
    unknown: Vec<NodePatch>,
    /// When to come back for a status whose turn it was not yet.
    wait: Option<Duration>,
}

impl Operator {
    pub(super) fn apply(
        &mut self,
        ctx: &mut Ctx,
        epoch: String,
        decision: Decision,
        basis: Basis,
        wake: Option<Duration>,
        shelf: &Shelf,
    ) {
        let mut wait = None;
        let statuses = self.statuses(ctx, &decision, &basis, &mut wait);
        let mut stages = self.stages(ctx, decision, &basis);
        stages.push_back(statuses);
        let turn = Turn {
            epoch,
            wake,
            stages,
            stage: VecDeque::new(),
            flying: BTreeMap::new(),
            cut_short: false,
            failed: false,
            unknown: Vec::new(),
            wait,
        };
        self.phase = Phase::Applying(Box::new(turn));
        self.pump(ctx, shelf);
    }

    fn stages(&self, ctx: &mut Ctx, decision: Decision, basis: &Basis) -> VecDeque<VecDeque<Ask>> {
        // Without `..`: nothing that is decided can be forgotten.
        let Decision {
            new_rollouts,
            expired_rollouts,
            new_node_objects,
            stale_node_objects,
            node_changes,
            set_statuses: _,
            rollout_statuses: _,
            happenings: _,
            wake_at: _,
        } = decision;
        let make_rollouts = new_rollouts.into_iter().map(|new| Ask::MakeRollout {
            name: new.name,
            set: new.set,
            spec: Box::new(new.spec),
        });
        let versions = self.view.versions();
        let delete_rollouts = expired_rollouts.into_iter().filter_map(|name| {
            let uid = versions.rollouts.get(&name)?.uid.clone();
            Some(Ask::DeleteRollout { name, uid })
        });
        let delete_objects = stale_node_objects.into_iter().map(|stale| Ask::DeleteNodeObject {
            node: stale.node,
            uid: Some(stale.uid),
        });
        let make_objects = new_node_objects.into_iter().map(|new| Ask::MakeNodeObject {
            node: new.node,
            spec: Box::new(new.spec),
        });
        let changes = node_changes.into_iter().filter_map(|change| {
            let before = self.view.snapshot().nodes.get(&change.node)?.object.as_ref()?;
            Some(Ask::ChangeNode(Box::new(NodePatch {
                uid: before.uid.clone(),
                version: change
                    .resource_version
                    .parse()
                    .ok()
                    .filter(|_| !ctx.is(Mutant::NoPrecondition)),
                node: change.node,
                spec: change.spec,
                new_grants: change.new_grants,
                basis: basis.clone(),
            })))
        });
        VecDeque::from([
            make_rollouts.collect(),
            delete_rollouts.collect(),
            delete_objects.collect(),
            make_objects.collect(),
            changes.collect(),
        ])
    }

    fn statuses(&self, ctx: &Ctx, decision: &Decision, basis: &Basis, wait: &mut Option<Duration>) -> VecDeque<Ask> {
        let mut asks = VecDeque::new();
        let mut turn = |kind, name: &str| match self.may_tell(ctx.clock.now, kind, name) {
            Ok(()) => true,
            Err(at) => {
                *wait = Some(wait.map_or(at, |wait: Duration| wait.min(at)));
                false
            }
        };
        let versions = self.view.versions();
        for (name, status) in &decision.set_statuses {
            if let Some(version) = versions.sets.get(name).filter(|_| turn(Kind::Set, name)) {
                asks.push_back(Ask::SetStatus {
                    basis: basis.clone(),
                    name: name.clone(),
                    version: Some(version.version),
                    status: Box::new(status.clone()),
                });
            }
        }
        for (name, status) in &decision.rollout_statuses {
            if let Some(version) = versions.rollouts.get(name).filter(|_| turn(Kind::Rollout, name)) {
                let mut status = status.clone();
                mutant::change_rollout_status(ctx, &mut status);
                asks.push_back(Ask::RolloutStatus {
                    basis: basis.clone(),
                    name: name.clone(),
                    version: Some(version.version),
                    status: Box::new(status),
                });
            }
        }
        asks
    }

    /// Sends what may be sent, and goes on to the next stage when all of one is answered.
    fn pump(&mut self, ctx: &mut Ctx, shelf: &Shelf) {
        loop {
            let now = ctx.now();
            let Phase::Applying(turn) = &mut self.phase else {
                return;
            };
            if turn.stage.is_empty() && turn.flying.is_empty() {
                let Some(next) = turn.stages.pop_front() else {
                    return self.applied(ctx, shelf);
                };
                turn.stage = next;
                continue;
            }
            if turn.stage.is_empty() || turn.flying.len() >= CONCURRENCY {
                return;
            }
            let reporting = turn.stages.is_empty();
            let may_write = self
                .term
                .as_ref()
                .is_some_and(|term| term.epoch == turn.epoch && now < term.ends)
                || ctx.is(Mutant::TermIgnored);
            if !may_write || (turn.cut_short && !reporting) {
                turn.cut_short = true;
                turn.stage.clear();
                if turn.flying.is_empty() {
                    continue;
                }
                return;
            }
            let Some(ask) = turn.stage.pop_front() else {
                return;
            };
            let point = point_of(&ask);
            if self.dies(ctx, point, Moment::Before) {
                return;
            }
            let id = self.ask(ctx, ask.clone());
            if let Phase::Applying(turn) = &mut self.phase {
                turn.flying.insert(id, ask);
            }
            if self.dies(ctx, point, Moment::Sent) {
                return;
            }
        }
    }

    pub(super) fn write_answered(&mut self, ctx: &mut Ctx, shelf: &Shelf, id: u64, answer: Answer) {
        if matches!(self.phase, Phase::Settling(_)) {
            return self.settled(ctx, shelf, id, answer);
        }
        let Phase::Applying(turn) = &mut self.phase else {
            return;
        };
        let Some(ask) = turn.flying.remove(&id) else {
            return;
        };
        if self.dies(ctx, point_of(&ask), Moment::After) {
            return;
        }
        match answer {
            Answer::Failed(fault) => self.write_failed(ctx, ask, fault),
            answer => self.remember(ctx, ask, answer),
        }
        self.pump(ctx, shelf);
    }

    fn write_failed(&mut self, ctx: &Ctx, ask: Ask, fault: Fault) {
        let Phase::Applying(turn) = &mut self.phase else {
            return;
        };
        match fault {
            // The watch tells what is there.
            Fault::Conflict | Fault::Exists | Fault::Gone => {}
            Fault::Refused => turn.failed = true,
            Fault::Throttled | Fault::Unknown => {
                turn.failed = true;
                turn.cut_short = true;
            }
        }
        if fault == Fault::Unknown
            && let Ask::ChangeNode(patch) = ask
            && !ctx.is(Mutant::UnknownForgotten)
        {
            turn.unknown.push(*patch);
        }
    }

    fn remember(&mut self, ctx: &Ctx, ask: Ask, answer: Answer) {
        let (now, at) = (ctx.clock.now, ctx.clock.instant());
        match answer {
            Answer::Set(set) => {
                self.written.insert((Kind::Set, set.name.clone()), now);
                self.caches.sets.remember(set.as_ref().clone(), at);
            }
            Answer::Rollout(rollout) => {
                if matches!(ask, Ask::RolloutStatus { .. }) {
                    self.written.insert((Kind::Rollout, rollout.name.clone()), now);
                }
                self.caches.rollouts.remember(rollout.as_ref().clone(), at);
            }
            Answer::NodeObject(Some(object)) if ctx.is(Mutant::LateAnswerWins) => {
                self.caches
                    .node_objects
                    .show(Shown::Changed(object.as_ref().clone()), at);
            }
            Answer::NodeObject(Some(object)) if !ctx.is(Mutant::NoOverlay) => {
                self.caches.node_objects.remember(object.as_ref().clone(), at);
            }
            Answer::Deleted => match ask {
                Ask::DeleteRollout { name, uid } => self.caches.rollouts.remember_deleted(&name, &uid, at),
                Ask::DeleteNodeObject { node, uid: Some(uid) } => {
                    self.caches.node_objects.remember_deleted(&node, &uid, at);
                }
                _ => {}
            },
            _ => {}
        }
    }

    fn applied(&mut self, ctx: &mut Ctx, shelf: &Shelf) {
        let Phase::Applying(turn) = std::mem::take(&mut self.phase) else {
            return;
        };
        let now = ctx.now();
        for patch in turn.unknown {
            let jitter = ctx.jitter();
            self.unsettled.add(patch, now, jitter);
        }
        self.written.retain(|_, at| now < *at + AT_MOST_EVERY);
        let again = [turn.wake, turn.wait, self.unsettled.due_at()]
            .into_iter()
            .flatten()
            .min();
        self.end_turn(ctx, again, turn.failed, shelf);
    }
}

fn point_of(ask: &Ask) -> Point {
    match ask {
        Ask::MakeRollout { .. } => Point::MakeRollout,
        Ask::DeleteRollout { .. } => Point::DeleteRollout,
        Ask::MakeNodeObject { .. } => Point::MakeNodeObject,
        Ask::DeleteNodeObject { .. } => Point::DeleteNodeObject,
        Ask::SetStatus { .. } => Point::SetStatus,
        Ask::RolloutStatus { .. } => Point::RolloutStatus,
        _ => Point::ChangeNode,
    }
}
