//! What becomes of a state when something happens.

use std::collections::BTreeSet;

use super::facts::{Basis, Facts, News};
use super::model::{Action, Protocol};
use super::state::{Id, Kernel, Known, Lease, NODES, OBJECTS, Process, ROLLOUT, Reading, State, Stored, Turn, Write};

/// What an operator hears of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Wrote(Stored),
    Conflict,
    /// Nothing in time.
    None,
}

impl Protocol {
    pub(super) fn step(&self, state: &State, action: Action) -> Option<State> {
        let mut next = state.clone();
        match action {
            Action::Arrive { write, heard } => self.arrive(&mut next, write, heard),
            Action::GiveUp(write) => {
                next.left.unheard = next.left.unheard.checked_sub(1)?;
                next.flying.remove(&write);
                next.flying.insert(Write {
                    awaited: false,
                    ..write
                });
                self.answered(&mut next, write, Answer::None);
            }
            Action::Show { operator, object } => {
                let known = *next.operators.get(operator)?.known(object)?;
                let shown = next.after(object, known.shown.version)?;
                let known = self.facts().cached(known, News::Shown(shown));
                *next.operators.get_mut(operator)?.known_mut(object)? = known;
                next.forget();
            }
            Action::List { operator, rollouts } => {
                let known = |object| Known {
                    shown: state.now(object),
                    own: None,
                };
                let operator = next.operators.get_mut(operator)?;
                if rollouts {
                    operator.rollout = Some(known(ROLLOUT));
                } else {
                    operator.objects = Some(std::array::from_fn(known));
                }
                next.forget();
            }
            Action::Decide(operator) => self.decide(&mut next, operator)?,
            Action::Settle { operator, write } => self.settle(&mut next, operator, write)?,
            Action::Take { operator, heard } => {
                next.lease = taken(state, operator)?;
                if heard {
                    next.operators.get_mut(operator)?.term = Some(next.lease.transitions);
                } else {
                    next.left.unheard = next.left.unheard.checked_sub(1)?;
                }
            }
            Action::Expire(operator) => {
                next.left.terms = next.left.terms.checked_sub(1)?;
                let operator = next.operators.get_mut(operator)?;
                operator.term = None;
                operator.objects = None;
                operator.rollout = None;
                operator.inherited = None;
                operator.unsettled.clear();
                next.forget();
            }
            Action::Crash(operator) => crash(&mut next, operator)?,
            Action::Abort => {
                next.left.aborts = next.left.aborts.checked_sub(1)?;
                let stored = next.now(ROLLOUT);
                let spec = self.facts().aborted(stored.spec)?;
                next.store(ROLLOUT, spec, stored.status);
            }
            Action::Leave(node) => {
                next.left.away = next.left.away.checked_sub(1)?;
                *next.away.get_mut(node)? = true;
            }
            Action::Return(node) => *next.away.get_mut(node)? = false,
            Action::Begin(_)
            | Action::ReadObject(_)
            | Action::ReadLease(_)
            | Action::Drop(_)
            | Action::Load { .. }
            | Action::Report(_) => self.agent_step(&mut next, action)?,
        }
        Some(next)
    }

    fn agent_step(&self, next: &mut State, action: Action) -> Option<()> {
        let (Action::Begin(node)
        | Action::ReadObject(node)
        | Action::ReadLease(node)
        | Action::Drop(node)
        | Action::Load { node, .. }
        | Action::Report(node)) = action
        else {
            return None;
        };
        let (stored, lease) = (next.now(node), next.lease);
        let agent = next.agents.get_mut(node)?;
        let reading = &mut agent.reading;
        match action {
            Action::ReadObject(_) => {
                *reading = reading.filter(|reading| self.facts().confirms(reading.grant, stored.spec));
                reading.as_mut().into_iter().for_each(|reading| reading.object = true);
            }
            Action::ReadLease(_) => {
                *reading = reading.filter(|reading| self.facts().is_valid(reading.grant, lease.transitions));
                reading.as_mut().into_iter().for_each(|reading| reading.lease = true);
            }
            Action::Drop(_) => *reading = None,
            Action::Load { refused, .. } => {
                *reading = None;
                agent.kernel = if refused { Kernel::Refused } else { Kernel::Loaded };
                next.left.refusals = next.left.refusals.checked_sub(u8::from(refused))?;
            }
            Action::Report(_) => {
                let status = self.facts().report(stored.spec, agent.kernel);
                next.store(node, stored.spec, status);
            }
            _ => {
                *reading = Some(Reading {
                    grant: stored.spec,
                    object: false,
                    lease: false,
                });
            }
        }
        Some(())
    }

