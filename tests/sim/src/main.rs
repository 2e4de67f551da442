//! `cargo xtask simulate`: the report of simulated clusters.

use std::process::ExitCode;

use clap::Parser;
use livepatch_tests_sim::protocol::{Explored, Faults, explore};
use livepatch_tests_sim::{Mutant, Outcome, run, run_many, shrink};

/// Simulates clusters in which everything goes wrong that can.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask simulate")]
struct Options {
    /// Number of seeds.
    #[arg(long, default_value_t = 20_000)]
    seeds: u64,
    /// The first seed; drawn if not given. The tests run those from 0.
    #[arg(long)]
    from: Option<u64>,
    /// Only this seed, with all that happens in it.
    #[arg(long)]
    seed: Option<u64>,
    /// With --seed: leaves out what can go wrong without a difference, until only what it takes is left.
    #[arg(long, requires = "seed")]
    shrink: bool,
    /// With --seed: runs it twice, and compares.
    #[arg(long, requires = "seed")]
    replay: bool,
    /// With this planted bug; `list` lists them.
    #[arg(long)]
    mutant: Option<String>,
    /// Explores the grant protocol to its end instead, with at most so many ends of terms, lost answers, refused loads, aborts
    /// and nodes that are cut off for a while.
    #[arg(long, num_args = 5, value_names = ["TERMS", "UNHEARD", "REFUSALS", "ABORTS", "AWAY"])]
    protocol: Option<Vec<u8>>,
    /// Stops when so many seeds have failed.
    #[arg(long, default_value_t = 10)]
    enough: usize,
}

fn main() -> ExitCode {
    let options = Options::parse();
    if options.mutant.as_deref() == Some("list") {
        for mutant in Mutant::ALL {
            println!("{:22}{}", format!("{mutant:?}"), mutant.told());
        }
        return ExitCode::SUCCESS;
    }
    let named = |name: &String| {
        Mutant::ALL
            .iter()
            .find(|mutant| format!("{mutant:?}") == *name)
            .copied()
    };
    let mutant = options.mutant.as_ref().and_then(named);
    if let (Some(name), None) = (&options.mutant, mutant) {
        eprintln!("no planted bug is named {name}; --mutant list lists them");
        return ExitCode::FAILURE;
    }
    if let Some([terms, unheard, refusals, aborts, away]) = options.protocol.as_deref() {
        let faults = Faults {
            terms: *terms,
            unheard: *unheard,
            refusals: *refusals,
            aborts: *aborts,
            away: *away,
        };
        return explored(&explore(faults));
    }
    match options.seed {
        Some(seed) => one(seed, &options, mutant),
        None => many(&options, mutant),
    }
}

fn explored(explored: &Explored) -> ExitCode {
    println!("{explored}");
    if explored.broken.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn one(seed: u64, options: &Options, mutant: Option<Mutant>) -> ExitCode {
    let shrunk = if options.shrink { shrink(seed, mutant) } else { None };
    let outcome = shrunk.unwrap_or_else(|| run(seed, true, mutant));
    for line in &outcome.trace {
        println!("{line}");
    }
    if options.replay && !is_same(&outcome, &run(seed, true, mutant)) {
        println!("seed {seed} does not replay");
        return ExitCode::FAILURE;
    }
    match outcome.violation {
        None => {
            println!("seed {seed}: everything held, {} events", outcome.events);
            ExitCode::SUCCESS
        }
        Some(violation) => {
            println!("seed {seed}: {violation}");
            ExitCode::FAILURE
        }
    }
}

fn is_same(one: &Outcome, other: &Outcome) -> bool {
    one.violation == other.violation && one.events == other.events && one.trace == other.trace
}

fn many(options: &Options, mutant: Option<Mutant>) -> ExitCode {
    let from = options.from.unwrap_or_else(|| fastrand::u64(..1 << 40));
    println!("seeds from {from}");
    let summary = run_many(from..from.saturating_add(options.seeds), mutant, options.enough);
    println!("{}", summary.coverage);
    for place in summary.coverage.unvisited() {
        println!("nothing died at: {place}");
    }
    for (seed, violation) in &summary.failed {
        println!("seed {seed}: {violation}; see it by --seed {seed}, and what it takes by --seed {seed} --shrink");
    }
    #[expect(clippy::cast_precision_loss, reason = "a rate for people to read")]
    let rate = summary.seeds as f64 / summary.took.as_secs_f64();
    println!(
        "{} schedules, {} events, {} failed, {:.1} s, {rate:.0} schedules/s",
        summary.seeds,
        summary.events,
        summary.failed.len(),
        summary.took.as_secs_f64()
    );
    if summary.failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
