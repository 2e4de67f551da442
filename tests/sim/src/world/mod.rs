//! Everything together: events are taken one after the other, and after each of them it is checked what must hold.

mod happen;
mod machines;
mod people;

use std::time::Duration;

use livepatch_operator::watch::seen::{NodeObjectContent, RolloutContent, SetContent};
use livepatch_operator::watch::world::Kind;

use crate::api::ask::{Answer, Ask, Fault};
use crate::api::server::{REPLICAS, Server};
use crate::checks::{Checks, Violation};
use crate::coverage::Death;
use crate::ctx::Ctx;
use crate::event::{AgentTick, Caller, Event, OperatorTick, Request};
use crate::machine::Machine;
use crate::modules::{Revision, Shelf};
use crate::mutant::Mutant;
use crate::operator::Operator;
use crate::scenario::Scenario;

/// The garbage collector looks so often.
const COLLECTION: Duration = Duration::from_secs(7);
/// After everything has healed it has that long to come to rest.
const CONVERGENCE: Duration = Duration::from_mins(30);
/// So long people help.
const HELP: Duration = Duration::from_mins(14);
/// So long nothing is written once it has.
const REST: Duration = Duration::from_mins(2);

/// A simulated cluster.
pub(crate) struct World {
    pub ctx: Ctx,
    pub server: Server,
    pub operators: [Operator; 2],
    pub machines: Vec<Machine>,
    pub shelf: Shelf,
    pub scenario: Scenario,
    pub checks: Checks,
    /// The revision that each set asks for.
    pub revisions: Vec<usize>,
    /// A replica's cache stands still until then, and what it takes in next.
    stalled_until: [Duration; REPLICAS],
    /// Objects that were made unreadable, with what they held.
    hidden: Vec<(String, String, NodeObjectContent)>,
    hidden_sets: Vec<(String, String, SetContent)>,
    last_write: Duration,
    healed: bool,
    pub events: u64,
}

impl World {
    pub fn new(scenario: Scenario, seed: u64, traced: bool, mutant: Option<Mutant>) -> Self {
        fastrand::seed(seed);
        let mut ctx = Ctx::new(seed, traced, mutant);
        let mut shelf = Shelf::default();
        for set in &scenario.sets {
            for (number, builds) in set.revisions.iter().enumerate() {
                shelf.publish(&Revision {
                    set: &set.name,
                    number,
                    cumulative: set.cumulative,
                    builds,
                });
            }
        }
        let machines: Vec<Machine> = scenario
            .machines
            .iter()
            .enumerate()
            .map(|(index, plan)| {
                let mut machine = Machine::new(index, &plan.name, plan.build, scenario.settle);
                machine.transition = plan.transition;
                machine
            })
            .collect();
        for (index, (at, _)) in scenario.happenings.iter().enumerate() {
            ctx.clock.at(*at, Event::Plan(index));
        }
        let mut operators = [Operator::new(0), Operator::new(1)];
        for (operator, skew) in operators.iter_mut().zip(scenario.skews) {
            operator.skew = jiff::SignedDuration::from_millis(skew);
            let (id, life, tick) = (operator.id, operator.life, OperatorTick::Start);
            let at = Duration::from_millis(500 * id as u64);
            ctx.clock.at(
                at,
                Event::Operator {
                    operator: id,
                    life,
                    tick,
                },
            );
        }
        ctx.clock.at(COLLECTION, Event::GarbageCollection);
        Self {
            ctx,
            server: Server::default(),
            operators,
            checks: Checks::new(&scenario),
            machines,
            shelf,
            revisions: vec![0; scenario.sets.len()],
            scenario,
            stalled_until: [Duration::ZERO; REPLICAS],
            hidden: Vec::new(),
            hidden_sets: Vec::new(),
            last_write: Duration::ZERO,
            healed: false,
            events: 0,
        }
    }

    /// Runs to the end, or to the first violation.
    pub fn run(&mut self) -> Result<(), Violation> {
        let end = self.scenario.heals + CONVERGENCE;
        while let Some(event) = self.ctx.clock.next(end) {
            self.events += 1;
            self.server.now = self.ctx.clock.now;
            self.take(event);
            self.bury();
            if let Some(violation) = self.checks.found.take() {
                return Err(violation);
            }
            if self.is_at_rest() {
                let end = self.check_end();
                // Those who help come again for a while.
                if end.is_ok() || self.ctx.clock.now > self.scenario.heals + HELP {
                    return end;
                }
            }
        }
        Err(Violation::new(
            "I10",
            format!("it does not come to rest: the last write was at {:?}", self.last_write),
        ))
    }

