//! How far the waves of a rollout have come.

use super::reasons;
use super::roster::Roster;
use super::snapshot::RolloutView;
use super::sums::Waits;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use livepatch_crds::rollout::{ControlState, WaveState, WaveStatus};
use livepatch_crds::set::{Counts, REST, Then, Wave};

/// Where a rollout stands, and what it waits for.
#[derive(Clone, Debug, PartialEq)]
pub struct Progress {
    /// The waves, in order; the last one is `rest`.
    pub waves: Vec<WaveStatus>,
    /// Index of the first wave that has not passed; `None` if all have.
    pub current: Option<usize>,
    /// Whether more failed than the rollout bears: no more grants until a person raises the attempt.
    pub halted: bool,
    /// Why the rollout stands as it does: a reason code.
    pub reason: &'static str,
    /// What it waits for, in one sentence; empty if it waits for nothing.
    pub blocked_by: String,
    /// When a soak ends, if that is what it waits for.
    pub soak_until: Option<Timestamp>,
}

/// The names of a rollout's waves, in order.
pub fn wave_names(waves: &[Wave]) -> impl Iterator<Item = &str> {
    waves.iter().map(|wave| wave.name.as_str()).chain([REST])
}

/// How far the waves have come. `halt` tells what is wrong if more failed than the rollout bears.
pub(super) fn progress(
    waves: &[Wave],
    roster: &Roster,
    rollout: Option<&RolloutView>,
    halt: Option<&str>,
    now: Timestamp,
) -> Progress {
    let promoted = rollout.and_then(|rollout| rollout.control.promoted_through.as_deref());
    let promoted = promoted.and_then(|name| wave_names(waves).position(|wave| wave == name));
    let mut progress = Progress {
        waves: Vec::new(),
        current: None,
        halted: halt.is_some(),
        reason: reasons::COMPLETE,
        blocked_by: String::new(),
        soak_until: None,
    };
    for (index, name) in wave_names(waves).enumerate() {
        let members = Members { roster, wave: index };
        let before = rollout.and_then(|rollout| rollout.status.waves.iter().find(|status| status.name == name));
        let judged = if progress.current.is_some() {
            Judged::state(WaveState::Waiting)
        } else if before.is_some_and(|status| status.state == WaveState::Passed) {
            Judged {
                settled_at: before.and_then(|status| status.settled_at.clone()),
                ..Judged::state(WaveState::Passed)
            }
        } else if let Some(halt) = halt {
            Judged {
                reason: reasons::HALTED,
                blocked_by: halt.to_owned(),
                ..Judged::state(WaveState::Halted)
            }
        } else {
            let promoted = promoted.is_some_and(|through| index <= through);
            judge(name, waves.get(index), &members, before, promoted, now)
        };
        let counts = roster.counts_of(index);
        progress.waves.push(WaveStatus {
            name: name.to_owned(),
            state: judged.state,
            selected: counts.selected,
            settled: counts.settled,
            settled_at: judged.settled_at,
        });
        if progress.current.is_none() && judged.state != WaveState::Passed {
            progress.current = Some(index);
            progress.reason = judged.reason;
            progress.blocked_by = judged.blocked_by;
            progress.soak_until = judged.soak_until;
        }
    }
    refine(progress, &roster.counts(), rollout, halt)
}

/// The nodes of a wave.
struct Members<'a> {
    roster: &'a Roster,
    wave: usize,
}

/// What holds for the rollout as a whole goes before what its current wave says.
fn refine(mut progress: Progress, counts: &Counts, rollout: Option<&RolloutView>, halt: Option<&str>) -> Progress {
    let state = rollout.map(|rollout| rollout.control.state);
    let paused = state == Some(ControlState::Paused);
    let busy = counts.pending + counts.in_flight + counts.unknown;
    if state == Some(ControlState::Aborted) {
        progress.reason = reasons::ABORTED;
        progress.blocked_by = "a person aborted the rollout (spec.control.state); another revision goes on".to_owned();
    } else if counts.selected == 0 {
        progress.reason = reasons::NO_NODES;
        progress.blocked_by = "the node selector matches no node".to_owned();
    } else if paused && progress.reason != reasons::HALTED && (progress.current.is_some() || busy > 0) {
        progress.reason = reasons::PAUSED;
        progress.blocked_by = "a person paused the rollout (spec.control.state)".to_owned();
    } else if let (None, Some(halt)) = (progress.current, halt) {
        progress.reason = reasons::HALTED;
        progress.blocked_by = format!("every wave has passed, but {halt}");
    } else if progress.current.is_none() && counts.settled == 0 {
        progress.reason = reasons::PROGRESSING;
        progress.blocked_by = "every wave has passed, but no node has settled".to_owned();
    } else if progress.current.is_none() && busy > 0 {
        progress.reason = reasons::PROGRESSING;
        progress.blocked_by = format!("{busy} nodes that came later, or left the livepatch, are catching up");
    }
    progress
}

