//! Load, disable, cancel and unload as state machines over the seam. No IO of their own.
//!
//! An operation is stepped: each step looks at the kernel, does at most one thing and says how long to wait. The caller
//! may look at [`Operation::stragglers`] between two steps, interrupt, or persist what it needs; [`run`] is the loop for
//! those who do not. Deadlines are instants of `CLOCK_BOOTTIME`, so that a restarted agent goes on with a running
//! transition and its deadline.

mod disable;
mod load;
mod roster;
mod sampler;
mod unload;
mod watch;

use std::time::Duration;

use crate::blockers::Stragglers;
use crate::seam::Kernel;
use crate::seen::Seen;

pub use disable::{Disable, DisableOutcome};
pub use load::{Load, LoadOutcome, LoadRequest, Loaded, OnTimeout, Repair, RepairMeans};
pub use roster::{Enlisted, Roster};
pub use unload::{Unload, UnloadOutcome};

/// What a step says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step<T> {
    /// Step again after this time.
    Wait(Duration),
    /// Finished. Not to be stepped again.
    Done(T),
}

/// One operation.
pub trait Operation {
    /// How it can end.
    type Outcome;

    /// Looks, acts at most once, and says what is next.
    fn step(&mut self, kernel: &dyn Kernel) -> Step<Self::Outcome>;

    /// The tasks that held up the transition when last looked at, once it has lasted more than two seconds.
    fn stragglers(&self) -> Option<&Seen<Stragglers>>;

    /// Asks for the nearest safe end: what has not begun does not begin, a running transition is reverted.
    fn interrupt(&mut self);
}

/// Steps an operation to its end; `between` is called before each wait.
pub fn run<O: Operation>(operation: &mut O, kernel: &dyn Kernel, mut between: impl FnMut(&mut O)) -> O::Outcome {
    loop {
        match operation.step(kernel) {
            Step::Done(outcome) => return outcome,
            Step::Wait(span) => {
                between(operation);
                kernel.sleep(span);
            }
        }
    }
}
