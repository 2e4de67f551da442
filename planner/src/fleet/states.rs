//! The states that a rollout is told to be in, as the reason of its condition Ready: what ends each of them, and where it
//! goes from there. docs/rollout-states.md is made of this, and the planner's own tests allow no other way.

use super::reasons as r;

/// What ends a state, so that nothing waits for ever without a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndedBy {
    /// Something has to move within progressDeadlineSeconds, or it is told as Stalled.
    Deadline,
    /// A time that is told.
    Time,
    /// A person, who is told what to do.
    Person,
    /// What people ask of the set: another revision, nodes, a selector.
    Set,
}

impl EndedBy {
    /// In words.
    pub const fn told(self) -> &'static str {
        match self {
            Self::Deadline => "something that moves, or progressDeadlineSeconds",
            Self::Time => "a time, which is told",
            Self::Person => "a person, by spec.control",
            Self::Set => "another revision, or a change of the set or of nodes",
        }
    }
}

/// A state of a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    /// The reason of the condition Ready.
    pub reason: &'static str,
    /// What it means.
    pub meaning: &'static str,
    /// What ends it.
    pub ended_by: EndedBy,
    /// Whether the condition Stalled is True.
    pub stalled: bool,
    /// The states that follow by themselves, besides those of [`AT_ANY_TIME`].
    pub next: &'static [&'static str],
}

/// Where a rollout can go from everywhere: by word of a person, by a failure, or because what it needs is gone.
pub const AT_ANY_TIME: &[&str] = &[
    r::PAUSED,
    r::ABORTED,
    r::HALTED,
    r::ROLLING_BACK,
    r::ROLLED_BACK,
    r::ROLLBACK_IMPOSSIBLE,
    r::NO_NODES,
    r::FROZEN,
    r::SET_CONFLICT,
    r::INVALID_SELECTOR,
    r::PROGRESSING,
];

