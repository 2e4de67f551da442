//! `load`: loads one livepatch and waits until it is in effect, or takes it back. Writes to the kernel through the seam.

mod outcome;
#[cfg(test)]
mod tests;

use std::ffi::CString;
use std::time::Duration;

use livepatch_kernel::operation::{LoadRequest, OnTimeout};
use livepatch_kernel::preflight::Weight;
use livepatch_kernel::{BootTime, BuildId, Kernel, KernelError};

use super::args::{Allowed, Load};
use super::check::{self, Answer};
use super::exit::Exit;
use super::host;
use super::interrupts::Interrupts;
use super::module_file::{FileError, ModuleFile};
use super::output;
use super::progress::{Progress, to_its_end};
use super::{ownership, result};

use outcome::told;
use result::Changed;

/// Between two looks at somebody else's transition.
const PATIENCE: Duration = Duration::from_millis(250);

/// Loads.
pub fn run(options: &Load) -> Exit {
    let file = match ModuleFile::read(&options.file) {
        Ok(file) => file,
        Err(error) => return no_livepatch(options, &error),
    };
    let parameters = match options.parameters() {
        Ok(parameters) => parameters,
        Err(error) => {
            output::complain(&error);
            return Exit::Usage;
        }
    };
    if options.dry_run {
        return dry_run(options, &file);
    }
    // Before anything is done, so that no signal is missed.
    let interrupts = match Interrupts::listen() {
        Ok(interrupts) => interrupts,
        Err(error) => {
            output::complain(&format!("cannot listen to signals: {error}"));
            return Exit::Failed;
        }
    };
    let mut progress = Progress::new(options.quiet);
    let order = Order {
        file: &file,
        parameters,
        timeout: options.timeout,
        allowed: options.allowed,
    };
    let changed = ownership::change(
        &file.inspection.name,
        &options.place.state_dir,
        options.despite_agent,
        |kernel| load(kernel, &order, &interrupts, &mut progress),
    );
    output::show(options.output, &changed, changed.exit)
}

/// Refused, or not to be read.
fn no_livepatch(options: &Load, error: &FileError) -> Exit {
    let Some(told) = check::judged(error) else {
        super::inspect::complain(&options.file, error);
        return Exit::Failed;
    };
    let changed = Changed::refused_by(&options.file.display().to_string(), vec![told]);
    output::show(options.output, &changed, changed.exit)
}

/// The same answer as `check`.
fn dry_run(options: &Load, file: &ModuleFile) -> Exit {
    match host::kernel().and_then(|kernel| check::examine(&kernel, &file.inspection, options.allowed)) {
        Ok(findings) => {
            let answer = Answer::new(&options.file, &file.inspection, findings);
            let exit = answer.exit();
            output::show(options.output, &answer, exit)
        }
        Err(error) => {
            output::complain(&super::chain(error.reason(), &error));
            Exit::Failed
        }
    }
}

/// What to load, and how.
pub struct Order<'a> {
    pub file: &'a ModuleFile,
    pub parameters: CString,
    pub timeout: Duration,
    pub allowed: Allowed,
}

/// Loads, on a host that is ours to change.
pub fn load(kernel: &dyn Kernel, order: &Order<'_>, interrupts: &Interrupts, progress: &mut Progress) -> Changed {
    let name = &order.file.inspection.name;
    let deadline = kernel.now() + order.timeout;
    let findings = match wait_and_examine(kernel, order, deadline, interrupts, progress) {
        Ok(findings) => findings,
        Err(error) => return Changed::unreadable(name, &error),
    };
    if findings.iter().any(|finding| finding.weight == Weight::Fails) {
        return Changed::refused_by(name, findings);
    }
    for finding in &findings {
        progress.say(&format!("{}: {}", finding.reason, finding.message));
    }
    let request = LoadRequest {
        name: name.clone(),
        build_id: order
            .file
            .inspection
            .build_id
            .clone()
            .and_then(|id| BuildId::try_from(id).ok()),
        image: order.file.image.clone(),
        parameters: order.parameters.clone(),
        deadline,
        on_timeout: OnTimeout::Revert,
    };
    let mut operation = livepatch_kernel::operation::Load::new(request);
    let outcome = to_its_end(&mut operation, kernel, interrupts, progress, &format!("loading {name}"));
    told(name, outcome, interrupts.asked(), findings)
}

/// Whether a livepatch is in the way is only seen outside a transition, when the kernel's list of functions is right.
fn wait_and_examine(
    kernel: &dyn Kernel,
    order: &Order<'_>,
    deadline: BootTime,
    interrupts: &Interrupts,
    progress: &mut Progress,
) -> Result<Vec<check::Told>, KernelError> {
    let mut said = false;
    while let Some(other) = kernel.in_transition()? {
        if interrupts.asked().is_some() || kernel.now() >= deadline {
            return Ok(vec![result::transition_runs(&other)]);
        }
        if !said {
            said = true;
            progress.say(&format!("waiting for the transition of {other}"));
        }
        kernel.sleep(PATIENCE);
    }
    check::examine(kernel, &order.file.inspection, order.allowed)
}
