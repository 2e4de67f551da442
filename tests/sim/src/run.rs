//! Runs of one seed and of many.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::checks::Violation;
use crate::coverage::{Coverage, Place};
use crate::mutant::Mutant;
use crate::scenario::{Happening, Scenario};
use crate::world::World;

/// What became of a seed.
#[derive(Debug)]
pub struct Outcome {
    /// What did not hold, if anything.
    pub violation: Option<Violation>,
    /// Which places were passed.
    pub coverage: Coverage,
    /// Events that were taken.
    pub events: u64,
    /// What happened, if it was to be told.
    pub trace: Vec<String>,
}

/// What became of many seeds.
#[derive(Debug, Default)]
pub struct Summary {
    /// How many were run.
    pub seeds: u64,
    /// Seeds with what did not hold, the first ones in order.
    pub failed: Vec<(u64, Violation)>,
    /// Which places were passed.
    pub coverage: Coverage,
    /// Events that were taken.
    pub events: u64,
    /// How long it took.
    pub took: Duration,
}

/// Runs one seed.
pub fn run(seed: u64, traced: bool, mutant: Option<Mutant>) -> Outcome {
    run_scenario(Scenario::of(seed), seed, traced, mutant)
}

fn run_scenario(scenario: Scenario, seed: u64, traced: bool, mutant: Option<Mutant>) -> Outcome {
    let mut world = World::new(scenario, seed, traced, mutant);
    let violation = world.run().err();
    Outcome {
        violation,
        coverage: world.ctx.coverage,
        events: world.events,
        trace: world.ctx.trace.into_lines(),
    }
}

/// Runs many seeds on all processors, and stops at `enough` that fail.
pub fn run_many(seeds: std::ops::Range<u64>, mutant: Option<Mutant>, enough: usize) -> Summary {
    let began = Instant::now();
    let next = AtomicU64::new(seeds.start);
    let summary = Mutex::new(Summary::default());
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let full = summary.lock().unwrap_or_else(PoisonError::into_inner).failed.len() >= enough;
                    if seed >= seeds.end || full {
                        return;
                    }
                    let outcome = run(seed, false, mutant);
                    let mut summary = summary.lock().unwrap_or_else(PoisonError::into_inner);
                    summary.seeds += 1;
                    summary.events += outcome.events;
                    summary.coverage.add(&outcome.coverage);
                    summary
                        .failed
                        .extend(outcome.violation.map(|violation| (seed, violation)));
                }
            });
        }
    });
    let mut summary = summary.into_inner().unwrap_or_else(PoisonError::into_inner);
    summary.failed.sort_by_key(|(seed, _)| *seed);
    summary.took = began.elapsed();
    summary
}

/// Lets something die at every place at which nothing has: seeds are tried until one passes there. What did not hold, and
/// how many seeds it took.
pub fn visit_the_rest(coverage: &mut Coverage, seeds: std::ops::Range<u64>) -> Summary {
    let began = Instant::now();
    let mut summary = Summary::default();
    for place in coverage.missing() {
        let is_missing = |coverage: &Coverage| coverage.missing().iter().any(|other| is_same(place, *other));
        for seed in seeds.clone() {
            if !is_missing(coverage) {
                break;
            }
            let outcome = run_scenario(Scenario::dying_at(seed, place), seed, false, None);
            coverage.add(&outcome.coverage);
            summary.seeds += 1;
            summary.events += outcome.events;
            summary
                .failed
                .extend(outcome.violation.map(|violation| (seed, violation)));
        }
    }
    summary.took = began.elapsed();
    summary
}

fn is_same(one: Place, other: Place) -> bool {
    (one.point, one.moment, one.death) == (other.point, other.moment, other.death)
}

/// The same violation with as few things going wrong as that takes: what then still happens, and the trace.
pub fn shrink(seed: u64, mutant: Option<Mutant>) -> Option<Outcome> {
    let mut scenario = Scenario::of(seed);
    let rule = run_scenario(scenario.clone(), seed, false, mutant).violation?.rule;
    loop {
        let smaller = (0..scenario.happenings.len()).find_map(|index| {
            let mut smaller = scenario.clone();
            let (_, removed) = smaller.happenings.remove(index);
            if matches!(removed, Happening::Heal | Happening::Help | Happening::Join(_)) {
                return None;
            }
            let outcome = run_scenario(smaller.clone(), seed, false, mutant);
            (outcome.violation?.rule == rule).then_some(smaller)
        });
        match smaller {
            Some(smaller) => scenario = smaller,
            None => return Some(run_scenario(scenario, seed, true, mutant)),
        }
    }
}
