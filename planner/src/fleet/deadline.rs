//! When a rollout that should move has not moved for too long.

use super::states::has_to_move;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use livepatch_crds::conditions::{READY, find};
use livepatch_crds::rollout::{LivepatchRolloutStatus, WaveStatus};
use livepatch_crds::set::Counts;

/// Since when nothing has moved, and until when that is borne. `None` of either while nothing has to move: a person is
/// waited for, a soak is, or all is done.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Deadline {
    /// When something last moved, to be written.
    pub moved: Option<Time>,
    /// When it should have moved again.
    pub over: Option<Timestamp>,
}

/// What a rollout looks like now, to be compared with what was written of it.
pub(super) struct Now<'a> {
    pub reason: &'static str,
    pub generation: i64,
    pub counts: &'a Counts,
    pub waves: &'a [WaveStatus],
    pub at: Timestamp,
}

impl Deadline {
    /// A node that settled or failed, a wave that went on and a word of a person are moves; a node that comes and goes is
    /// none.
    pub fn of(written: &LivepatchRolloutStatus, now: &Now<'_>, seconds: i32) -> Self {
        let before = written.last_progress_time.clone();
        if !has_to_move(now.reason) {
            return Self {
                moved: before,
                over: None,
            };
        }
        let states = |waves: &[WaveStatus]| waves.iter().map(|wave| wave.state).collect::<Vec<_>>();
        let was_to_move = find(&written.conditions, READY).is_some_and(|ready| has_to_move(&ready.reason));
        let moved = !was_to_move
            || now.generation != written.observed_generation
            || now.counts.settled > written.counts.settled
            || now.counts.rolled_back > written.counts.rolled_back
            || now.counts.failed > written.counts.failed
            || states(now.waves) != states(&written.waves);
        let moved = before.filter(|_| !moved).unwrap_or(Time(now.at));
        let over = moved.0.checked_add(SignedDuration::from_secs(i64::from(seconds)));
        Self {
            over: Some(over.unwrap_or(Timestamp::MAX)),
            moved: Some(moved),
        }
    }
}
