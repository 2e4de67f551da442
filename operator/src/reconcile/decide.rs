//! Third stage: what to write next. Pure but for the clock that measures it.

use super::validate::View;
use crate::metrics::Metrics;
use jiff::Timestamp;
use livepatch_planner::fleet::Decision;
use std::time::Instant;

/// What to write next.
pub fn decide(view: &mut View, now: Timestamp, metrics: &Metrics) -> Decision {
    let began = Instant::now();
    let mut decision = view.decide(now);
    metrics.observe_decision(began.elapsed());
    if !view.is_whole() {
        // A set which cannot be read is not a set that is gone: what seems to be missing is neither made nor cleared.
        decision.new_rollouts.clear();
        decision.expired_rollouts.clear();
        decision.node_changes.clear();
    }
    decision
}

/// How many grants it gives.
pub fn new_grants(decision: &Decision) -> usize {
    decision.node_changes.iter().map(|change| change.new_grants).sum()
}
