//! The fleet planner against a fleet in memory: the planner's decisions are carried out, the nodes answer, time passes.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

/// Compares what was written in a story with the transcript that stands beside it, under `snapshots`.
macro_rules! assert_told {
    ($world:expr) => {
        insta::assert_snapshot!($world.told())
    };
}

mod budgets;
mod changes;
mod conflicts;
mod control;
mod deadline;
mod effective;
mod events;
mod failures;
mod grants;
mod index;
mod latches;
mod leaderships;
mod mixed;
mod observations;
mod one_node;
mod progress;
mod removal;
mod rollback;
mod rollback_limits;
mod rollouts;
mod rules;
mod scenarios;
mod shares;
mod standing;
mod stories;
mod transcript;
mod way_back;
mod world;
