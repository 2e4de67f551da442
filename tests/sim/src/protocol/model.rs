//! The model as stateright wants it: where it begins, what can happen, and what must hold.

use std::collections::{BTreeSet, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use stateright::{Model, Property};

use super::facts::Facts;
use super::state::{
    Agent, Faults, Kernel, Lease, NODES, OBJECTS, OPERATORS, Operator, Process, ROLLOUT, Reading, State, Stored, Turn,
    Write,
};
use super::step::taken;

/// The model.
#[derive(Debug)]
pub(super) struct Protocol {
    facts: Mutex<Facts>,
    /// States from which an end was found, by their hashes.
    pub(super) ends: Mutex<HashSet<u64>>,
    objects: [Stored; OBJECTS],
    faults: Faults,
}

/// Something that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Action {
    /// A request is carried out; whether its answer is heard.
    Arrive { write: Write, heard: bool },
    /// An operator waits no longer for an answer to a request that is still on its way.
    GiveUp(Write),
    /// A watch shows the next version.
    Show { operator: usize, object: usize },
    /// A new leader reads a list: of the nodes' objects, or of rollouts.
    List { operator: usize, rollouts: bool },
    /// A leader decides, and sends what it decided.
    Decide(usize),
    /// A leader sends a write again whose outcome it does not know, and gets an answer.
    Settle { operator: usize, write: Write },
    /// A candidate takes the lease; whether it hears of it.
    Take { operator: usize, heard: bool },
    /// A leader's term ends.
    Expire(usize),
    /// An operator dies, and another process takes its place.
    Crash(usize),
    /// An agent wants to act on its grant.
    Begin(usize),
    /// It reads its object.
    ReadObject(usize),
    /// It reads the lease.
    ReadLease(usize),
    /// It dies in between, or thinks better of it.
    Drop(usize),
    /// It loads; whether the kernel refuses.
    Load { node: usize, refused: bool },
    /// It writes its status.
    Report(usize),
    /// A person aborts the rollout.
    Abort,
    /// A node is cut off.
    Leave(usize),
    /// It is there again.
    Return(usize),
}

impl Protocol {
    pub fn new(faults: Faults) -> Self {
        let (facts, objects) = Facts::new();
        Self {
            facts: Mutex::new(facts),
            ends: Mutex::default(),
            objects,
            faults,
        }
    }

    pub fn facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn decisions(&self) -> usize {
        self.facts().decisions()
    }

    /// Nodes on which a load may be under way: at most one, says the set.
    fn under_way(&self, state: &State) -> usize {
        let facts = self.facts();
        let is_under_way = |node: &usize| {
            let stored = state.now(*node);
            let agent = state.agents.get(*node);
            let begun = agent
                .is_some_and(|agent| agent.kernel != Kernel::Nothing || agent.reading.is_some_and(Reading::is_allowed));
            let may_begin = facts.is_valid(stored.spec, state.lease.transitions);
            facts.told(stored.status) == Kernel::Nothing && (begun || may_begin)
        };
        (0..NODES).filter(is_under_way).count()
    }

    /// Whether a node beyond the canary was granted before the canary has settled.
    fn has_jumped(&self, state: &State) -> bool {
        let facts = self.facts();
        let settled = facts.told(state.now(0).status) == Kernel::Loaded;
        !settled && (1..NODES).any(|node| facts.grant(state.now(node).spec).is_some())
    }

    fn operator_actions(&self, state: &State, index: usize, actions: &mut Vec<Action>) {
        let Some(operator) = state.operators.get(index) else {
            return;
        };
        let Some(term) = operator.term else {
            if taken(state, index).is_some() {
                let operator = index;
                actions.push(Action::Take { operator, heard: true });
                if state.left.unheard > 0 {
                    actions.push(Action::Take { operator, heard: false });
                }
            }
            return;
        };
        if operator.objects.is_none() {
            actions.push(Action::List {
                operator: index,
                rollouts: false,
            });
        }
        if operator.rollout.is_none() {
            actions.push(Action::List {
                operator: index,
                rollouts: true,
            });
        }
        for object in 0..OBJECTS {
            let shown = operator.known(object).map(|known| known.shown.version);
            if shown.is_some_and(|shown| state.after(object, shown).is_some()) {
                actions.push(Action::Show {
                    operator: index,
                    object,
                });
            }
        }
        if operator.turn == Turn::Idle {
            for write in &operator.unsettled {
                actions.push(Action::Settle {
                    operator: index,
                    write: *write,
                });
            }
            if self.has_to_decide(state, index, term) {
                actions.push(Action::Decide(index));
            }
        }
        if state.left.terms > 0 {
            actions.push(Action::Expire(index));
        }
    }

