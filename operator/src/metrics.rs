//! What Prometheus reads. Labels come from bounded sets: names of sets (the first ones), codes of this program. No IO.

use crate::watch::world::Kind;
use crate::writes::Verb;
use livepatch_crds::rollout::Failure;
use livepatch_crds::set::Counts;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Most sets with series of their own; the series of all further ones are left out.
const MAX_SETS: usize = 200;
/// Most reasons with series of their own within one set; all others count as `Other`. Reasons come from nodes.
const MAX_REASONS: usize = 10;
/// Decisions take from less than a millisecond to some hundred at 15,000 nodes.
const DECISION_SECONDS: [f64; 10] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.5];

/// All metrics; copies are the same metrics.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Arc<Registry>,
    /// Held while series are cleared and set anew, so that nobody reads in between.
    showing: Arc<Mutex<()>>,
    nodes: Family<NodesLabels, Gauge>,
    failures: Family<FailureLabels, Gauge>,
    grants: Counter,
    requests: Family<RequestLabels, Counter>,
    decisions: Histogram,
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
struct RequestLabels {
    verb: &'static str,
    resource: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

impl Default for Metrics {
    fn default() -> Self {
        let nodes = Family::default();
        let failures = Family::default();
        let grants = Counter::default();
        let requests = Family::default();
        let decisions = Histogram::new(DECISION_SECONDS);
        let leads = Gauge::default();
        let bundle_failures = Family::default();
        let mut registry = Registry::with_prefix("livepatch");
        registry.register("nodes", "Selected nodes by set and state", nodes.clone());
        registry.register(
            "failures",
            "Listed failures of the current rollout by set and reason",
            failures.clone(),
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
            grants,
            requests,
            decisions,
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

    /// Whether this operator leads.
    pub fn set_leader(&self, leads: bool) {
        self.leads.set(i64::from(leads));
    }

    /// One failed attempt to read an artefact.
    pub fn count_bundle_failure(&self, reason: &'static str) {
        self.bundle_failures.get_or_create(&ReasonLabel { reason }).inc();
    }

    /// The nodes and failures of all sets. Series of sets that are gone go away.
    pub fn show_sets<'a>(&self, sets: impl Iterator<Item = (&'a str, &'a Counts, &'a [Failure])>) {
        let _showing = self.showing.lock().unwrap_or_else(PoisonError::into_inner);
        self.nodes.clear();
        self.failures.clear();
        for (set, counts, failures) in sets.take(MAX_SETS) {
            for (state, number) in by_state(counts) {
                let labels = NodesLabels {
                    set: set.to_owned(),
                    state,
                };
                self.nodes.get_or_create(&labels).set(i64::from(number));
            }
            for (reason, number) in by_reason(failures) {
                let labels = FailureLabels {
                    set: set.to_owned(),
                    reason,
                };
                self.failures.get_or_create(&labels).set(number);
            }
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

fn by_state(counts: &Counts) -> [(&'static str, i32); 9] {
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
    ]
}

fn by_reason(failures: &[Failure]) -> BTreeMap<String, i64> {
    let mut by_reason = BTreeMap::new();
    for failure in failures {
        let told = by_reason.contains_key(&failure.reason) || by_reason.len() < MAX_REASONS;
        let is_code = !failure.reason.is_empty() && failure.reason.chars().all(|c| c.is_ascii_alphanumeric());
        let reason = if told && is_code { &failure.reason } else { "Other" };
        *by_reason.entry(reason.to_owned()).or_default() += 1;
    }
    by_reason
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(reason: &str) -> Failure {
        Failure {
            node: "n".to_owned(),
            wave: "w".to_owned(),
            attempt: 1,
            reason: reason.to_owned(),
            message: String::new(),
        }
    }

    #[test]
    fn the_text_has_every_family_and_forgets_sets_that_are_gone() {
        let metrics = Metrics::default();
        let counts = Counts {
            selected: 3,
            settled: 2,
            failed: 1,
            ..Counts::default()
        };
        metrics.show_sets([("a", &counts, [failure("LoadRefused")].as_slice())].into_iter());
        metrics.count_grants(3);
        metrics.count_request(Verb::Patch, Kind::NodeObject, "Done");
        let text = metrics.text().unwrap();
        for line in [
            r#"livepatch_nodes{set="a",state="settled"} 2"#,
            r#"livepatch_failures{set="a",reason="LoadRefused"} 1"#,
            "livepatch_grants_total 3",
            r#"livepatch_api_requests_total{verb="patch",resource="nodelivepatches",outcome="Done"} 1"#,
            "livepatch_leader 0",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} in\n{text}");
        }
        metrics.show_sets(std::iter::empty());
        assert!(!metrics.text().unwrap().contains(r#"set="a""#));
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
