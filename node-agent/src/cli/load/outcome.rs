//! How a load ended, in words. No IO.

use livepatch_kernel::LoadRefusal;
use livepatch_kernel::operation::{LoadOutcome, Loaded, RepairMeans};

use crate::cli::check::Told;
use crate::cli::result::{Changed, Ended, seconds};

/// What to do when the state is not what anybody wanted.
const LOOK: &str = "`status` shows what the kernel runs";

/// The end of a load, in words.
pub(super) fn told(name: &str, outcome: LoadOutcome, signal: Option<&'static str>, findings: Vec<Told>) -> Changed {
    let changed = match outcome {
        LoadOutcome::Loaded(loaded) => in_effect(name, loaded, signal),
        LoadOutcome::Refused(refusal) => refused(name, &refusal),
        LoadOutcome::Interrupted => {
            Changed::new(name, Ended::TakenBack, "nothing was begun").because("Interrupted", "")
        }
        LoadOutcome::Reverted {
            stragglers,
            leftover,
            exposure,
        } => {
            let (reason, why) = match signal {
                Some(_) => ("Interrupted", "asked to end during the transition"),
                None => ("TransitionTimedOut", "the transition had not ended at its deadline"),
            };
            let left = if leftover {
                "; its module could not be removed yet: unload it later"
            } else {
                ""
            };
            let message = format!(
                "{why}; after {} what was in effect before is in effect again{left}",
                seconds(exposure)
            );
            Changed::new(name, Ended::TakenBack, message)
                .because(reason, "`watch` during a load shows the tasks that hold it up")
                .blocked_by(stragglers.as_ref())
        }
        LoadOutcome::StillInTransition { stragglers, why } => {
            Changed::new(name, Ended::Unfinished, format!("the transition goes on: {why}"))
                .because(
                    "StillInTransition",
                    "`watch` shows it; `unload` takes the livepatch back when it has ended",
                )
                .blocked_by(stragglers.as_ref())
        }
        LoadOutcome::CallNotReturned => {
            let message = "the kernel has not answered the call, and no transition is to be seen";
            Changed::new(name, Ended::Unfinished, message).because("CallNotReturned", LOOK)
        }
        LoadOutcome::Vanished => Changed::new(
            name,
            Ended::Unfinished,
            "somebody else disabled or replaced it meanwhile",
        )
        .because("Vanished", LOOK),
        LoadOutcome::Unproven { found } => {
            let message =
                format!("a livepatch of this name is in effect, but it is not proven to be this file: {found}");
            Changed::new(name, Ended::Unfinished, message).because("BuildUnproven", LOOK)
        }
        LoadOutcome::Lost { missing, refusal } => {
            let message = format!(
                "a cancel came too late, and what it had disabled could not be put back: {name} is not in effect{}",
                also(&missing)
            );
            let mut changed = Changed::new(name, Ended::Unfinished, message).because(
                "RaceLost",
                "load the missing livepatches again, the most important first",
            );
            if let Some(refusal) = refusal {
                changed.kernel_log.push(refusal.to_string());
            }
            changed
        }
        LoadOutcome::Unreadable(error) => {
            let message = format!("what became of the load is not known: {}", crate::cli::causes(&error));
            Changed::new(name, Ended::Unfinished, message).because(error.reason(), LOOK)
        }
    };
    Changed {
        signal,
        findings,
        ..changed
    }
}

fn in_effect(name: &str, loaded: Loaded, signal: Option<&'static str>) -> Changed {
    let Some(called) = loaded.called else {
        return Changed::new(name, Ended::AlreadyLoaded, "this very build is in effect");
    };
    let took = loaded.effective.since(called);
    let mut message = format!("in effect after {}", seconds(took));
    if !loaded.replaced.is_empty() {
        message = format!("{message}; it replaced {}", loaded.replaced.join(", "));
    }
    if let Some(signal) = signal {
        message = format!("{message}; {signal} came too late to take it back");
    }
    if let Some(repair) = &loaded.repair {
        let how = match repair.means {
            RepairMeans::Reversed => "reversed",
            RepairMeans::LoadedAgain => "repaired by loading it again",
        };
        message = format!(
            "{message}; a cancel came after its completion and was {how}, {} missing",
            seconds(repair.gap)
        );
    }
    let mut changed = Changed::new(name, Ended::Loaded, message);
    changed.seconds = Some(took.as_secs_f64());
    changed.replaced = loaded.replaced;
    changed
}

fn refused(name: &str, refusal: &LoadRefusal) -> Changed {
    let message = refusal
        .error
        .as_ref()
        .map_or_else(|| "it was not tried".to_owned(), ToString::to_string);
    let mut changed = Changed::new(name, Ended::Refused, message).because(refusal.reason(), refusal.advice());
    changed.kernel_log.clone_from(&refusal.evidence);
    changed
}

fn also(missing: &[String]) -> String {
    if missing.is_empty() {
        String::new()
    } else {
        format!(", nor {}", missing.join(", "))
    }
}
