//! `cargo xtask bench scale`: what thousands of nodes cost, on a real API server.
//!
//! Real are etcd, the API server, the chart's policies and flow schemas, the operator's program and the agents' code. Made
//! up are the kernels, which are in memory, and two things that one machine cannot hold: the agents share one process
//! and one watch. Does IO.

mod agents;
mod cost;
mod failover;
mod fleet;
mod floor;
mod operator;
mod report;
mod speaker;
mod times;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use livepatch_rig::install::Programs;
use livepatch_rig::progress;
use serde_json::json;
use tokio::task::block_in_place;

use crate::agents::Agents;
use crate::cost::{Costs, Requests};
use crate::fleet::{Fleet, Sizes};
use crate::floor::Floor;
use crate::operator::Operators;
use crate::report::{Report, Span};
use crate::times::Times;

/// What thousands of nodes cost, on a real API server.
#[derive(Debug, Parser)]
struct Cli {
    /// How many nodes.
    #[arg(long, default_value_t = 1000)]
    nodes: usize,
    /// How often the rollout and the bare loop are measured, taken in turns.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// How long nothing is asked for, to see what that costs, in seconds.
    #[arg(long, default_value_t = 60)]
    idle: u64,
    /// How long a rollout goes one node after the other, to see how soon a grant follows what it waits for, in seconds.
    #[arg(long, default_value_t = 60)]
    slow: u64,
    /// Whether all nodes boot at once, in the end.
    #[arg(long)]
    power_cut: bool,
}

/// Until a rollout has begun.
const SETTLING: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli) {
        Ok(report) => {
            println!("{report}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<Report> {
    ensure!(
        rustls::crypto::ring::default_provider().install_default().is_ok(),
        "another TLS provider is installed"
    );
    let programs = Programs::build()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(measure(cli, &programs))
}

/// One table of contents: a fleet, the bare loop, the operator and its agents, one node after the other, a day without
/// work, a power cut, a leader that dies.
async fn measure(cli: &Cli, programs: &Programs) -> Result<Report> {
    let fleet = Arc::new(Fleet::start(cli.nodes, programs).await?);
    let mut report = Report::new(cli.nodes);
    let mut operators = Operators::new(&fleet, programs)?;
    operators.start("first")?;
    fleet.objects_made().await?;
    let agents = Agents::start(Arc::clone(&fleet))?;
    agents.all_reported().await?;
    let floor = Floor::start(cli.nodes).await?;
    for round in 0..cli.rounds {
        report.ours.push(rollout(&fleet, &operators, &agents, round).await?);
        report.floor.push(floor.measure(round, false).await?);
        report.floor_with_reads.push(floor.measure(round, true).await?);
    }
    drop(floor);
    report.agents_memory = cost::memory(std::process::id(), "VmRSS")?;
    let slow = Duration::from_secs(cli.slow);
    report.slow = Some(one_by_one(&fleet, &operators, &agents, cli.rounds, slow).await?);
    report.sizes = sizes(&fleet)?;
    report.idle = Some(idle(&fleet, &operators, &agents, Duration::from_secs(cli.idle)).await?);
    if cli.power_cut {
        report.power_cut = Some(power_cut(&fleet, &operators, agents, cli.rounds).await?);
    }
    report.operator_memory = (operators.memory("VmRSS")?, operators.memory("VmHWM")?);
    report.failovers = failover::measure(&fleet, &mut operators).await?;
    report.rejected = Requests::read(&fleet.plane)?.rejected;
    Ok(report)
}

/// One revision over all nodes in one wave without a limit.
async fn rollout(fleet: &Fleet, operators: &Operators, agents: &Agents, round: usize) -> Result<Span> {
    let before = Reading::take(fleet, operators)?;
    progress::line(&format!("  … rollout {} over {} nodes", round + 1, fleet.size()));
    finish(fleet, agents, round).await?;
    before.until_now(fleet, operators)
}

/// Lets a revision go on without a limit, to its end.
async fn finish(fleet: &Fleet, agents: &Agents, round: usize) -> Result<()> {
    block_in_place(|| fleet.ask_for(round, &json!("100%")))?;
    agents.all_run(round).await?;
    block_in_place(|| fleet.complete())
}

/// The next revision with one node at a time, for so long; and then the rest of it, which is not measured.
async fn one_by_one(
    fleet: &Fleet,
    operators: &Operators,
    agents: &Agents,
    round: usize,
    time: Duration,
) -> Result<Span> {
    progress::line(&format!("  … one node after the other for {} s", time.as_secs()));
    block_in_place(|| fleet.ask_for(round, &json!(1)))?;
    // The artefact is read, and the first statuses of the rollout are written.
    tokio::time::sleep(SETTLING).await;
    let before = Reading::take(fleet, operators)?;
    tokio::time::sleep(time).await;
    let span = before.until_now(fleet, operators)?;
    finish(fleet, agents, round).await?;
    Ok(span)
}

/// How large the objects are after all that.
fn sizes(fleet: &Fleet) -> Result<Vec<(&'static str, Sizes)>> {
    block_in_place(|| {
        let node = &fleet.nodes.first().context("a node")?.0;
        Ok(vec![
            ("LivepatchSet", fleet.sizes(&["lps", fleet::SET])?),
            ("LivepatchRollout", fleet.sizes(&["lpr", &fleet.rollout()?])?),
            ("NodeLivepatch", fleet.sizes(&["nlp", node])?),
        ])
    })
}

/// Nothing is asked for.
async fn idle(fleet: &Fleet, operators: &Operators, agents: &Agents, time: Duration) -> Result<Span> {
    agents.all_reported().await?;
    let before = Reading::take(fleet, operators)?;
    progress::line(&format!("  … nothing for {} s", time.as_secs()));
    tokio::time::sleep(time).await;
    before.until_now(fleet, operators)
}

/// All nodes boot at once, and their agents bring back what ran before.
async fn power_cut(fleet: &Fleet, operators: &Operators, agents: Agents, round: usize) -> Result<Span> {
    fleet.reboot(fleet::FIRST_BOOT + 1).await?;
    let before = Reading::take(fleet, operators)?;
    let agents = agents.after_power_cut()?;
    agents.all_run(round).await?;
    before.until_now(fleet, operators)
}

/// What was taken and asked until some moment.
struct Reading {
    at: Instant,
    costs: Costs,
    requests: Requests,
    times: Times,
    machine: Duration,
}

impl Reading {
    fn take(fleet: &Fleet, operators: &Operators) -> Result<Self> {
        let costs = Costs::read(&fleet.plane, &operators.processes())?;
        let (requests, times) = block_in_place(|| anyhow::Ok((Requests::read(&fleet.plane)?, operators.times()?)))?;
        Ok(Self {
            at: Instant::now(),
            costs,
            requests,
            times,
            machine: cost::machine()?,
        })
    }

    fn until_now(&self, fleet: &Fleet, operators: &Operators) -> Result<Span> {
        let took = self.at.elapsed();
        let now = Self::take(fleet, operators)?;
        Ok(Span {
            took,
            costs: now.costs.since(&self.costs),
            requests: now.requests.since(&self.requests),
            times: now.times.since(&self.times),
            machine: now.machine.saturating_sub(self.machine),
        })
    }
}
