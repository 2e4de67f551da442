//! The fleet planner against a fleet in memory: the planner's decisions are carried out, the nodes answer, time passes.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod budgets;
mod changes;
mod conflicts;
mod control;
mod removal;
mod rollback;
mod rules;
mod scenarios;
mod stories;
mod world;
