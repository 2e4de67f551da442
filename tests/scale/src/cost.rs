//! What processes take of this machine, and what the API server was asked. Does IO.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use livepatch_rig::control_plane::ControlPlane;

/// Ticks of the clock by which the kernel tells CPU time to user space: `USER_HZ` is 100 on every architecture here.
const TICKS_PER_SECOND: u64 = 100;

/// CPU time since the start of each part.
#[derive(Debug, Clone, Copy, Default)]
pub struct Costs {
    /// etcd and the API server.
    pub plane: Duration,
    /// All operators.
    pub operator: Duration,
    /// This process: the agents, or the bare loop.
    pub here: Duration,
}

impl Costs {
    /// As of now.
    pub fn read(plane: &ControlPlane, operators: &[u32]) -> Result<Self> {
        Ok(Self {
            plane: cpu(&plane.process_ids())?,
            operator: cpu(operators)?,
            here: cpu(&[std::process::id()])?,
        })
    }

    /// What was taken since `before`.
    pub fn since(&self, before: &Self) -> Self {
        Self {
            plane: self.plane.saturating_sub(before.plane),
            operator: self.operator.saturating_sub(before.operator),
            here: self.here.saturating_sub(before.here),
        }
    }

    pub fn total(&self) -> Duration {
        self.plane + self.operator + self.here
    }
}

fn cpu(processes: &[u32]) -> Result<Duration> {
    let mut ticks = 0;
    for process in processes {
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).with_context(|| format!("process {process}"))?;
        // The name is in parentheses and may hold anything; utime and stime are the fields 14 and 15 (proc(5)).
        let after_name = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
        let fields: Vec<u64> = after_name.split(' ').map(|field| field.parse().unwrap_or(0)).collect();
        ticks += fields.get(11).copied().unwrap_or(0) + fields.get(12).copied().unwrap_or(0);
    }
    Ok(Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND))
}

/// CPU time that everything on this machine took since it started.
pub fn machine() -> Result<Duration> {
    let stat = fs::read_to_string("/proc/stat").context("/proc/stat")?;
    // user, nice, system, idle, iowait, irq, softirq (proc(5)); what virtual machines take is in `user` already.
    let line = stat.lines().next().unwrap_or_default();
    let fields: Vec<u64> = line
        .split_whitespace()
        .skip(1)
        .map(|field| field.parse().unwrap_or(0))
        .collect();
    let ticks: u64 = [0, 1, 2, 5, 6].iter().filter_map(|place| fields.get(*place)).sum();
    Ok(Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND))
}

/// Resident memory of a process, in KiB: `VmRSS` for now, `VmHWM` for the most so far (proc(5)).
pub fn memory(process: u32, which: &str) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).with_context(|| format!("process {process}"))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(which)?.strip_prefix(':'))
        .with_context(|| which.to_owned())?;
    let number = line.trim().trim_end_matches(" kB").parse();
    number.with_context(|| format!("{which} is a number"))
}

/// What the API server counted since its start.
#[derive(Debug, Clone, Default)]
pub struct Requests {
    /// Requests for this project's objects, for leases and for events, by verb and resource; watches when they end.
    pub by_verb: BTreeMap<String, u64>,
    /// Requests that priority and fairness turned away, by flow schema; only those of this project.
    pub rejected: BTreeMap<String, u64>,
}

impl Requests {
    /// As of now.
    pub fn read(plane: &ControlPlane) -> Result<Self> {
        let metrics = plane.admin().run(&["get", "--raw", "/metrics"])?;
        let mut requests = Self::default();
        for line in metrics.lines() {
            let Some((name, value)) = line.rsplit_once(' ') else {
                continue;
            };
            let value = value.parse::<f64>().map_or(0, whole);
            if let Some(labels) = name.strip_prefix("apiserver_request_total{") {
                requests.count(labels, value);
            } else if let Some(labels) = name.strip_prefix("apiserver_flowcontrol_rejected_requests_total{") {
                let schema = label(labels, "flow_schema");
                if schema.starts_with("livepatch") {
                    *requests.rejected.entry(schema.to_owned()).or_default() += value;
                }
            }
        }
        Ok(requests)
    }

    fn count(&mut self, labels: &str, value: u64) {
        let (resource, part) = (label(labels, "resource"), label(labels, "subresource"));
        if label(labels, "group") == "livepatch.dev" || ["leases", "events"].contains(&resource) {
            let slash = if part.is_empty() { "" } else { "/" };
            let what = format!("{} {resource}{slash}{part}", label(labels, "verb"));
            *self.by_verb.entry(what).or_default() += value;
        }
    }

    /// Writes of `NodeLivepatch`: of its spec by the operator, of its status by the agents.
    pub fn of_nodes(&self) -> u64 {
        let of = |what| self.by_verb.get(what).copied().unwrap_or(0);
        of("PATCH nodelivepatches") + of("PATCH nodelivepatches/status")
    }

    /// All other writes.
    pub fn other_writes(&self) -> u64 {
        self.writes().map(|(_, number)| number).sum::<u64>() - self.of_nodes()
    }

    /// Every kind of write, in words.
    pub fn writes_told(&self) -> String {
        let told: Vec<String> = self.writes().map(|(what, number)| format!("{number} {what}")).collect();
        if told.is_empty() {
            "none".to_owned()
        } else {
            told.join(", ")
        }
    }

    fn writes(&self) -> impl Iterator<Item = (&String, &u64)> {
        self.by_verb.iter().filter(|(what, _)| {
            ["PATCH ", "PUT ", "POST ", "DELETE ", "APPLY "]
                .iter()
                .any(|verb| what.starts_with(verb))
        })
    }

    /// What came since `before`.
    pub fn since(&self, before: &Self) -> Self {
        let came = |(what, now): (&String, &u64)| {
            let before = before.by_verb.get(what).copied().unwrap_or(0);
            let came = now.saturating_sub(before);
            (came > 0).then(|| (what.clone(), came))
        };
        Self {
            by_verb: self.by_verb.iter().filter_map(came).collect(),
            rejected: self.rejected.clone(),
        }
    }
}

/// A count that Prometheus writes as a float, such as `1.234567e+06`.
fn whole(value: f64) -> u64 {
    format!("{value:.0}").parse().unwrap_or(0)
}

fn label<'a>(labels: &'a str, name: &str) -> &'a str {
    labels
        .split(',')
        .find_map(|pair| pair.strip_prefix(name)?.strip_prefix("=\""))
        .map_or("", |rest| rest.split('"').next().unwrap_or_default())
}