    fn agent_actions(&self, state: &State, node: usize, actions: &mut Vec<Action>) {
        let Some(agent) = state.agents.get(node) else { return };
        let stored = state.now(node);
        let facts = self.facts();
        let granted = facts.grant(stored.spec).is_some();
        match agent.reading {
            None if agent.kernel == Kernel::Nothing && granted && !state.is_away(node) => {
                actions.push(Action::Begin(node));
            }
            None => {}
            Some(reading) => {
                if !reading.object && !state.is_away(node) {
                    actions.push(Action::ReadObject(node));
                }
                if !reading.lease && !state.is_away(node) {
                    actions.push(Action::ReadLease(node));
                }
                if reading.is_allowed() {
                    actions.push(Action::Load { node, refused: false });
                    if state.left.refusals > 0 {
                        actions.push(Action::Load { node, refused: true });
                    }
                }
                actions.push(Action::Drop(node));
            }
        }
        if granted && !state.is_away(node) && facts.told(stored.status) != agent.kernel {
            actions.push(Action::Report(node));
        }
    }
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let operator = || Operator {
            life: 0,
            term: None,
            objects: None,
            rollout: None,
            inherited: None,
            turn: Turn::Idle,
            unsettled: BTreeSet::new(),
        };
        let agent = || Agent {
            kernel: Kernel::Nothing,
            reading: None,
        };
        let mut operators: [Operator; OPERATORS] = std::array::from_fn(|_| operator());
        if let Some(first) = operators.first_mut() {
            first.term = Some(0);
        }
        vec![State {
            objects: self.objects.map(|object| vec![object]),
            lease: Lease {
                holder: Some(Process { operator: 0, life: 0 }),
                transitions: 0,
            },
            operators,
            agents: std::array::from_fn(|_| agent()),
            away: [false; NODES],
            flying: BTreeSet::new(),
            left: self.faults,
            stop_known: false,
            granted_after_stop: false,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for write in &state.flying {
            let write = *write;
            actions.push(Action::Arrive { write, heard: true });
            if write.awaited && state.left.unheard > 0 {
                actions.push(Action::Arrive { write, heard: false });
                actions.push(Action::GiveUp(write));
            }
        }
        for index in 0..OPERATORS {
            self.operator_actions(state, index, actions);
            let busy = state
                .operators
                .get(index)
                .is_some_and(|operator| operator.term.is_some() || operator.turn != Turn::Idle);
            if state.left.terms > 0 && busy {
                actions.push(Action::Crash(index));
            }
        }
        for node in 0..NODES {
            self.agent_actions(state, node, actions);
            if state.is_away(node) {
                actions.push(Action::Return(node));
            } else if state.left.away > 0 {
                actions.push(Action::Leave(node));
            }
        }
        let rollout = state.now(ROLLOUT).spec;
        if state.left.aborts > 0 && !self.facts().is_aborted(rollout) {
            actions.push(Action::Abort);
        }
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        self.step(state, action)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("no slot is loaded twice", |model: &Self, state: &State| {
                model.under_way(state) <= 1
            }),
            Property::always("no wave is jumped", |model: &Self, state: &State| {
                !model.has_jumped(state)
            }),
            Property::always("an abort or a halt holds", |_: &Self, state: &State| {
                !state.granted_after_stop
            }),
            Property::always("an end is reachable", |model: &Self, state: &State| {
                model.can_end(state)
            }),
            Property::sometimes("it completes", |model: &Self, state: &State| model.is_complete(state)),
        ]
    }
}