    /// A request is carried out.
    fn arrive(&self, next: &mut State, write: Write, heard: bool) {
        next.flying.remove(&write);
        let stored = self.serve(next, write);
        if !heard {
            next.left.unheard = next.left.unheard.saturating_sub(1);
            self.answered(next, write, Answer::None);
        } else if write.awaited {
            self.answered(next, write, stored.map_or(Answer::Conflict, Answer::Wrote));
        }
    }

    /// What the API server does with a write: the object as it is then, if the precondition was met.
    fn serve(&self, next: &mut State, write: Write) -> Option<Stored> {
        let before = next.now(write.object);
        if before.version != write.replaces {
            return None;
        }
        let (spec, status) = if write.object == ROLLOUT {
            (before.spec, write.content)
        } else {
            (write.content, before.status)
        };
        if (spec, status) == (before.spec, before.status) {
            return Some(before);
        }
        if write.object != ROLLOUT && next.stop_known {
            let (facts, epoch) = (self.facts(), next.lease.transitions);
            next.granted_after_stop |= facts.is_valid(spec, epoch) && !facts.is_valid(before.spec, epoch);
        }
        Some(next.store(write.object, spec, status))
    }

    /// What an operator makes of an answer.
    fn answered(&self, next: &mut State, write: Write, answer: Answer) {
        let facts = self.facts();
        let Some(operator) = next.operators.get_mut(write.by.operator) else {
            return;
        };
        if let Answer::Wrote(stored) = answer
            && let Some(known) = operator.known_mut(write.object)
        {
            *known = facts.cached(*known, News::Wrote(stored));
        }
        let term = operator.term;
        match &mut operator.turn {
            Turn::Reporting(_) => operator.turn = Turn::Idle,
            Turn::Granting {
                epoch,
                waits,
                unknown,
                status,
            } => {
                waits.remove(&write);
                if answer == Answer::None {
                    unknown.insert(write);
                }
                if waits.is_empty() {
                    let leads = term == Some(*epoch);
                    let (unknown, status) = (std::mem::take(unknown), status.filter(|_| leads));
                    operator.unsettled = if leads { unknown } else { BTreeSet::new() };
                    operator.turn = status.map_or(Turn::Idle, Turn::Reporting);
                    next.flying.extend(status);
                }
            }
            Turn::Idle => {}
        }
    }

    /// What a decision of an operator rests on, if it may decide.
    fn basis(facts: &Facts, state: &State, operator: usize, term: u8) -> Option<Basis> {
        let operator = state.operators.get(operator)?;
        let mut objects = [(0, 0); OBJECTS];
        for (object, seen) in objects.iter_mut().enumerate() {
            let stored = operator.sees(object)?;
            *seen = (stored.spec, stored.status);
        }
        let stale = |node: usize| {
            let spec = objects.get(node).map_or(0, |(spec, _): &(Id, Id)| *spec);
            facts.grant(spec).is_some() && !facts.is_valid(spec, term)
        };
        let stale = std::array::from_fn(stale);
        let inherited = operator.inherited.unwrap_or(stale);
        Some(Basis {
            objects,
            // Those that are given again, or never were of a former leadership, make no difference.
            inherited: std::array::from_fn(|node| {
                let is = |nodes: &[bool; NODES]| nodes.get(node).copied().unwrap_or_default();
                is(&inherited) && is(&stale)
            }),
            away: state.away,
            leave: operator.unsettled.is_empty().then_some(term),
        })
    }

