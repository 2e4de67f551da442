//! What the kernel would refuse, told before it is asked. No IO.

use std::collections::BTreeMap;

use super::refusal::{Party, Refusal};
use super::view::{LoadedView, Wanted};

/// What speaks against the load by the kernel's own rules: a module name that is taken (`EEXIST`), and
/// `klp_is_state_compatible()` (kernel/livepatch/state.c, 5.5-7.2): for each state of each loaded livepatch, whoever
/// owns it, the new one has it in no lower version, or lacks it and does not replace.
///
/// States that are not known are not guessed at here: the kernel will tell, and refusing costs nothing then.
pub fn admission(loaded: &[LoadedView], wanted: &Wanted<'_>) -> Vec<Refusal> {
    let versions: BTreeMap<u64, u32> = wanted
        .inspection
        .states
        .iter()
        .map(|state| (state.id, state.version))
        .collect();
    let mut refusals = Vec::new();
    for other in loaded {
        let (incumbent, newcomer) = (Party::of(other), Party::wanted(wanted));
        if other.module == wanted.inspection.name {
            let (incumbent, newcomer) = (incumbent.clone(), newcomer.clone());
            refusals.push(Refusal::NameTaken { incumbent, newcomer });
        }
        let mut missing = Vec::new();
        for state in other.states.iter().flatten() {
            match versions.get(&state.id) {
                None => missing.push(state.id),
                Some(&version) if version < state.version => refusals.push(Refusal::StateVersionDown {
                    incumbent: incumbent.clone(),
                    newcomer: newcomer.clone(),
                    id: state.id,
                    loaded: state.version,
                    wanted: version,
                }),
                Some(_) => {}
            }
        }
        if wanted.may_replace() && !missing.is_empty() {
            missing.sort_unstable();
            refusals.push(Refusal::StateMissing {
                incumbent,
                newcomer,
                ids: missing,
            });
        }
    }
    refusals
}
