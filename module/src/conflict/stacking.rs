//! Loading a livepatch over its predecessor, then disabling that: an upgrade without a gap. No IO.

use super::functions::{FunctionRef, missing, overlap};
use super::refusal::{Party, Refusal, StackingCondition};
use super::view::{LoadedView, Wanted};
use crate::inspection::ReplaceValue;

/// What happened on the node since it booted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Boot {
    /// Whether a transition was forced; `None` if nobody can tell.
    pub forced: Option<bool>,
}

/// The conditions that forbid loading `wanted` first and disabling `old` afterwards; empty if it is allowed.
///
/// Holds for `offBand.upgrade: LoadFirst` and for cumulative livepatches without the replace flag. `others` are all
/// livepatches loaded beside the two.
pub fn stacking(old: &LoadedView, wanted: &Wanted<'_>, others: &[LoadedView], boot: Boot) -> Vec<Refusal> {
    let new = wanted.inspection;
    let mut broken = Vec::new();
    let mut each = |module: &str, replaces: bool, callbacks: bool, states: bool, shadow: bool| {
        let module = || module.to_owned();
        broken.extend(replaces.then(|| StackingCondition::StackingReplaceFlag { module: module() }));
        broken.extend(callbacks.then(|| StackingCondition::StackingCallbacks { module: module() }));
        broken.extend(states.then(|| StackingCondition::StackingStates { module: module() }));
        broken.extend(shadow.then(|| StackingCondition::StackingShadowVariables { module: module() }));
    };
    each(
        &old.module,
        old.replace != Some(false),
        old.callbacks != Some(false),
        old.states.as_ref().is_none_or(|states| !states.is_empty()),
        old.shadow_variables != Some(false),
    );
    each(
        &new.name,
        new.replace.value != ReplaceValue::False,
        new.has_callbacks(),
        !new.states.is_empty(),
        new.shadow_variables,
    );
    let functions = FunctionRef::all_of(new);
    match &old.functions {
        None => broken.push(StackingCondition::StackingFunctionsUnknown),
        Some(patched) => {
            let functions = missing(&functions, patched);
            broken.extend((!functions.is_empty()).then_some(StackingCondition::StackingFunctionsDropped { functions }));
        }
    }
    if old.module == new.name {
        broken.push(StackingCondition::StackingSameName {
            module: new.name.clone(),
        });
    }
    let patched: Vec<FunctionRef> = functions
        .into_iter()
        .chain(old.functions.iter().flatten().cloned())
        .collect();
    broken.extend(others.iter().filter_map(|third| third_party(third, &patched)));
    match boot.forced {
        Some(false) => {}
        Some(true) => broken.push(StackingCondition::StackingForced),
        None => broken.push(StackingCondition::StackingForcedUnknown),
    }
    let refusal = |condition| Refusal::NotStackable {
        incumbent: Party::of(old),
        newcomer: Party::wanted(wanted),
        condition,
    };
    broken.into_iter().map(refusal).collect()
}

fn third_party(third: &LoadedView, patched: &[FunctionRef]) -> Option<StackingCondition> {
    let functions = match &third.functions {
        None => Vec::new(),
        Some(theirs) => {
            let overlap = overlap(patched, theirs);
            let functions: Vec<FunctionRef> = overlap.shared.into_iter().chain(overlap.undecided).collect();
            if functions.is_empty() {
                return None;
            }
            functions
        }
    };
    Some(StackingCondition::StackingThirdParty {
        third: Party::of(third),
        functions,
    })
}
