//! What an agent counts. No IO.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

/// Most reasons with a series of their own; all others count as `Other`. There are some hundred codes, and few on a node.
const MAX_REASONS: usize = 40;
/// Instead of one reason too many.
const OTHER: &str = "Other";
/// From a quiet node to one that a task keeps waiting. Few: there is one set of them for each node.
const TRANSITION_SECONDS: [f64; 7] = [0.1, 0.5, 2.0, 10.0, 60.0, 300.0, 1800.0];
/// From the time between two system calls to a restore that has to be tried again.
const GAP_SECONDS: [f64; 6] = [0.01, 0.1, 1.0, 10.0, 60.0, 600.0];

/// A label with a reason code, all of which are in this program's and its libraries' source.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ReasonLabel {
    /// The code.
    pub reason: String,
}

/// A label with the name of a step.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct StepLabel {
    /// The name.
    pub step: &'static str,
}

/// A label with what was asked of the API server, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RequestLabels {
    /// `get` or `patch_status`.
    pub verb: &'static str,
    /// The resource in the API.
    pub resource: &'static str,
    /// `Done`, or a reason code.
    pub outcome: &'static str,
}

/// What an agent counts.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// Passes over everything.
    pub passes: Counter,
    /// Steps taken.
    pub steps: Family<StepLabel, Counter>,
    /// Failures, by reason code.
    failures: Family<ReasonLabel, Counter>,
    /// The reasons that have a series.
    reasons: Arc<Mutex<BTreeSet<String>>>,
    /// Status writes.
    pub status_writes: Counter,
    /// Requests to the API server.
    pub requests: Family<RequestLabels, Counter>,
    /// Livepatches that the kernel holds.
    pub loaded: Gauge,
    transitions: Histogram,
    gaps: Histogram,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            passes: Counter::default(),
            steps: Family::default(),
            failures: Family::default(),
            reasons: Arc::default(),
            status_writes: Counter::default(),
            requests: Family::default(),
            loaded: Gauge::default(),
            transitions: Histogram::new(TRANSITION_SECONDS),
            gaps: Histogram::new(GAP_SECONDS),
        }
    }
}

impl Metrics {
    /// Metrics that a registry shows.
    pub fn registered(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let registry = registry.sub_registry_with_prefix("livepatch_agent");
        registry.register("passes", "Passes over everything", metrics.passes.clone());
        registry.register("steps", "Steps taken", metrics.steps.clone());
        registry.register("failures", "Failures, by reason code", metrics.failures.clone());
        registry.register("status_writes", "Writes of the status", metrics.status_writes.clone());
        registry.register(
            "api_requests",
            "Requests to the API server but watches",
            metrics.requests.clone(),
        );
        registry.register(
            "loaded_livepatches",
            "Livepatches that the kernel holds",
            metrics.loaded.clone(),
        );
        registry.register(
            "transition_seconds",
            "Seconds from finit_module to the end of the transition",
            metrics.transitions.clone(),
        );
        registry.register(
            "gap_seconds",
            "Seconds for which functions ran unfixed in between",
            metrics.gaps.clone(),
        );
        registry.register(
            "build",
            "Version of the agent",
            Info::new([("version", env!("CARGO_PKG_VERSION"))]),
        );
        metrics
    }

    /// Counts a failure.
    pub fn failed(&self, reason: &str) {
        let mut reasons = self.reasons.lock().unwrap_or_else(PoisonError::into_inner);
        let told = reasons.contains(reason) || reasons.len() < MAX_REASONS;
        let reason = if told { reason } else { OTHER }.to_owned();
        reasons.insert(reason.clone());
        self.failures.get_or_create(&ReasonLabel { reason }).inc();
    }

    /// A livepatch is in effect, so long after its load began.
    pub fn observe_transition(&self, took: Duration) {
        self.transitions.observe(took.as_secs_f64());
    }

    /// Functions that had been fixed ran unfixed for so long.
    pub fn observe_gap(&self, gap: Duration) {
        self.gaps.observe(gap.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_series_has_a_bound() {
        let mut registry = Registry::default();
        let metrics = Metrics::registered(&mut registry);
        for number in 0..10 * MAX_REASONS {
            metrics.failed(&format!("R{number}"));
        }
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let failures = text
            .lines()
            .filter(|line| line.starts_with("livepatch_agent_failures_total{"));
        assert_eq!(failures.count(), MAX_REASONS + 1);
        let other = format!("livepatch_agent_failures_total{{reason=\"Other\"}} {}", 9 * MAX_REASONS);
        assert!(text.contains(&other), "{text}");
    }
}