    /// Whether everything has healed, and nothing has been written for long enough.
    fn is_at_rest(&self) -> bool {
        let now = self.ctx.clock.now;
        self.healed && now > self.last_write + REST
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Arrive(request) => self.arrive(*request),
            Event::Answered { caller, id, answer } => self.answered(caller, id, answer),
            Event::Replicated { replica, kind, version } => self.replicated(replica, kind, version),
            Event::Operator { operator, life, tick } => self.operator_tick(operator, life, tick),
            Event::Agent { machine, life, tick } => self.agent_tick(machine, life, tick),
            Event::Machine { machine, tick } => self.machine_tick(machine, tick),
            Event::Plan(index) => {
                if let Some((_, happening)) = self.scenario.happenings.get(index).cloned() {
                    self.happen(happening);
                }
            }
            Event::GarbageCollection => self.collect_garbage(),
        }
    }

    fn operator_tick(&mut self, operator: usize, life: u32, tick: OperatorTick) {
        let Self {
            ctx,
            server,
            shelf,
            operators,
            ..
        } = self;
        let Some(operator) = operators.get_mut(operator).filter(|operator| operator.life == life) else {
            return;
        };
        if operator.paused_until > ctx.now() {
            let (id, until) = (operator.id, operator.paused_until);
            return ctx.clock.at(
                until,
                Event::Operator {
                    operator: id,
                    life,
                    tick,
                },
            );
        }
        operator.tick(ctx, server, shelf, tick);
    }

    fn agent_tick(&mut self, machine: usize, life: u32, tick: AgentTick) {
        let Self {
            ctx,
            server,
            shelf,
            machines,
            checks,
            ..
        } = self;
        let Some(machine) = machines
            .get_mut(machine)
            .filter(|machine| machine.agent.life == life && machine.up)
        else {
            return;
        };
        let starts = matches!(tick, AgentTick::Start);
        if machine.agent.running == starts {
            return;
        }
        machine.sync(ctx.now());
        arm(ctx, machine);
        let (mut host, agent) = machine.host_and_agent();
        agent.tick(ctx, server, shelf, &mut host, tick);
        checks.agent_acted(ctx, server, shelf, machine);
    }

    fn answered(&mut self, caller: Caller, id: u64, answer: Answer) {
        let Self {
            ctx,
            server,
            shelf,
            operators,
            machines,
            checks,
            ..
        } = self;
        match caller {
            Caller::Keeper { operator, life }
            | Caller::Turn { operator, life }
            | Caller::List { operator, life, .. } => {
                let Some(operator) = operators
                    .get_mut(operator)
                    .filter(|operator| operator.life == life && operator.running)
                else {
                    return;
                };
                if operator.paused_until > ctx.now() {
                    let until = operator.paused_until;
                    return ctx.clock.at(until, Event::Answered { caller, id, answer });
                }
                checks.told(ctx, caller, id, &answer);
                operator.answered(ctx, server, shelf, caller, id, answer);
            }
            Caller::Agent { machine, life } | Caller::AgentList { machine, life, .. } => {
                let Some(machine) = machines
                    .get_mut(machine)
                    .filter(|machine| machine.agent.life == life && machine.agent.running && machine.up)
                else {
                    return;
                };
                machine.sync(ctx.now());
                arm(ctx, machine);
                checks.told(ctx, caller, id, &answer);
                let (mut host, agent) = machine.host_and_agent();
                agent.answered(ctx, &mut host, caller, id, answer);
                checks.agent_acted(ctx, server, shelf, machine);
            }
        }
    }

    fn arrive(&mut self, request: Request) {
        let Request {
            caller,
            id,
            ask,
            sent,
            answer_lost,
            fault,
        } = request;
        if self.healed && ask.is_write() && !ask.is_lease() {
            let ask = &ask;
            self.ctx
                .say(|| format!("a write after healing: {} by {caller:?}", ask.name()));
        }
        self.checks.arrives(&self.server, &ask, sent);
        let answer = match fault {
            Some(fault @ (Fault::Throttled | Fault::Refused)) => Answer::Failed(fault),
            _ => self.serve(&ask, sent),
        };
        let answer = if fault == Some(Fault::Unknown) {
            Answer::Failed(Fault::Unknown)
        } else {
            answer
        };
        if !answer_lost {
            let after = self.ctx.between(Duration::from_micros(300), Duration::from_millis(4));
            let at = self.ctx.clock.now + after;
            self.ctx.clock.at(at, Event::Answered { caller, id, answer });
        }
    }

    /// Carries out a request that was sent at `sent`, with checks before and after.
    fn serve(&mut self, ask: &Ask, sent: Duration) -> Answer {
        let wall = self.ctx.clock.wall(jiff::SignedDuration::ZERO);
        let before = self.server.version();
        let object = match ask {
            Ask::ChangeNode(patch) => self.server.objects.get(&patch.node).cloned(),
            _ => None,
        };
        let rollout = match ask {
            Ask::RolloutStatus { name, .. } => self.server.rollouts.get(name).cloned(),
            _ => None,
        };
        let answer = self.server.serve(ask, wall);
        if self.server.version() != before && !ask.is_lease() {
            self.last_write = self.ctx.clock.now;
            self.ctx.say(|| told(ask, &answer));
            self.checks
                .written(&mut self.ctx, &self.server, ask, object.as_deref(), rollout.as_deref());
        } else if self.server.version() != before {
            self.checks.lease_written(&self.server, sent, self.ctx.clock.now);
        } else if ask.is_write() && !ask.is_lease() {
            self.ctx.say(|| format!("refused: {} {answer:?}", ask.name()));
        }
        self.replicate(before);
        answer
    }

    /// Brings what was written since a version to the replicas' caches, after a while.
    pub(crate) fn replicate(&mut self, before: u64) {
        for version in before + 1..=self.server.version() {
            let Some(kind) = self.kind_of(version) else {
                continue;
            };
            for replica in 0..REPLICAS {
                let lag = Duration::from_micros(self.ctx.chance.u64(200..20_000));
                let stalled = self.stalled_until.get(replica).copied().unwrap_or_default();
                let at = (self.ctx.clock.now + lag).max(stalled);
                self.ctx.clock.at(at, Event::Replicated { replica, kind, version });
            }
        }
    }

    fn kind_of(&self, version: u64) -> Option<Kind> {
        let server = &self.server;
        if server.objects.record(version).is_some() {
            Some(Kind::NodeObject)
        } else if server.rollouts.record(version).is_some() {
            Some(Kind::Rollout)
        } else if server.nodes.record(version).is_some() {
            Some(Kind::Node)
        } else {
            server.sets.record(version).map(|_| Kind::Set)
        }
    }

    fn replicated(&mut self, replica: usize, kind: Kind, version: u64) {
        let stalled = self.stalled_until.get(replica).copied().unwrap_or_default();
        if stalled > self.ctx.clock.now {
            return self.ctx.clock.at(stalled, Event::Replicated { replica, kind, version });
        }
        let Some(known) = self.server.replicas.get_mut(replica) else {
            return;
        };
        *known = version.max(*known);
        for operator in &mut self.operators {
            if operator.running {
                operator.replicated(&mut self.ctx, kind, replica);
            }
        }
        if kind == Kind::NodeObject
            && let Some(record) = self.server.objects.record(version)
            && let Some(machine) = self
                .machines
                .iter_mut()
                .find(|machine| machine.name == record.object.name)
            && machine.agent.running
            && machine.up
        {
            machine.agent.replicated(&mut self.ctx, replica);
        }
    }

    /// Who has died is buried, and rises again after a while.
    fn bury(&mut self) {
        for index in 0..self.operators.len() {
            let Some(operator) = self.operators.get_mut(index) else {
                continue;
            };
            if operator.dying.is_some() || operator.ended {
                self.kill_operator(index);
            }
        }
        for index in 0..self.machines.len() {
            let Some(machine) = self.machines.get_mut(index) else {
                continue;
            };
            let at_seam = machine.seam.heard().died.take();
            if let Some(arm) = &at_seam {
                self.ctx.arms.retain(|other| other != arm);
                self.ctx.coverage.visit(arm.point, arm.moment, Some(arm.death));
                self.ctx
                    .say(|| format!("{:?} dies: {:?} {:?} of {index}", arm.death, arm.moment, arm.point));
            }
            let at_seam = at_seam.map(|arm| arm.death);
            match machine.agent.dying.or(at_seam) {
                None => {}
                Some(Death::Process) => self.kill_agent(index),
                Some(Death::Machine) => {
                    let down = self.ctx.between(Duration::from_secs(15), Duration::from_secs(90));
                    self.power_cut(index, down);
                }
            }
        }
    }

    fn collect_garbage(&mut self) {
        let before = self.server.version();
        let orphans: Vec<String> = self
            .server
            .objects
            .iter()
            .filter(|object| {
                let owner = object.content.as_ref().ok().map(|content| &content.spec.node_uid);
                owner.is_some_and(|owner| {
                    self.server
                        .nodes
                        .get(&object.name)
                        .is_none_or(|node| node.uid != *owner)
                })
            })
            .map(|object| object.name.clone())
            .collect();
        for name in orphans {
            self.ctx.say(|| format!("garbage: node object {name}"));
            _ = self.server.delete::<NodeObjectContent>(&name, None);
        }
        let orphans: Vec<String> = self
            .server
            .rollouts
            .iter()
            .filter(|rollout| {
                let set = rollout
                    .content
                    .as_ref()
                    .ok()
                    .map(|content| (&content.set, &content.spec.set_uid));
                set.is_some_and(|(set, uid)| self.server.sets.get(set).is_none_or(|set| set.uid != *uid))
            })
            .map(|rollout| rollout.name.clone())
            .collect();
        for name in orphans {
            self.ctx.say(|| format!("garbage: rollout {name}"));
            _ = self.server.delete::<RolloutContent>(&name, None);
        }
        self.replicate(before);
        let at = self.ctx.clock.now + COLLECTION;
        self.ctx.clock.at(at, Event::GarbageCollection);
    }
}

