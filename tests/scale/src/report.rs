//! The report. No IO.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use crate::cost::{Costs, Requests};
use crate::failover::Failover;
use crate::fleet::Sizes;
use crate::times::Times;

/// What something took.
#[derive(Debug, Clone)]
pub struct Span {
    pub took: Duration,
    pub costs: Costs,
    pub requests: Requests,
    pub times: Times,
    /// CPU time of everything on the machine.
    pub machine: Duration,
}

impl Span {
    fn writes(&self) -> u64 {
        self.requests.of_nodes()
    }

    /// CPU for each write, of everybody who takes part, in milliseconds.
    fn milliseconds_per_write(&self) -> f64 {
        per(self.costs.total(), self.writes())
    }

    /// Cores that were taken by what is no part of it.
    fn others(&self) -> f64 {
        self.machine.saturating_sub(self.costs.total()).as_secs_f64() / self.took.as_secs_f64()
    }
}

/// Everything that was measured.
#[derive(Debug)]
pub struct Report {
    nodes: usize,
    /// Rollouts over all nodes.
    pub ours: Vec<Span>,
    /// The same writes without us.
    pub floor: Vec<Span>,
    /// The same with the reads that come before an agent begins.
    pub floor_with_reads: Vec<Span>,
    /// A rollout of one node after the other, for some time.
    pub slow: Option<Span>,
    /// Resident memory of the operator, in KiB: now, and the most so far.
    pub operator_memory: (u64, u64),
    /// And of the process with all agents.
    pub agents_memory: u64,
    /// How large objects are, by kind.
    pub sizes: Vec<(&'static str, Sizes)>,
    pub idle: Option<Span>,
    /// All agents coming back at once.
    pub power_cut: Option<Span>,
    pub failovers: Vec<Failover>,
    /// Requests that were turned away, by flow schema.
    pub rejected: BTreeMap<String, u64>,
}

/// A line of the report: what, what was seen, what should be.
type Row = (String, String, String);

fn row(what: &str, seen: impl Into<String>, goal: impl Into<String>) -> Row {
    (what.to_owned(), seen.into(), goal.into())
}

/// Of what there is no goal.
const TOLD: &str = "–";

impl Report {
    pub fn new(nodes: usize) -> Self {
        Self {
            nodes,
            ours: Vec::new(),
            floor: Vec::new(),
            floor_with_reads: Vec::new(),
            slow: None,
            operator_memory: (0, 0),
            agents_memory: 0,
            sizes: Vec::new(),
            idle: None,
            power_cut: None,
            failovers: Vec::new(),
            rejected: BTreeMap::new(),
        }
    }

    fn rows(&self) -> Vec<Row> {
        [self.writes(), self.cpu(), self.times(), self.memory(), self.rest()].concat()
    }

    /// Requests of a rollout over all nodes.
    fn writes(&self) -> Vec<Row> {
        let ours = |of: fn(&Span) -> f64| self.ours.iter().map(of);
        let per_node = |number: u64| count(number) / whole(self.nodes);
        let mut rows = vec![
            row(
                "API writes per grant",
                spread(self.ours.iter().map(|span| per_node(span.writes())), 2),
                "2",
            ),
            row(
                "all other writes of a rollout",
                spread(ours(|span| count(span.requests.other_writes())), 0),
                TOLD,
            ),
            row(
                "writes of grants and results per second",
                spread(ours(|span| count(span.writes()) / span.took.as_secs_f64()), 0),
                TOLD,
            ),
            row(
                "rollout over all nodes, s",
                spread(ours(|span| span.took.as_secs_f64()), 1),
                TOLD,
            ),
            row(
                "bare loop over all nodes, s",
                spread(self.floor.iter().map(|span| span.took.as_secs_f64()), 1),
                TOLD,
            ),
        ];
        let verbs: BTreeSet<&String> = self.ours.iter().flat_map(|span| span.requests.by_verb.keys()).collect();
        rows.extend(verbs.into_iter().map(|verb| {
            let of = |span: &Span| per_node(span.requests.by_verb.get(verb).copied().unwrap_or(0));
            row(
                &format!("requests per node and rollout: {verb}"),
                spread(self.ours.iter().map(of), 3),
                if ["GET leases", "GET nodelivepatches"].contains(&verb.as_str()) {
                    "1 (R3)"
                } else {
                    TOLD
                },
            )
        }));
        rows
    }

    fn cpu(&self) -> Vec<Row> {
        let over = |floor: &[Span]| {
            let pairs = self.ours.iter().zip(floor);
            let ratios = pairs.map(|(ours, floor)| ours.milliseconds_per_write() / floor.milliseconds_per_write());
            spread(ratios, 2)
        };
        let all = [&self.ours, &self.floor, &self.floor_with_reads].into_iter().flatten();
        let part =
            |of: fn(&Costs) -> Duration| spread(self.ours.iter().map(|span| per(of(&span.costs), span.writes())), 2);
        let floor = self.floor.iter().map(Span::milliseconds_per_write);
        vec![
            row(
                "CPU per write, ours / bare loop",
                over(&self.floor),
                if self.nodes <= 1000 { "<= 1.1" } else { "<= 1.2" },
            ),
            row(
                "CPU per write, ours / bare loop that reads as often",
                over(&self.floor_with_reads),
                TOLD,
            ),
            row("CPU per write, bare loop, ms", spread(floor, 2), TOLD),
            row("CPU per write, ours, ms", part(Costs::total), TOLD),
            row("of it etcd and API server, ms", part(|costs| costs.plane), TOLD),
            row("of it the operator, ms", part(|costs| costs.operator), TOLD),
            row("of it all agents, ms", part(|costs| costs.here), TOLD),
            row(
                "cores taken by other work meanwhile",
                spread(all.map(Span::others), 2),
                TOLD,
            ),
        ]
    }

