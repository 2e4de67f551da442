//! The node planner: how one livepatch comes to be on a node, or goes, as data. No IO, no clock.
//!
//! [`plan`] is a pure function of a [`Situation`] (what the kernel runs, what is remembered, which modules are known) and
//! a [`Wish`]. Whoever executes a plan takes its first step, looks at the kernel again and plans anew: somebody else may
//! have acted meanwhile, and a plan made from what is there needs no memory of how far the former one came.

mod choose;
mod conflicts;
pub mod plan;
mod remove;
pub mod situation;
mod steps;

/// The reason with which an agent does not begin with a grant: it was given under a leadership that is over. No agent ever
/// begins with it, since leaderships do not come back.
pub const EPOCH_STALE: &str = "EpochStale";

/// The reason with which an agent begins with nothing on a node that crashed again and again. Another attempt lifts it.
pub const CRASH_LOOP: &str = "CrashLoopSuspected";

pub use choose::plan;
pub use plan::{Action, Answer, Commit, Gap, Mode, Plan, Refusal, Step, Undo};
pub use situation::{Key, Leftover, Record, Running, Situation, Standing, Wish};