/// Deaths that wait at a machine's seam are shown to it.
fn arm(ctx: &Ctx, machine: &Machine) {
    let index = machine.index;
    let arms = ctx.arms.iter().filter(|arm| arm.who.is_none_or(|who| who == index));
    machine.seam.heard().arms = arms.cloned().collect();
}

/// What a request did, for traces.
fn told(ask: &Ask, answer: &Answer) -> String {
    match ask {
        Ask::ChangeNode(patch) => {
            let grants: Vec<String> = patch
                .spec
                .livepatches
                .iter()
                .map(|grant| {
                    format!(
                        "{} {} attempt {} epoch {} wave {}",
                        grant.rollout, grant.module.name, grant.attempt, grant.epoch, grant.wave
                    )
                })
                .collect();
            format!(
                "operator {} writes {}: [{}] hold {:?}, {} new",
                patch.basis.operator,
                patch.node,
                grants.join("; "),
                patch.spec.hold,
                patch.new_grants
            )
        }
        Ask::RolloutStatus { name, status, .. } => {
            let waves: Vec<String> = status
                .waves
                .iter()
                .map(|wave| format!("{} {:?} {}/{}", wave.name, wave.state, wave.settled, wave.selected))
                .collect();
            let failures: Vec<String> = status
                .failures
                .iter()
                .map(|failure| format!("{}#{} {}", failure.node, failure.attempt, failure.reason))
                .collect();
            format!(
                "rollout {name}: {} failed [{}] blocked by {:?}",
                waves.join(", "),
                failures.join(", "),
                status.blocked_by
            )
        }
        Ask::SetStatus { name, status, .. } => {
            let ready = status.conditions.iter().find(|condition| condition.type_ == "Ready");
            format!("set {name}: {:?}", ready.map(|ready| (&ready.reason, &ready.message)))
        }
        Ask::AgentStatus { node, status, .. } => {
            let results: Vec<String> = status
                .livepatches
                .iter()
                .map(|one| format!("{}#{} {:?} {}", one.rollout, one.attempt, one.result, one.reason))
                .collect();
            let loaded: Vec<&str> = status.loaded.iter().map(|one| one.module.as_str()).collect();
            format!(
                "{node} says: boot {} [{}] loaded {loaded:?}",
                status.boot_id,
                results.join("; ")
            )
        }
        other => format!("done: {} {}", other.name(), matches!(answer, Answer::Failed(_))),
    }
}
