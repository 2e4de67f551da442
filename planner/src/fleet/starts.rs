//! Which start of a rollout is meant.
//!
//! A set can leave a revision and return to it. What was written of the first time, the waves it passed and the grants it
//! gave, says nothing of the second. So each start has a number, written to the set and to the rollout before the first
//! grant, and carried by each grant.

use super::snapshot::{RolloutView, SetView};
use livepatch_crds::rollout::LivepatchRolloutStatus;
use livepatch_crds::set::Start;

/// The start that `rollout` is in: the one that was written, or the next one if another rollout was started last.
pub fn start(set: &SetView, rollout: &RolloutView) -> Start {
    let latest = set.status.start.as_ref();
    match latest {
        Some(latest) if latest.rollout == rollout.name => latest.clone(),
        _ => Start {
            rollout: rollout.name.clone(),
            number: latest.map_or(0, |latest| latest.number) + 1,
        },
    }
}

/// Whether both the set and the rollout say in writing that this start is on.
pub fn is_written(set: &SetView, rollout: &RolloutView, start: &Start) -> bool {
    set.status.start.as_ref() == Some(start) && rollout.status.start == start.number
}

/// The rollout without what was written of it in a former start. Failures stay: they are latched by attempts.
pub fn of_this_start(rollout: &RolloutView, start: &Start) -> RolloutView {
    if rollout.status.start == start.number {
        return rollout.clone();
    }
    RolloutView {
        status: LivepatchRolloutStatus {
            waves: Vec::new(),
            last_progress_time: None,
            ..rollout.status.clone()
        },
        ..rollout.clone()
    }
}
