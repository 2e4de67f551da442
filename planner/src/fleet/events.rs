//! What is worth an event: what people would want to know although they do not look.

use super::course::Course;
use super::decision::{Decision, Happening, Regarding};
use super::failures::some_nodes;
use super::reasons;
use super::snapshot::RolloutView;
use super::states::is_stalled;
use livepatch_crds::bounded::{MAX_MESSAGE, bounded};
use livepatch_crds::conditions::{ACCEPTED, READY, find};
use livepatch_crds::rollout::{Failure, LivepatchRolloutStatus, WaveState};
use livepatch_crds::set::LivepatchSetStatus;

/// What the condition Ready says.
pub(super) struct Told {
    pub reason: &'static str,
    pub message: String,
}

/// A set that is refused, stands still, goes back or is complete.
pub(super) fn of_set(course: &Course<'_>, told: &Told, status: &LivepatchSetStatus, decision: &mut Decision) {
    let set = course.set;
    let was = |kind| find(&set.status.conditions, kind).map(|c| c.reason.as_str());
    let acceptance = &course.acceptance;
    let mut tell = |warning, reason, note: &str| {
        let note = bounded(note, MAX_MESSAGE);
        decision.happenings.push(Happening {
            regarding: Regarding::Set(set.name.clone()),
            warning,
            reason,
            note,
        });
    };
    if acceptance.reason != reasons::READING_ARTEFACT
        && !acceptance.is_accepted()
        && was(ACCEPTED) != Some(acceptance.reason)
    {
        tell(true, acceptance.reason, &acceptance.message);
    }
    let turned = was(READY) != Some(told.reason);
    let is_bad = is_stalled(told.reason) || told.reason == reasons::ROLLING_BACK;
    if turned && is_bad && told.reason != acceptance.reason {
        tell(true, told.reason, &told.message);
    }
    if turned && told.reason == reasons::COMPLETE && !set.status.conditions.is_empty() {
        tell(
            false,
            reasons::COMPLETE,
            &format!(
                "revision {}: {}",
                status.update_revision.as_deref().unwrap_or_default(),
                told.message
            ),
        );
    }
}

/// Waves that went on, and nodes that failed. None for a node that succeeds.
pub(super) fn of_rollout(rollout: &RolloutView, status: &LivepatchRolloutStatus, decision: &mut Decision) {
    let mut tell = |warning, reason, note: String| {
        let note = bounded(&note, MAX_MESSAGE);
        let regarding = Regarding::Rollout(rollout.name.clone());
        decision.happenings.push(Happening {
            regarding,
            warning,
            reason,
            note,
        });
    };
    for wave in &status.waves {
        let before = rollout
            .status
            .waves
            .iter()
            .find(|old| old.name == wave.name)
            .map(|old| old.state);
        if before == Some(wave.state) {
            continue;
        }
        let name = &wave.name;
        match wave.state {
            WaveState::Running if before != Some(WaveState::Soaking) => {
                tell(
                    false,
                    reasons::WAVE_STARTED,
                    format!("wave {name} begins with {}", some_nodes(wave.selected)),
                );
            }
            WaveState::Soaking => tell(
                false,
                reasons::SOAKING,
                format!("wave {name}: {} settled", some_nodes(wave.settled)),
            ),
            WaveState::AwaitingPromotion => {
                tell(
                    false,
                    reasons::AWAITING_PROMOTION,
                    format!("wave {name} awaits promotion"),
                );
            }
            WaveState::Empty => tell(true, reasons::WAVE_EMPTY, format!("wave {name} takes no node")),
            WaveState::Passed if wave.selected > 0 => {
                tell(
                    false,
                    reasons::WAVE_PASSED,
                    format!("wave {name} passed: {} settled", some_nodes(wave.settled)),
                );
            }
            _ => {}
        }
    }
    for failure in status
        .failures
        .iter()
        .filter(|failure| !rollout.status.failures.contains(failure))
    {
        let Failure {
            node,
            wave,
            reason,
            message,
            ..
        } = failure;
        tell(
            true,
            reasons::NODE_FAILED,
            format!("node {node} (wave {wave}) failed with {reason}: {message}"),
        );
    }
}
