//! Which livepatches may be loaded at the same time. No IO.

use std::collections::BTreeSet;

use super::functions::{FunctionRef, missing, overlap};
use super::refusal::{Party, Refusal};
use super::view::{LoadedView, Owner, SetKind, Wanted};
use crate::inspection::{ReplaceValue, State};

/// What speaks against `wanted` living next to `loaded`, by the project's own rules.
///
/// Livepatches of different sets must not share a function, a `klp_state` id or a module name; a node has one
/// cumulative set; an off-band livepatch must provably not replace others. What `wanted` supersedes must be contained
/// in it. Livepatches that the wanted set owns itself are never in conflict with it, nor is a retained cumulative one
/// with the cumulative one that replaces it.
pub fn coexistence(loaded: &[LoadedView], wanted: &Wanted<'_>) -> Vec<Refusal> {
    let functions = FunctionRef::all_of(wanted.inspection);
    let mut refusals = Vec::new();
    if wanted.kind == SetKind::OffBand && wanted.inspection.replace.value != ReplaceValue::False {
        let replace = wanted.inspection.replace.clone();
        refusals.push(Refusal::ReplaceNotExcluded {
            newcomer: Party::wanted(wanted),
            replace,
        });
    }
    for other in loaded.iter().filter(|other| other.set() != Some(wanted.set)) {
        let pair = Pair {
            other,
            wanted,
            functions: &functions,
        };
        refusals.extend(pair.name_taken());
        refusals.extend(pair.second_cumulative());
        let replaced = wanted.kind == SetKind::Cumulative && wanted.may_replace();
        if replaced && other.owner == Owner::Foreign {
            if !wanted.replace_foreign {
                let (incumbent, newcomer) = pair.parties();
                refusals.push(Refusal::ForeignReplaced { incumbent, newcomer });
            }
        } else if replaced
            && matches!(
                other.owner,
                Owner::Retained {
                    kind: SetKind::Cumulative
                }
            )
        {
            // A cumulative livepatch that nobody wants any more makes way for the next one, as on any upgrade.
        } else if wanted.supersedes(other) {
            refusals.extend(pair.not_covered());
        } else {
            refusals.extend(pair.functions());
            refusals.extend(pair.states());
        }
    }
    refusals
}

struct Pair<'a> {
    other: &'a LoadedView,
    wanted: &'a Wanted<'a>,
    functions: &'a [FunctionRef],
}

impl Pair<'_> {
    fn parties(&self) -> (Party, Party) {
        (Party::of(self.other), Party::wanted(self.wanted))
    }

    fn name_taken(&self) -> Option<Refusal> {
        let (incumbent, newcomer) = self.parties();
        (incumbent.module == newcomer.module).then_some(Refusal::NameTaken { incumbent, newcomer })
    }

    fn second_cumulative(&self) -> Option<Refusal> {
        let cumulative = matches!(
            self.other.owner,
            Owner::Set {
                kind: SetKind::Cumulative,
                ..
            }
        );
        let (incumbent, newcomer) = self.parties();
        (cumulative && self.wanted.kind == SetKind::Cumulative)
            .then_some(Refusal::SecondCumulative { incumbent, newcomer })
    }

    fn not_covered(&self) -> Option<Refusal> {
        let (incumbent, newcomer) = self.parties();
        let Some(contained) = &self.other.functions else {
            return Some(Refusal::FunctionsUnknown { incumbent, newcomer });
        };
        let functions = missing(self.functions, contained);
        (!functions.is_empty()).then_some(Refusal::NotCovered {
            incumbent,
            newcomer,
            functions,
        })
    }

    fn functions(&self) -> Vec<Refusal> {
        let (incumbent, newcomer) = self.parties();
        let Some(others) = &self.other.functions else {
            // A livepatch without functions shares none, whatever the other one patches.
            let unknown = (!self.functions.is_empty()).then_some(Refusal::FunctionsUnknown { incumbent, newcomer });
            return unknown.into_iter().collect();
        };
        let overlap = overlap(others, self.functions);
        let mut refusals = Vec::new();
        if !overlap.shared.is_empty() {
            let (incumbent, newcomer) = (incumbent.clone(), newcomer.clone());
            refusals.push(Refusal::SharedFunction {
                incumbent,
                newcomer,
                functions: overlap.shared,
            });
        }
        if !overlap.undecided.is_empty() {
            refusals.push(Refusal::PositionUnknown {
                incumbent,
                newcomer,
                functions: overlap.undecided,
            });
        }
        refusals
    }

    fn states(&self) -> Option<Refusal> {
        let (incumbent, newcomer) = self.parties();
        let ids = |states: &[State]| states.iter().map(|state| state.id).collect::<BTreeSet<u64>>();
        let wanted = ids(&self.wanted.inspection.states);
        let Some(others) = &self.other.states else {
            let ids: Vec<u64> = wanted.into_iter().collect();
            return (!ids.is_empty()).then_some(Refusal::StatesUnknown {
                incumbent,
                newcomer,
                ids,
            });
        };
        let ids: Vec<u64> = wanted.intersection(&ids(others)).copied().collect();
        (!ids.is_empty()).then_some(Refusal::SharedState {
            incumbent,
            newcomer,
            ids,
        })
    }
}
