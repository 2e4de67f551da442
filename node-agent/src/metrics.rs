//! What an agent counts. No IO.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

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

/// What an agent counts.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    /// Passes over everything.
    pub passes: Counter,
    /// Steps taken.
    pub steps: Family<StepLabel, Counter>,
    /// Failures, by reason code.
    pub failures: Family<ReasonLabel, Counter>,
    /// Status writes.
    pub status_writes: Counter,
    /// Livepatches that the kernel holds.
    pub loaded: Gauge,
    /// Seconds from the call of `finit_module` to the end of the transition, of the last load.
    pub last_load_seconds: Gauge<f64, AtomicU64>,
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
            "loaded_livepatches",
            "Livepatches that the kernel holds",
            metrics.loaded.clone(),
        );
        registry.register(
            "last_load_seconds",
            "Seconds from finit_module to the end of the transition, of the last load",
            metrics.last_load_seconds.clone(),
        );
        metrics
    }

    /// Counts a failure.
    pub fn failed(&self, reason: &str) {
        self.failures
            .get_or_create(&ReasonLabel {
                reason: reason.to_owned(),
            })
            .inc();
    }
}