/// Every state.
pub const STATES: &[State] = &[
    State {
        reason: r::READING_ARTEFACT,
        meaning: "the index and the configs of the artefact are being read",
        ended_by: EndedBy::Deadline,
        stalled: false,
        next: &[r::SOAKING, r::AWAITING_PROMOTION, r::WAVE_EMPTY, r::COMPLETE],
    },
    State {
        reason: r::PROGRESSING,
        meaning: "nodes are granted, or what was granted is carried out",
        ended_by: EndedBy::Deadline,
        stalled: false,
        next: &[
            r::SOAKING,
            r::AWAITING_PROMOTION,
            r::WAVE_EMPTY,
            r::COMPLETE,
            r::PROGRESS_DEADLINE_EXCEEDED,
        ],
    },
    State {
        reason: r::PROGRESS_DEADLINE_EXCEEDED,
        meaning: "nothing has moved for progressDeadlineSeconds; it goes on as soon as it can",
        ended_by: EndedBy::Deadline,
        stalled: true,
        next: &[r::SOAKING, r::AWAITING_PROMOTION, r::WAVE_EMPTY, r::COMPLETE],
    },
    State {
        reason: r::SOAKING,
        meaning: "the nodes of a wave have settled and are watched",
        ended_by: EndedBy::Time,
        stalled: false,
        next: &[r::AWAITING_PROMOTION, r::WAVE_EMPTY, r::COMPLETE],
    },
    State {
        reason: r::AWAITING_PROMOTION,
        meaning: "the wave is over, and a person has to promote it",
        ended_by: EndedBy::Person,
        stalled: false,
        next: &[r::SOAKING, r::WAVE_EMPTY, r::COMPLETE],
    },
    State {
        reason: r::WAVE_EMPTY,
        meaning: "the wave takes no node, which proves nothing",
        ended_by: EndedBy::Person,
        stalled: false,
        next: &[r::SOAKING, r::AWAITING_PROMOTION, r::COMPLETE],
    },
    State {
        reason: r::COMPLETE,
        meaning: "every selected node that can be reached and has a module has settled; failures within the budgets are borne",
        ended_by: EndedBy::Set,
        stalled: false,
        next: &[r::SOAKING, r::AWAITING_PROMOTION, r::WAVE_EMPTY],
    },
    State {
        reason: r::PAUSED,
        meaning: "a person paused it; nodes in flight finish",
        ended_by: EndedBy::Person,
        stalled: false,
        next: &[r::SOAKING, r::AWAITING_PROMOTION, r::WAVE_EMPTY, r::COMPLETE],
    },
    State {
        reason: r::HALTED,
        meaning: "more failed than is borne",
        ended_by: EndedBy::Person,
        stalled: true,
        next: &[r::SOAKING, r::AWAITING_PROMOTION, r::WAVE_EMPTY, r::COMPLETE],
    },
    State {
        reason: r::ABORTED,
        meaning: "a person ended it where it was, for good",
        ended_by: EndedBy::Set,
        stalled: true,
        next: &[],
    },
    State {
        reason: r::ROLLING_BACK,
        meaning: "nodes that it reached go back to what they ran before",
        ended_by: EndedBy::Deadline,
        stalled: false,
        next: &[r::PROGRESS_DEADLINE_EXCEEDED],
    },
    State {
        reason: r::ROLLED_BACK,
        meaning: "they all have; the others were never touched",
        ended_by: EndedBy::Set,
        stalled: true,
        next: &[],
    },
    State {
        reason: r::ROLLBACK_IMPOSSIBLE,
        meaning: "a person asked for the way back, and the kernel would refuse it",
        ended_by: EndedBy::Set,
        stalled: true,
        next: &[],
    },
    State {
        reason: r::FROZEN,
        meaning: "whoever runs the operator stopped everything",
        ended_by: EndedBy::Deadline,
        stalled: false,
        next: &[r::SOAKING, r::PROGRESS_DEADLINE_EXCEEDED, r::COMPLETE],
    },
    State {
        reason: r::NO_NODES,
        meaning: "the selector matches no node",
        ended_by: EndedBy::Set,
        stalled: false,
        next: &[r::SOAKING, r::AWAITING_PROMOTION, r::WAVE_EMPTY, r::COMPLETE],
    },
    State {
        reason: r::SET_CONFLICT,
        meaning: "another Cumulative set is on one of the nodes already",
        ended_by: EndedBy::Set,
        stalled: true,
        next: &[r::READING_ARTEFACT, r::WAVE_EMPTY, r::COMPLETE],
    },
    State {
        reason: r::INVALID_SELECTOR,
        meaning: "a selector is no valid label selector",
        ended_by: EndedBy::Set,
        stalled: true,
        next: &[r::READING_ARTEFACT, r::WAVE_EMPTY, r::COMPLETE],
    },
    State {
        reason: r::DELETING,
        meaning: "the set is being deleted; what is loaded stays or goes by its removalPolicy",
        ended_by: EndedBy::Set,
        stalled: true,
        next: &[],
    },
    State {
        reason: r::SUPERSEDED,
        meaning: "the set asks for another revision by now: this rollout is history",
        ended_by: EndedBy::Set,
        stalled: false,
        next: &[r::WAVE_EMPTY, r::SOAKING, r::COMPLETE],
    },
];

/// The state of that name. Reasons that the table does not have are why nothing can be granted at the moment, or why a set
/// is not accepted.
pub fn of(reason: &str) -> Option<&'static State> {
    STATES.iter().find(|state| state.reason == reason)
}

/// Whether a rollout may be told to go from one state to another. What the table does not have is not judged.
pub fn may_follow(from: &str, to: &str) -> bool {
    let (Some(state), Some(_)) = (of(from), of(to)) else {
        return true;
    };
    AT_ANY_TIME.contains(&to) || state.next.contains(&to) || [r::READING_ARTEFACT, r::DELETING].contains(&to)
}

/// Whether something has to move by itself.
pub(super) fn has_to_move(reason: &str) -> bool {
    of(reason).is_none_or(|state| state.ended_by == EndedBy::Deadline)
}

/// Whether nothing moves until somebody acts.
pub(super) fn is_stalled(reason: &str) -> bool {
    of(reason).is_some_and(|state| state.stalled)
}