struct Judged {
    state: WaveState,
    settled_at: Option<Time>,
    reason: &'static str,
    blocked_by: String,
    soak_until: Option<Timestamp>,
}

impl Judged {
    fn state(state: WaveState) -> Self {
        Self {
            state,
            settled_at: None,
            reason: reasons::PROGRESSING,
            blocked_by: String::new(),
            soak_until: None,
        }
    }

    fn running(blocked_by: String) -> Self {
        Self {
            blocked_by,
            ..Self::state(WaveState::Running)
        }
    }
}

/// A wave whose predecessors have passed and in which nothing failed. `wave` is `None` for `rest`.
fn judge(
    name: &str,
    wave: Option<&Wave>,
    members: &Members<'_>,
    before: Option<&WaveStatus>,
    promoted: bool,
    now: Timestamp,
) -> Judged {
    let counts = members.roster.counts_of(members.wave);
    let min_succeeded = wave.map_or_else(|| i32::from(counts.selected > 0), |wave| wave.min_succeeded);
    if let Some(waiting_for) = unfinished(members, &counts) {
        return Judged::running(waiting_for);
    }
    if counts.selected == 0 && wave.is_some() && !promoted {
        return Judged {
            reason: reasons::WAVE_EMPTY,
            blocked_by: format!("wave {name} takes no node; promote it to go on without it"),
            ..Judged::state(WaveState::Empty)
        };
    }
    if counts.settled < min_succeeded && !promoted {
        return Judged::running(format!(
            "wave {name} has {} settled nodes and needs {min_succeeded}; promote it to go on all the same",
            counts.settled
        ));
    }
    let settled_at = before
        .and_then(|status| status.settled_at.clone())
        .map_or(now, |time| time.0);
    let soak = SignedDuration::from_secs(wave.map_or(0, |wave| i64::from(wave.soak_seconds)));
    let over = settled_at.checked_add(soak).unwrap_or(Timestamp::MAX);
    let settled_at = Some(Time(settled_at));
    if counts.settled > 0 && now < over {
        return Judged {
            settled_at,
            reason: reasons::SOAKING,
            blocked_by: format!("wave {name} soaks until {over:.0}"),
            soak_until: Some(over),
            ..Judged::state(WaveState::Soaking)
        };
    }
    if wave.is_some_and(|wave| wave.then == Then::AwaitPromotion) && !promoted {
        return Judged {
            settled_at,
            reason: reasons::AWAITING_PROMOTION,
            blocked_by: format!("wave {name} awaits promotion (spec.control.promotedThrough)"),
            ..Judged::state(WaveState::AwaitingPromotion)
        };
    }
    Judged {
        settled_at,
        ..Judged::state(WaveState::Passed)
    }
}

/// What a wave still waits for, if for anything. What is not known is not done.
fn unfinished(members: &Members<'_>, counts: &Counts) -> Option<String> {
    let first = |waits| members.roster.first(members.wave, waits).unwrap_or_default();
    if counts.in_flight > 0 {
        Some(format!(
            "waiting for {} to settle",
            nodes(counts.in_flight, first(Waits::InFlight))
        ))
    } else if counts.pending > 0 {
        Some(format!(
            "waiting for a slot for {}",
            nodes(counts.pending, first(Waits::Pending))
        ))
    } else if counts.unknown > 0 {
        let agents = nodes(counts.unknown, first(Waits::Unknown));
        Some(format!(
            "waiting for the agent to report on the present boot of {agents}"
        ))
    } else {
        None
    }
}

/// So many nodes, one of them by name.
fn nodes(number: i32, one: &str) -> String {
    if number == 1 {
        format!("node {one}")
    } else {
        format!("{number} nodes, such as {one}")
    }
}
