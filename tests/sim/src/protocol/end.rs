//! Whether a state can come to an end: by one way, on which nothing goes wrong any more.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::PoisonError;

use super::model::{Action, Protocol};
use super::state::{Kernel, NODES, OBJECTS, OPERATORS, ROLLOUT, State, Stored, Turn};
use super::step::taken;

/// More steps than any state needs.
const STEPS: usize = 400;

impl Protocol {
    /// Every node runs the livepatch and has said so, and the rollout says that all waves have passed.
    pub(super) fn is_complete(&self, state: &State) -> bool {
        let facts = self.facts();
        let loaded = (0..NODES).all(|node| facts.told(state.now(node).status) == Kernel::Loaded);
        loaded && facts.has_passed(state.now(ROLLOUT).status)
    }

    /// Whether there is a way to an end: complete, or stopped by a person or a failure with everything at rest.
    pub(super) fn can_end(&self, state: &State) -> bool {
        let mut way = Vec::new();
        let mut state = state.clone();
        for _ in 0..STEPS {
            let hash = hash(&state);
            let mut ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
            if ends.contains(&hash) {
                ends.extend(way);
                return true;
            }
            drop(ends);
            way.push(hash);
            let next = self.helpful(&state).and_then(|action| self.step(&state, action));
            let Some(next) = next else {
                let ended = self.is_complete(&state) || self.has_stopped(&state);
                if ended {
                    let mut ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
                    ends.extend(way);
                }
                return ended;
            };
            state = next;
        }
        false
    }

    fn has_stopped(&self, state: &State) -> bool {
        let facts = self.facts();
        let refused = |node| facts.told(state.now(node).status) == Kernel::Refused;
        let Stored { spec, status, .. } = state.now(ROLLOUT);
        facts.is_aborted(spec) || facts.has_failed(status) || (0..NODES).any(refused)
    }

    /// What happens next if nothing goes wrong.
    fn helpful(&self, state: &State) -> Option<Action> {
        if let Some(node) = (0..NODES).find(|node| state.is_away(*node)) {
            return Some(Action::Return(node));
        }
        if let Some(write) = state.flying.first() {
            return Some(Action::Arrive {
                write: *write,
                heard: true,
            });
        }
        let leader = (0..OPERATORS).find_map(|index| {
            let term = state.operators.get(index)?.term?;
            Some((index, term))
        });
        let Some((index, term)) = leader else {
            let operator = (0..OPERATORS).find(|index| taken(state, *index).is_some())?;
            return Some(Action::Take { operator, heard: true });
        };
        Self::leader_acts(state, index)
            .or_else(|| (0..NODES).find_map(|node| self.agent_acts(state, node)))
            .or_else(|| {
                let decides = self.has_to_decide(state, index, term);
                decides.then_some(Action::Decide(index))
            })
    }

    fn leader_acts(state: &State, index: usize) -> Option<Action> {
        let operator = state.operators.get(index)?;
        if operator.objects.is_none() || operator.rollout.is_none() {
            return Some(Action::List {
                operator: index,
                rollouts: operator.objects.is_some(),
            });
        }
        let shown = |object: &usize| {
            let shown = operator.known(*object).map(|known| known.shown.version);
            shown.is_some_and(|shown| state.after(*object, shown).is_some())
        };
        if let Some(object) = (0..OBJECTS).find(shown) {
            return Some(Action::Show {
                operator: index,
                object,
            });
        }
        let write = operator.unsettled.first().filter(|_| operator.turn == Turn::Idle)?;
        Some(Action::Settle {
            operator: index,
            write: *write,
        })
    }

    fn agent_acts(&self, state: &State, node: usize) -> Option<Action> {
        let (agent, stored) = (state.agents.get(node)?, state.now(node));
        let facts = self.facts();
        if let Some(reading) = agent.reading {
            return Some(if !reading.object {
                Action::ReadObject(node)
            } else if !reading.lease {
                Action::ReadLease(node)
            } else {
                Action::Load { node, refused: false }
            });
        }
        let granted = facts.grant(stored.spec).is_some();
        if granted && facts.told(stored.status) != agent.kernel {
            return Some(Action::Report(node));
        }
        let may = agent.kernel == Kernel::Nothing && facts.is_valid(stored.spec, state.lease.transitions);
        may.then_some(Action::Begin(node))
    }
}

fn hash(state: &State) -> u64 {
    let mut hasher = DefaultHasher::new();
    state.hash(&mut hasher);
    hasher.finish()
}
