//! Whole clusters, thousands of them. What they print is part of the result: run with `--nocapture` to see it, or with
//! `cargo xtask simulate`.

use livepatch_tests_sim::{Coverage, Mutant, run, run_many, visit_the_rest};

/// Schedules in which nothing may go wrong but what is made to.
const SCHEDULES: u64 = 20_000;

/// As many as a release is worth.
const MANY: u64 = 200_000;

/// Schedules within which planted bugs are found, most within a few.
const ENOUGH: u64 = 1_500;

#[test]
fn everything_holds_in_every_schedule_and_wherever_something_dies() {
    let mut coverage = hold(SCHEDULES);
    let rest = visit_the_rest(&mut coverage, 0..ENOUGH);
    println!("{coverage}");
    println!(
        "{} schedules for the rest, {:.0} s",
        rest.seeds,
        rest.took.as_secs_f64()
    );
    let unvisited = coverage.unvisited();
    assert!(unvisited.is_empty(), "nothing ever died at {}", unvisited.join(", "));
    assert!(rest.failed.is_empty(), "{:?}", rest.failed);
}

#[test]
#[ignore = "takes many minutes"]
fn long_everything_holds_in_many_schedules() {
    hold(MANY);
}

fn hold(schedules: u64) -> Coverage {
    let summary = run_many(0..schedules, None, 5);
    println!(
        "{} schedules, {} events, {:.0} s",
        summary.seeds,
        summary.events,
        summary.took.as_secs_f64()
    );
    let failed: Vec<String> = summary
        .failed
        .iter()
        .map(|(seed, violation)| format!("cargo xtask simulate --seed {seed}: {violation}"))
        .collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    summary.coverage
}

#[test]
fn every_planted_bug_is_found() {
    let mut missed = Vec::new();
    for mutant in Mutant::ALL.iter().copied() {
        let summary = run_many(0..ENOUGH, Some(mutant), 1);
        match summary.failed.first() {
            Some((seed, violation)) => println!("{mutant:?}: seed {seed}: {violation}"),
            None => missed.push(format!("{mutant:?}")),
        }
    }
    assert!(missed.is_empty(), "not found: {}", missed.join(", "));
}

#[test]
fn a_seed_replays_exactly() {
    for seed in 0..20 {
        let (one, other) = (run(seed, true, None), run(seed, true, None));
        assert_eq!(one.trace, other.trace, "seed {seed}");
        assert_eq!(one.events, other.events, "seed {seed}");
    }
}
