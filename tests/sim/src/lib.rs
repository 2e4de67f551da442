//! A cluster in virtual time: the real fleet planner, the real decisions and journal of the agents, and the real kernel
//! operations, in a world in which everything goes wrong that can. No IO but the report.
//!
//! One seed is one [scenario], and replays exactly. After every event it is checked what must hold whatever happens.

#![forbid(unsafe_code)]
#![expect(
    clippy::needless_pass_by_value,
    reason = "events and requests are given away to whom they happen, whatever is made of them there"
)]

mod agent;
mod api;
mod checks;
mod clock;
mod coverage;
mod ctx;
mod event;
mod machine;
mod modules;
mod mutant;
mod net;
mod operator;
pub mod protocol;
mod run;
mod scenario;
mod seam;
mod trace;
mod world;

pub use checks::Violation;
pub use coverage::Coverage;
pub use mutant::Mutant;
pub use run::{Outcome, Summary, run, run_many, shrink, visit_the_rest};
