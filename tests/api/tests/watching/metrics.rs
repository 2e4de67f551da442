//! docs/metrics.md: what the two programs tell Prometheus, from what they really tell.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use livepatch_agent::metrics::{Metrics as AgentMetrics, RequestLabels, StepLabel};
use livepatch_crds::conditions::{READY, Saying, merge};
use livepatch_crds::rollout::Failure;
use livepatch_crds::set::LivepatchSetStatus;
use livepatch_operator::metrics::{Metrics, SetSeries};
use livepatch_operator::watch::world::Kind;
use livepatch_operator::writes::Verb;

use crate::committed;

/// A family of series.
#[derive(Clone, Debug, Default)]
pub struct Family {
    pub name: String,
    pub kind: String,
    help: String,
    labels: Vec<String>,
}

/// All families, those of the operator first.
pub fn families() -> Vec<Family> {
    [operator(), agent()].concat()
}

/// The operator's, with every label used at least once.
fn operator() -> Vec<Family> {
    let metrics = Metrics::default();
    let ready = Saying {
        kind: READY,
        status: Some(true),
        reason: "Complete",
        message: String::new(),
    };
    let status = LivepatchSetStatus {
        conditions: merge(&[], &[ready], 1, jiff::Timestamp::UNIX_EPOCH),
        ..LivepatchSetStatus::default()
    };
    let failure = Failure {
        node: "n".to_owned(),
        wave: "w".to_owned(),
        attempt: 1,
        reason: "SymbolNotFound".to_owned(),
        message: String::new(),
        back: false,
    };
    let set = SetSeries {
        name: "a",
        status: &status,
        failures: &[failure],
    };
    metrics.show_sets([set].into_iter());
    metrics.count_request(Verb::Patch, Kind::NodeObject, "Done");
    metrics.count_bundle_failure("DigestUnknown");
    read(&metrics.text().unwrap())
}

/// The agent's.
fn agent() -> Vec<Family> {
    let mut registry = prometheus_client::registry::Registry::default();
    let metrics = AgentMetrics::registered(&mut registry);
    metrics.failed("SymbolNotFound");
    metrics.steps.get_or_create(&StepLabel { step: "load" }).inc();
    let request = RequestLabels {
        verb: "get",
        resource: "leases",
        outcome: "Done",
    };
    metrics.requests.get_or_create(&request).inc();
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    read(&text)
}

/// The families of a text in the `OpenMetrics` format, in its order.
fn read(text: &str) -> Vec<Family> {
    let mut families: Vec<Family> = Vec::new();
    for line in text.lines() {
        if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            families.push(Family {
                name: name.to_owned(),
                help: help.trim_end_matches('.').to_owned(),
                ..Family::default()
            });
        } else if let (Some(rest), Some(family)) = (line.strip_prefix("# TYPE "), families.last_mut()) {
            family.kind = rest.rsplit(' ').next().unwrap().to_owned();
        } else if let (Some((_, rest)), Some(family)) = (line.split_once('{'), families.last_mut()) {
            let labels = rest.split('}').next().unwrap().split(',');
            let labels = labels.filter_map(|label| Some(label.split_once('=')?.0.to_owned()));
            family.labels = labels.filter(|label| label != "le").collect();
        }
    }
    families
}

#[test]
fn the_page_says_what_the_programs_say() {
    let mut page = String::from(
        "# Metrics\n\n\
         What operator and agent tell Prometheus on `/metrics` (OpenMetrics). A test writes this page from what they say.\n\n\
         Every label has a bound. `set` is the name of a LivepatchSet, for the first 200; `reason` is a code of\n\
         [runbook.md](runbook.md), at most 11 for a set and 41 on a node, the others count as `Other`; all other labels take\n\
         a handful of values from the source. No label names a node: the chart's PodMonitor adds `node` to what an agent says.\n\
         Only the operator that leads tells of sets.\n",
    );
    for (title, families) in [("Operator", operator()), ("Agent", agent())] {
        let _ = write!(
            page,
            "\n## {title}\n\n| metric | type | labels | what it is |\n|---|---|---|---|\n"
        );
        let mut names = BTreeSet::new();
        for Family {
            name,
            kind,
            help,
            labels,
        } in families
        {
            assert!(names.insert(name.clone()), "{name} is told twice");
            let suffix = match kind.as_str() {
                "counter" => "_total",
                "info" => "_info",
                _ => "",
            };
            let labels: Vec<String> = labels.iter().map(|label| format!("`{label}`")).collect();
            let _ = writeln!(page, "| `{name}{suffix}` | {kind} | {} | {help} |", labels.join(", "));
        }
    }
    committed("docs/metrics.md", &page);
}
