//! The grant protocol, explored to its end: two operators, one lease, three nodes, and every order in which requests,
//! answers, watches, deaths, takeovers and agents can come, up to a number of faults.
//!
//! Where the seeds of the simulator draw, this looks at everything, and therefore knows neither time nor reboots. Decisions
//! are the real ones: the planner behind the operator's own view, the overlay of own writes, the verdict about the lease,
//! and the agent's judgement of what it reads right before a load.

mod end;
mod facts;
mod model;
mod state;
mod step;

use std::fmt;
use std::thread;
use std::time::{Duration, Instant};

use stateright::{Checker as _, Model as _, Path};

use model::Protocol;
pub use state::Faults;

/// What came of it.
#[derive(Debug)]
pub struct Explored {
    /// Different states.
    pub states: usize,
    /// Steps from one to another.
    pub steps: usize,
    /// The longest of the shortest ways to a state.
    pub depth: usize,
    /// Different decisions that the planner was asked for.
    pub decisions: usize,
    /// How long it took.
    pub took: Duration,
    /// What does not hold, with the way there.
    pub broken: Vec<(String, Vec<String>)>,
}

impl fmt::Display for Explored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, way) in &self.broken {
            writeln!(f, "broken: {name}")?;
            for action in way {
                writeln!(f, "    {action}")?;
            }
        }
        write!(
            f,
            "{} states, {} steps, depth {}, {} decisions of the planner, {:.1} s",
            self.states,
            self.steps,
            self.depth,
            self.decisions,
            self.took.as_secs_f64()
        )
    }
}

/// Explores every state that is reached with at most these faults, on all processors.
pub fn explore(faults: Faults) -> Explored {
    let began = Instant::now();
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let checker = Protocol::new(faults).checker().threads(threads).spawn_bfs().join();
    let mut broken = Vec::new();
    for property in checker.model().properties() {
        let found = checker.discovery(property.name);
        let holds = found.is_some() != property.expectation.discovery_is_failure();
        if !holds {
            let way = found.map(Path::into_actions).unwrap_or_default();
            let way = way.into_iter().map(|action| format!("{action:?}"));
            broken.push((property.name.to_owned(), way.collect()));
        }
    }
    Explored {
        states: checker.unique_state_count(),
        steps: checker.state_count(),
        depth: checker.max_depth(),
        decisions: checker.model().decisions(),
        took: began.elapsed(),
        broken,
    }
}
