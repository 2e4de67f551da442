//! What Prometheus reads. Labels come from bounded sets: names of sets (the first ones), codes of this program. No IO.

use crate::watch::world::Kind;
use crate::writes::Verb;
use livepatch_crds::conditions::{ACCEPTED, DEGRADED, READY, STALLED, find};
use livepatch_crds::rollout::Failure;
use livepatch_crds::set::{Counts, LivepatchSetStatus};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Most sets with series of their own; the series of all further ones are left out.
const MAX_SETS: usize = 200;
/// Most reasons with series of their own within one set; all others count as `Other`. Reasons come from nodes.
const MAX_REASONS: usize = 10;
/// The longest reason that is taken for a code.
const MAX_REASON: usize = 64;
/// Instead of a reason that is no code, or one too many.
const OTHER: &str = "Other";
/// A decision on what a few nodes did takes a fraction of a millisecond; one for which all are judged again, some hundred
/// at 15,000 nodes.
const DECISION_SECONDS: [f64; 12] = [
    0.0001, 0.0002, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.5,
];

/// From a change that frees a slot to the grant that takes it: at once on a quiet API server, and in turn in a large wave.
const GRANT_SECONDS: [f64; 11] = [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0, 5.0];

/// All metrics; copies are the same metrics.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Arc<Registry>,
    /// Held while series are cleared and set anew, so that nobody reads in between.
    showing: Arc<Mutex<()>>,
    nodes: Family<NodesLabels, Gauge>,
    failures: Family<FailureLabels, Gauge>,
    conditions: Family<ConditionLabels, Gauge>,
    set_reasons: Family<SetReasonLabels, Gauge>,
    left_out: Gauge,
    grants: Counter,
    requests: Family<RequestLabels, Counter>,
    decisions: Histogram,
    grant_delays: Histogram,
    leads: Gauge,
    bundle_failures: Family<ReasonLabel, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct NodesLabels {
    set: String,
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FailureLabels {
    set: String,
    reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ConditionLabels {
    set: String,
    condition: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SetReasonLabels {
    set: String,
    reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    verb: &'static str,
    resource: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

/// What is shown of a set.
#[derive(Clone, Copy, Debug)]
pub struct SetSeries<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its status.
    pub status: &'a LivepatchSetStatus,
    /// The failures of its current rollout.
    pub failures: &'a [Failure],
}

impl Default for Metrics {
    fn default() -> Self {
        let nodes = Family::default();
        let failures = Family::default();
        let conditions = Family::default();
        let set_reasons = Family::default();
        let left_out = Gauge::default();
        let grants = Counter::default();
        let requests = Family::default();
        let decisions = Histogram::new(DECISION_SECONDS);
        let grant_delays = Histogram::new(GRANT_SECONDS);
        let leads = Gauge::default();
        let bundle_failures = Family::default();
        let mut registry = Registry::with_prefix("livepatch");
        registry.register("nodes", "Selected nodes by set and state", nodes.clone());
        registry.register(
            "failures",
            "Listed failures of the current rollout by set and reason",
            failures.clone(),
        );
        registry.register(
            "set_condition",
            "Conditions of a set: 1 if True, 0 if False, absent if Unknown",
            conditions.clone(),
        );
        registry.register(
            "set_reason",
            "Why a set is ready or not: 1 for the reason of its condition Ready",
            set_reasons.clone(),
        );
        registry.register(
            "sets_left_out",
            "Sets without series of their own, because there are too many",
            left_out.clone(),
        );
        registry.register(
            "operator_build",
            "Version of the operator",
            Info::new([("version", env!("CARGO_PKG_VERSION"))]),
        );
        registry.register("grants", "Grants written", grants.clone());
        registry.register(
            "api_requests",
            "Requests to the API server but watches",
            requests.clone(),
        );
        registry.register(
            "decision_seconds",
            "Time to decide what to write next",
            decisions.clone(),
        );
        registry.register(
            "grant_seconds",
            "Time from the first change that a turn takes in to each of its grants being sent",
            grant_delays.clone(),
        );
        registry.register("leader", "1 if this operator leads", leads.clone());
        registry.register(
            "bundle_failures",
            "Failed attempts to read an artefact",
            bundle_failures.clone(),
        );
        Self {
            registry: Arc::new(registry),
            showing: Arc::default(),
            nodes,
            failures,
            conditions,
            set_reasons,
            left_out,
            grants,
            requests,
            decisions,
            grant_delays,
            leads,
            bundle_failures,
        }
    }
}

impl Metrics {
    /// One answer of the API server.
    pub fn count_request(&self, verb: Verb, resource: Kind, outcome: &'static str) {
        let labels = RequestLabels {
            verb: verb.name(),
            resource: resource.resource(),
            outcome,
        };
        self.requests.get_or_create(&labels).inc();
    }

    /// Grants that were written.
    pub fn count_grants(&self, grants: usize) {
        self.grants.inc_by(u64::try_from(grants).unwrap_or(u64::MAX));
    }

    /// One decision.
    pub fn observe_decision(&self, took: Duration) {
        self.decisions.observe(took.as_secs_f64());
    }

    /// One grant that is sent, so long after the first of the changes for which it was given.
    pub fn observe_grant(&self, delay: Duration) {
        self.grant_delays.observe(delay.as_secs_f64());
    }

    /// Whether this operator leads.
    pub fn set_leader(&self, leads: bool) {
        self.leads.set(i64::from(leads));
    }

    /// One failed attempt to read an artefact.
    pub fn count_bundle_failure(&self, reason: &'static str) {
        self.bundle_failures.get_or_create(&ReasonLabel { reason }).inc();
    }

    /// What is said of all sets. Series of sets that are gone go away.
    pub fn show_sets<'a>(&self, sets: impl Iterator<Item = SetSeries<'a>>) {
        let _showing = self.showing.lock().unwrap_or_else(PoisonError::into_inner);
        self.nodes.clear();
        self.failures.clear();
        self.conditions.clear();
        self.set_reasons.clear();
        let mut left_out = 0;
        for (index, set) in sets.enumerate() {
            if index < MAX_SETS {
                self.show_set(&set);
            } else {
                left_out += 1;
            }
        }
        self.left_out.set(left_out);
    }

    fn show_set(&self, set: &SetSeries<'_>) {
        let SetSeries { name, status, failures } = *set;
        let set = || name.to_owned();
        for (state, number) in by_state(&status.counts) {
            let labels = NodesLabels { set: set(), state };
            self.nodes.get_or_create(&labels).set(i64::from(number));
        }
        for (reason, number) in by_reason(failures) {
            let labels = FailureLabels { set: set(), reason };
            self.failures.get_or_create(&labels).set(number);
        }
        for condition in [ACCEPTED, READY, STALLED, DEGRADED] {
            let said = find(&status.conditions, condition).map(|said| said.status.as_str());
            let value = match said {
                Some("True") => 1,
                Some("False") => 0,
                _ => continue,
            };
            let labels = ConditionLabels { set: set(), condition };
            self.conditions.get_or_create(&labels).set(value);
        }
        if let Some(ready) = find(&status.conditions, READY) {
            let reason = code(&ready.reason).to_owned();
            self.set_reasons
                .get_or_create(&SetReasonLabels { set: set(), reason })
                .set(1);
        }
    }

    /// The text that Prometheus reads in the `OpenMetrics` format.
    ///
    /// # Errors
    /// None that a string could give.
    pub fn text(&self) -> Result<String, fmt::Error> {
        let _showing = self.showing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

fn by_state(counts: &Counts) -> [(&'static str, i32); 10] {
    // Without `..`: a new state cannot be forgotten.
    let Counts {
        selected: _,
        pending,
        in_flight,
        settled,
        failed,
        not_applicable,
        unreachable,
        held,
        unknown,
        excluded,
        rolled_back,
    } = *counts;
    [
        ("pending", pending),
        ("in_flight", in_flight),
        ("settled", settled),
        ("failed", failed),
        ("not_applicable", not_applicable),
        ("unreachable", unreachable),
        ("held", held),
        ("unknown", unknown),
        ("excluded", excluded),
        ("rolled_back", rolled_back),
    ]
}

fn by_reason(failures: &[Failure]) -> BTreeMap<String, i64> {
    let mut by_reason = BTreeMap::new();
    for failure in failures {
        let told = by_reason.contains_key(&failure.reason) || by_reason.len() < MAX_REASONS;
        let reason = if told { code(&failure.reason) } else { OTHER };
        *by_reason.entry(reason.to_owned()).or_default() += 1;
    }
    by_reason
}

/// The reason, if it has the form of a code.
fn code(reason: &str) -> &str {
    let is_code = !reason.is_empty() && reason.len() <= MAX_REASON && reason.chars().all(|c| c.is_ascii_alphanumeric());
    if is_code { reason } else { OTHER }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

    fn failure(reason: &str) -> Failure {
        Failure {
            node: "n".to_owned(),
            wave: "w".to_owned(),
            attempt: 1,
            reason: reason.to_owned(),
            message: String::new(),
            back: false,
        }
    }

    #[test]
    fn the_text_has_every_family_and_forgets_sets_that_are_gone() {
        let metrics = Metrics::default();
        let status = status("Halted");
        let failures = [failure("LoadRefused")];
        let set = SetSeries {
            name: "a",
            status: &status,
            failures: &failures,
        };
        metrics.show_sets([set].into_iter());
        metrics.count_grants(3);
        metrics.count_request(Verb::Patch, Kind::NodeObject, "Done");
        let text = metrics.text().unwrap();
        for line in [
            r#"livepatch_nodes{set="a",state="settled"} 2"#,
            r#"livepatch_failures{set="a",reason="LoadRefused"} 1"#,
            r#"livepatch_set_condition{set="a",condition="Ready"} 0"#,
            r#"livepatch_set_condition{set="a",condition="Stalled"} 1"#,
            r#"livepatch_set_reason{set="a",reason="Halted"} 1"#,
            "livepatch_grants_total 3",
            r#"livepatch_api_requests_total{verb="patch",resource="nodelivepatches",outcome="Done"} 1"#,
            "livepatch_leader 0",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} in\n{text}");
        }
        metrics.show_sets(std::iter::empty());
        assert!(!metrics.text().unwrap().contains(r#"set="a""#));
    }

    fn status(ready: &str) -> LivepatchSetStatus {
        let say = |kind, status, reason: &str| Condition {
            type_: kind,
            status,
            reason: reason.to_owned(),
            message: String::new(),
            observed_generation: Some(1),
            last_transition_time: Time(Timestamp::UNIX_EPOCH),
        };
        LivepatchSetStatus {
            counts: Counts {
                selected: 3,
                settled: 2,
                failed: 1,
                ..Counts::default()
            },
            conditions: [
                (ACCEPTED, "True"),
                (READY, "False"),
                (STALLED, "True"),
                (DEGRADED, "Unknown"),
            ]
            .map(|(kind, status)| say(kind.to_owned(), status.to_owned(), ready))
            .into(),
            ..LivepatchSetStatus::default()
        }
    }

    /// However many sets there are, whatever their nodes say, and whatever else happens.
    #[test]
    fn the_number_of_series_has_a_bound() {
        let metrics = Metrics::default();
        let (names, status): (Vec<_>, _) = ((0..5 * MAX_SETS).map(|n| format!("set-{n}")).collect(), status("x\n{"));
        for round in 0..3 {
            let failures: Vec<Failure> = (0..50).map(|n| failure(&format!("R{round}x{n}"))).collect();
            metrics.show_sets(names.iter().map(|name| SetSeries {
                name,
                status: &status,
                failures: &failures,
            }));
        }
        let text = metrics.text().unwrap();
        assert!(
            text.contains(&format!("livepatch_sets_left_out {}\n", 4 * MAX_SETS)),
            "{text}"
        );
        let states = by_state(&Counts::default()).len();
        let of_sets = text.lines().filter(|line| line.contains("set=\"")).count();
        // The states, three conditions that are known, one reason, the failures' reasons.
        assert_eq!(of_sets, MAX_SETS * (states + 3 + 1 + MAX_REASONS + 1));
        let others = text
            .lines()
            .filter(|line| !line.starts_with('#') && !line.contains("set=\""))
            .count();
        assert!(others < 50, "{text}");
    }

    #[test]
    fn reasons_from_nodes_cannot_blow_up_the_series() {
        let many: Vec<Failure> = (0..50)
            .map(|n| failure(&format!("R{n}")))
            .chain([failure("x\"} y")])
            .collect();
        let by_reason = by_reason(&many);
        assert!(by_reason.len() <= MAX_REASONS + 1);
        assert_eq!(by_reason.values().sum::<i64>(), 51);
        assert!(
            by_reason
                .keys()
                .all(|reason| reason.chars().all(|c| c.is_ascii_alphanumeric()))
        );
    }
}
