//! What follows from how a load ended. No IO.

use std::fmt::Write as _;

use livepatch_kernel::operation::{DisableOutcome, LoadOutcome, Loaded};
use livepatch_kernel::{BootId, KernelError, LoadRefusal, Retry, Seen, Stragglers};

use crate::journal::{Entry, Failure, Phase};
use crate::operate::blockers_of;

/// What follows from how a load ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Conclusion {
    /// It is in effect.
    Loaded(Loaded),
    /// It failed; this is written down.
    Failed(Failure),
    /// It did not come to be for a cause that passes: as if it had not been begun, after a while.
    Later(Failure),
    /// It goes on in the kernel, or nobody knows: it is looked at again after a while.
    Unfinished(Failure),
    /// `finit_module` has not returned.
    NotReturned,
}

/// What follows from how a load ended.
pub fn conclude(outcome: LoadOutcome) -> Conclusion {
    match outcome {
        LoadOutcome::Loaded(loaded) => Conclusion::Loaded(loaded),
        LoadOutcome::Refused(refusal) => refused(&refusal),
        LoadOutcome::Reverted {
            stragglers,
            leftover,
            exposure,
        } => {
            let mut message = format!(
                "not finished at its deadline, taken back after {} s",
                exposure.as_secs()
            );
            if leftover {
                message.push_str("; its module could not be removed");
            }
            Conclusion::Failed(held_up("TransitionTimedOut", message, stragglers.as_ref()))
        }
        LoadOutcome::StillInTransition { stragglers, why } => {
            let message = format!("not finished at its deadline, and not taken back: {why}");
            Conclusion::Unfinished(held_up("TransitionStalled", message, stragglers.as_ref()))
        }
        LoadOutcome::CallNotReturned => Conclusion::NotReturned,
        LoadOutcome::Interrupted => Conclusion::Later(Failure::new(
            "LoadInterrupted",
            "the agent was interrupted before it asked the kernel",
        )),
        LoadOutcome::Vanished => Conclusion::Failed(Failure::new(
            "Vanished",
            "somebody else disabled or replaced it during its transition",
        )),
        LoadOutcome::Unproven { found } => Conclusion::Failed(Failure::new(
            "BuildIDUnproven",
            &format!("it is loaded and enabled, but what the kernel shows is {found}"),
        )),
        LoadOutcome::Lost { missing, refusal } => {
            let mut message = format!(
                "cancelling it lost the race against its completion; no longer enabled: {}",
                missing.join(", ")
            );
            if let Some(refusal) = refusal {
                // Writing to a String cannot fail.
                let _ = write!(message, "; {}", text(&refusal));
            }
            Conclusion::Failed(Failure::new("CancelRaceLost", &message))
        }
        LoadOutcome::Unreadable(error) => Conclusion::Unfinished(Failure::new(error.reason(), &chain(&error))),
    }
}

/// What follows from how disabling ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Disabled {
    /// It is gone.
    Gone,
    /// It was not finished in time, and is in effect as before.
    Back(Failure),
    /// Nothing was done for a cause that passes.
    Later(Failure),
    /// It goes on in the kernel, or nobody knows.
    Unfinished(Failure),
}

/// What follows from how disabling ended.
pub fn disabled(outcome: DisableOutcome) -> Disabled {
    match outcome {
        DisableOutcome::Disabled | DisableOutcome::NotEnabled => Disabled::Gone,
        DisableOutcome::Reverted(stragglers) => {
            let message = "disabling it was not finished at its deadline, and was taken back".to_owned();
            Disabled::Back(held_up("DisableTimedOut", message, stragglers.as_ref()))
        }
        DisableOutcome::StillInTransition(stragglers) => {
            let message = "disabling it was not finished at its deadline, and goes on".to_owned();
            Disabled::Unfinished(held_up("TransitionStalled", message, stragglers.as_ref()))
        }
        DisableOutcome::TransitionRunning(other) => Disabled::Later(Failure::new(
            "TransitionRunning",
            &format!("the transition of {other} did not end in time"),
        )),
        DisableOutcome::Interrupted => Disabled::Later(Failure::new("Interrupted", "interrupted before it was begun")),
        DisableOutcome::Refused(error) => Disabled::Later(Failure::new("DisableRefused", &error.to_string())),
        DisableOutcome::Unreadable(error) => Disabled::Unfinished(Failure::new(error.reason(), &chain(&error))),
    }
}

fn refused(refusal: &LoadRefusal) -> Conclusion {
    let failure = Failure::new(refusal.reason(), &text(refusal));
    if refusal.retry() == Retry::AfterTransition {
        Conclusion::Later(failure)
    } else {
        Conclusion::Failed(failure)
    }
}

/// The kernel's answer with what it logged: error number and text first, they survive the cut.
fn text(refusal: &LoadRefusal) -> String {
    let mut text = refusal
        .error
        .as_ref()
        .map_or_else(|| refusal.reason().to_owned(), ToString::to_string);
    for line in &refusal.evidence {
        text.push_str("; ");
        text.push_str(line);
    }
    text
}

fn held_up(reason: &str, message: String, stragglers: Option<&Seen<Stragglers>>) -> Failure {
    let mut message = message;
    match stragglers {
        Some(Seen::Unknown(why)) => {
            let _ = write!(message, "; tasks in its way are unknown: {why}");
        }
        Some(Seen::Known(stragglers)) if stragglers.seen > stragglers.listed.len() => {
            let _ = write!(message, "; {} tasks in its way", stragglers.seen);
        }
        _ => {}
    }
    Failure {
        blockers: blockers_of(stragglers),
        ..Failure::new(reason, &message)
    }
}

/// What could not be read of the kernel, as a failure.
pub fn unreadable(error: &KernelError) -> Failure {
    Failure::new(error.reason(), &chain(error))
}

/// An error with its sources, for messages.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let _ = write!(text, ": {error}");
        source = error.source();
    }
    text
}

impl Entry {
    /// The entry after a failure that is written down.
    #[must_use]
    pub fn failed(self, failure: Failure) -> Self {
        let again = matches!(self.phase, Phase::Starting { again: true });
        let phase = if again {
            Phase::NotRestored { failure }
        } else {
            Phase::Failed { failure }
        };
        Self { phase, ..self }
    }

    /// The entry as if the load had not been begun; `None` if there would then be none.
    #[must_use]
    pub fn unbegun(self) -> Option<Self> {
        match self.phase {
            Phase::Starting { again: true } | Phase::Displaced if self.absence.is_some() => Some(Self {
                phase: Phase::Displaced,
                ..self
            }),
            // No boot has this id, so it counts as one from before this boot.
            Phase::Starting { again: true } => Some(Self {
                phase: Phase::Settled,
                boot: BootId(String::new()),
                ..self
            }),
            Phase::Starting { again: false } | Phase::Clearing => None,
            _ => Some(self),
        }
    }
}
