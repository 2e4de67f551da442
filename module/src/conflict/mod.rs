//! What may be loaded together: the user-space replacement for checks that no kernel up to 7.2 makes. No IO.
//!
//! - [`coexistence`]: livepatches of different sets are disjoint in functions, `klp_state` ids and module names.
//! - [`admission`]: what the kernel itself would refuse, told before it is asked.
//! - [`stacking`]: whether one livepatch may be loaded over its predecessor without a gap.
//! - [`verdict`]: the first two together, with what an atomic replace would throw out.
//!
//! All are pure functions of descriptions. The fleet asks them about artefacts, a node about what its kernel shows.

mod admission;
mod coexistence;
mod functions;
mod refusal;
mod stacking;
mod view;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

pub use admission::admission;
pub use coexistence::coexistence;
pub use functions::{FunctionRef, stale_copies};
pub use refusal::{Party, Refusal, StackingCondition};
pub use stacking::{Boot, stacking};
pub use view::{LoadedView, Owner, SetKind, Supersedes, Wanted};

/// What follows from loading a livepatch next to others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Why it must not be loaded; empty if it may. The order is stable.
    pub refusals: Vec<Refusal>,
    /// Livepatches that the kernel disables when this one is loaded, because its replace flag is set or not provably
    /// clear. Superseded ones and the same set's predecessor are among them.
    pub swept: Vec<Party>,
}

impl Verdict {
    /// Whether nothing speaks against the load.
    pub fn allowed(&self) -> bool {
        self.refusals.is_empty()
    }
}

/// Everything that speaks against loading `wanted` next to `loaded`, and what would be swept.
///
/// `loaded` is what will be loaded at the moment of the load: leave out what the plan disables or unloads first, for
/// [`admission`] at least. The set's own predecessor is never in conflict with it.
pub fn verdict(loaded: &[LoadedView], wanted: &Wanted<'_>) -> Verdict {
    let mut refusals = coexistence(loaded, wanted);
    for refusal in admission(loaded, wanted) {
        if !refusals.contains(&refusal) {
            refusals.push(refusal);
        }
    }
    let swept = if wanted.may_replace() {
        loaded.iter().map(Party::of).collect()
    } else {
        Vec::new()
    };
    Verdict { refusals, swept }
}
