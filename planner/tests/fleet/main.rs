//! The fleet planner against a fleet in memory: the planner's decisions are carried out, the nodes answer, time passes.

mod rules;
mod scenarios;
mod world;