    /// Whether what an operator knows tells it to give no more grants.
    fn knows_stop(facts: &Facts, basis: &Basis) -> bool {
        let (rollout, _) = basis.objects.get(ROLLOUT).copied().unwrap_or_default();
        let mut nodes = basis.objects.iter().take(NODES);
        let refused = nodes.any(|(_, status)| facts.told(*status) == Kernel::Refused);
        basis.leave.is_some() && (facts.is_aborted(rollout) || refused)
    }

    /// Whether a decision of an operator would make a difference.
    pub(super) fn has_to_decide(&self, state: &State, operator: usize, term: u8) -> bool {
        let mut facts = self.facts();
        let Some(basis) = Self::basis(&facts, state, operator, term) else {
            return false;
        };
        let decided = facts.decide(&basis);
        let news = Self::knows_stop(&facts, &basis) && !state.stop_known;
        news || !decided.specs.is_empty() || decided.status.is_some()
    }

    fn decide(&self, next: &mut State, index: usize) -> Option<()> {
        let operator = next.operators.get(index)?;
        let epoch = operator.term?;
        let mut facts = self.facts();
        let basis = Self::basis(&facts, next, index, epoch)?;
        let decided = facts.decide(&basis);
        let by = Process {
            operator: index,
            life: operator.life,
        };
        let write = |object: usize, content| {
            let replaces = operator.sees(object)?.version;
            Some(Write {
                by,
                object,
                replaces,
                content,
                awaited: true,
            })
        };
        let waits: BTreeSet<Write> = decided
            .specs
            .iter()
            .filter_map(|(node, spec)| write(*node, *spec))
            .collect();
        let status = decided.status.and_then(|status| write(ROLLOUT, status));
        next.stop_known |= Self::knows_stop(&facts, &basis);
        let turn = if waits.is_empty() {
            next.flying.extend(status);
            status.map_or(Turn::Idle, Turn::Reporting)
        } else {
            next.flying.extend(waits.iter().copied());
            Turn::Granting {
                epoch,
                waits,
                unknown: BTreeSet::new(),
                status,
            }
        };
        let operator = next.operators.get_mut(index)?;
        operator.turn = turn;
        operator.inherited.get_or_insert(basis.inherited);
        Some(())
    }

    /// A write whose outcome is unknown is sent again, with its precondition, and then there is an answer.
    fn settle(&self, next: &mut State, operator: usize, write: Write) -> Option<()> {
        let stored = self.serve(next, write);
        let present = stored.unwrap_or_else(|| next.now(write.object));
        let operator = next.operators.get_mut(operator)?;
        operator.unsettled.remove(&write);
        if let Some(known) = operator.known_mut(write.object) {
            *known = self.facts().cached(*known, News::Wrote(present));
        }
        Some(())
    }
}

/// The lease after an operator has taken it, if it may.
pub(super) fn taken(state: &State, operator: usize) -> Option<Lease> {
    let leads = |process: Process| {
        let operator = state.operators.get(process.operator);
        operator.is_some_and(|operator| operator.life == process.life && operator.term.is_some())
    };
    let by = Process {
        operator,
        life: state.operators.get(operator)?.life,
    };
    Facts::take(state.lease, by, !state.lease.holder.is_some_and(leads))
}

/// An operator's process ends, and another one takes its place that knows nothing.
fn crash(next: &mut State, index: usize) -> Option<()> {
    next.left.terms = next.left.terms.checked_sub(1)?;
    let operator = next.operators.get_mut(index)?;
    operator.life += 1;
    operator.term = None;
    operator.objects = None;
    operator.rollout = None;
    operator.inherited = None;
    operator.turn = Turn::Idle;
    operator.unsettled.clear();
    next.flying = next
        .flying
        .iter()
        .map(|write| Write {
            awaited: write.awaited && write.by.operator != index,
            ..*write
        })
        .collect();
    next.forget();
    Some(())
}