    /// How soon the operator acts.
    fn times(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        if let Some(slow) = &self.slow {
            let rate = slow.times.grants.count / slow.took.as_secs_f64();
            rows.push(row(
                &format!("event decoded to grant sent at {rate:.0} grants/s, ms"),
                slow.times.grants.told(),
                "p50 2, p99 20",
            ));
            rows.push(row("a decision then, ms", slow.times.decisions.told(), TOLD));
            let share = slow.costs.operator.as_secs_f64() / slow.took.as_secs_f64() * 1000.0;
            rows.push(row("the operator then, millicores", format!("{share:.0}"), TOLD));
        }
        let decisions = self.ours.iter().map(|span| span.times.decisions.mean());
        rows.push(row(
            "a decision in a rollout over all nodes, mean ms",
            spread(decisions, 1),
            TOLD,
        ));
        let decisions = self.ours.iter().map(|span| span.times.decisions.count);
        rows.push(row("decisions in a rollout over all nodes", spread(decisions, 0), TOLD));
        rows
    }

    fn memory(&self) -> Vec<Row> {
        let mib = |kib: u64| count(kib) / 1024.0;
        let goal = 14.0 + 0.6 * whole(self.nodes) / 1024.0;
        let mut rows = vec![
            row(
                "operator RSS, MiB (most so far)",
                format!(
                    "{:.1} ({:.1})",
                    mib(self.operator_memory.0),
                    mib(self.operator_memory.1)
                ),
                format!("<= {goal:.1} (14 MiB + 0.6 KB per node and set)"),
            ),
            row(
                "all agents in one process, RSS per agent, KiB",
                format!("{:.1}", count(self.agents_memory) / whole(self.nodes)),
                TOLD,
            ),
        ];
        rows.extend(self.sizes.iter().map(|(kind, sizes)| {
            let seen = format!("{}, of it status {}", sizes.whole, sizes.status);
            let goal = match *kind {
                "LivepatchSet" => "<= 8192",
                "NodeLivepatch" => "<= 4096 with 20 livepatches",
                _ => TOLD,
            };
            row(&format!("{kind}, bytes of JSON"), seen, goal)
        }));
        rows
    }

    fn rest(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        if let Some(idle) = &self.idle {
            rows.push(row(
                &format!("writes in {} s with nothing to do", idle.took.as_secs()),
                idle.requests.writes_told(),
                "0, but the lease",
            ));
            let share = idle.costs.operator.as_secs_f64() / idle.took.as_secs_f64() * 1000.0;
            rows.push(row(
                "operator with nothing to do, millicores",
                format!("{share:.1}"),
                TOLD,
            ));
        }
        if let Some(cut) = &self.power_cut {
            rows.push(row(
                "all nodes boot at once: until all run and say so, s",
                format!("{:.1}", cut.took.as_secs_f64()),
                TOLD,
            ));
            rows.push(row(
                "all nodes boot at once: writes per node",
                format!("{:.2}", count(cut.writes()) / whole(self.nodes)),
                TOLD,
            ));
        }
        rows.extend(self.failovers.iter().map(|failover| {
            row(
                &format!("next leader after SIG{}, s", failover.signal),
                format!("{:.1}", failover.took.as_secs_f64()),
                if failover.signal == "KILL" { "<= 20" } else { "<= 2" },
            )
        }));
        let rejected: u64 = self.rejected.values().sum();
        rows.push(row(
            "requests turned away by priority and fairness",
            rejected.to_string(),
            "0",
        ));
        rows
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "### {} nodes, {} rounds\n", self.nodes, self.ours.len())?;
        writeln!(f, "| what | seen | goal |\n|---|---|---|")?;
        for (what, seen, goal) in self.rows() {
            writeln!(f, "| {what} | {seen} | {goal} |")?;
        }
        Ok(())
    }
}

/// Median, and least and most.
fn spread(values: impl Iterator<Item = f64>, digits: usize) -> String {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let (Some(least), Some(most), Some(median)) = (values.first(), values.last(), values.get(values.len() / 2)) else {
        return "not measured".to_owned();
    };
    format!("{median:.digits$} ({least:.digits$} to {most:.digits$})")
}

fn per(time: Duration, number: u64) -> f64 {
    time.as_secs_f64() * 1000.0 / count(number.max(1))
}

fn count(number: u64) -> f64 {
    u32::try_from(number).map_or(f64::INFINITY, f64::from)
}

fn whole(number: usize) -> f64 {
    u32::try_from(number).map_or(f64::INFINITY, f64::from)
}
