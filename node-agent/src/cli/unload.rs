//! `unload`: disables one livepatch, and removes its module. Writes to the kernel through the seam.

#[cfg(test)]
mod tests;

use std::time::Duration;

use livepatch_kernel::operation::{Disable, DisableOutcome, OnTimeout, UnloadOutcome};
use livepatch_kernel::{Kernel, RefusalReason};

use super::args::Unload;
use super::exit::Exit;
use super::interrupts::Interrupts;
use super::module_file::module_name;
use super::progress::{Progress, to_its_end};
use super::result::{Changed, Ended, seconds, transition_runs};
use super::{output, ownership};

/// How long the references of a disabled livepatch are waited for; the kernel drops them from a workqueue.
const REFERENCES: Duration = Duration::from_secs(15);

/// Unloads.
pub fn run(options: &Unload) -> Exit {
    let name = module_name(&options.name);
    let interrupts = match Interrupts::listen() {
        Ok(interrupts) => interrupts,
        Err(error) => {
            output::complain(&format!("cannot listen to signals: {error}"));
            return Exit::Failed;
        }
    };
    let mut progress = Progress::new(options.quiet);
    let changed = ownership::change(&name, &options.place.state_dir, options.despite_agent, |kernel| {
        unload(kernel, &name, options.timeout, &interrupts, &mut progress)
    });
    output::show(options.output, &changed, changed.exit)
}

/// Unloads, on a host that is ours to change.
///
/// The point of no return is the end of the transition: before it the livepatch can be enabled again, after it only
/// its module is left to be removed, and that is done whatever signal comes.
pub fn unload(
    kernel: &dyn Kernel,
    name: &str,
    timeout: Duration,
    interrupts: &Interrupts,
    progress: &mut Progress,
) -> Changed {
    let began = kernel.now();
    let mut disable = Disable::new(name, began + timeout, OnTimeout::Revert);
    let what = format!("disabling {name}");
    let disabled = match to_its_end(&mut disable, kernel, interrupts, progress, &what) {
        DisableOutcome::Disabled => true,
        DisableOutcome::NotEnabled => false,
        outcome => {
            let mut changed = not_disabled(name, outcome, interrupts.asked());
            changed.signal = interrupts.asked();
            return changed;
        }
    };
    let mut remove = livepatch_kernel::operation::Unload::new(name, kernel.now() + REFERENCES);
    let nobody = Interrupts::default();
    let what = format!("removing the module {name}");
    let outcome = to_its_end(&mut remove, kernel, &nobody, progress, &what);
    let mut changed = removed(name, outcome, disabled);
    if changed.result == Ended::Unloaded {
        let took = kernel.now().since(began);
        changed.seconds = Some(took.as_secs_f64());
        changed.message = format!("{} after {}", changed.message, seconds(took));
        if let Some(signal) = interrupts.asked() {
            changed.message = format!("{}; {signal} came too late to enable it again", changed.message);
        }
    }
    changed.signal = interrupts.asked();
    changed
}

fn not_disabled(name: &str, outcome: DisableOutcome, signal: Option<&'static str>) -> Changed {
    match outcome {
        DisableOutcome::Reverted(stragglers) => {
            let (reason, why) = match signal {
                Some(_) => ("Interrupted", "asked to end during the transition"),
                None => ("TransitionTimedOut", "the transition had not ended at its deadline"),
            };
            Changed::new(
                name,
                Ended::TakenBack,
                format!("{why}; the livepatch is in effect again"),
            )
            .because(reason, "`watch` during an unload shows the tasks that hold it up")
            .blocked_by(stragglers.as_ref())
        }
        DisableOutcome::StillInTransition(stragglers) => {
            Changed::new(name, Ended::Unfinished, "the transition goes on")
                .because("StillInTransition", "`watch` shows it")
                .blocked_by(stragglers.as_ref())
        }
        DisableOutcome::TransitionRunning(other) => Changed::refused_by(name, vec![transition_runs(&other)]),
        DisableOutcome::Interrupted => {
            Changed::new(name, Ended::TakenBack, "nothing was begun").because("Interrupted", "")
        }
        DisableOutcome::Refused(error) => Changed::new(name, Ended::Refused, error.to_string())
            .because("DisableRefused", "`status` shows what the kernel runs"),
        DisableOutcome::Unreadable(error) => {
            let message = format!("what became of it is not known: {}", super::causes(&error));
            Changed::new(name, Ended::Unfinished, message)
                .because(error.reason(), "`status` shows what the kernel runs")
        }
        // Said by the caller.
        DisableOutcome::Disabled | DisableOutcome::NotEnabled => Changed::new(name, Ended::Unfinished, "disabled"),
    }
}

fn removed(name: &str, outcome: UnloadOutcome, disabled: bool) -> Changed {
    // Once it is disabled an answer that nothing was changed would not be true.
    let failed = |message: String| {
        if disabled {
            let message = format!("it is disabled, but its module is still loaded: {message}");
            Changed::new(name, Ended::Unfinished, message)
        } else {
            Changed::new(name, Ended::Refused, message)
        }
    };
    match outcome {
        UnloadOutcome::Unloaded if disabled => Changed::new(name, Ended::Unloaded, "disabled and removed"),
        UnloadOutcome::Unloaded => Changed::new(name, Ended::Unloaded, "it was not in use; removed"),
        UnloadOutcome::NotLoaded if disabled => {
            Changed::new(name, Ended::Unloaded, "disabled, and removed by somebody else")
        }
        UnloadOutcome::NotLoaded => Changed::new(name, Ended::Refused, "no module of this name is loaded")
            .because("NotLoaded", "`status` lists the livepatches"),
        UnloadOutcome::StillActive => failed("somebody loaded it again".to_owned())
            .because(RefusalReason::NameTaken.into(), "`status` shows what the kernel runs"),
        UnloadOutcome::NotALivepatch => failed("it is an ordinary module".to_owned()).because(
            RefusalReason::NotALivepatch.into(),
            "ordinary modules are left to rmmod",
        ),
        UnloadOutcome::StillReferenced { refcount } => failed(format!("{refcount} references remain")).because(
            RefusalReason::LeftoverPinned.into(),
            "if `force` was used on it only a reboot removes it; else a process holds it: try again later",
        ),
        UnloadOutcome::Interrupted => failed("interrupted".to_owned()).because("Interrupted", ""),
        UnloadOutcome::Refused(error) => {
            failed(error.to_string()).because("UnloadRefused", "`status` shows what the kernel runs; try again later")
        }
        UnloadOutcome::Unreadable(error) => {
            failed(super::causes(&error)).because(error.reason(), "`status` shows what the kernel runs")
        }
    }
}
