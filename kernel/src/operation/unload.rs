//! Removing the module of a livepatch that is no longer in use. Writes through the seam.
//!
//! The kernel drops a livepatch's reference on itself from a workqueue, some time after its entry is gone, so the
//! reference is waited for. A module forced out of a transition keeps it for ever.

use std::time::Duration;

use nix::errno::Errno;

use super::{Operation, Step};
use crate::blockers::Stragglers;
use crate::clock::BootTime;
use crate::error::{CallError, KernelError};
use crate::seam::Kernel;
use crate::seen::Seen;

/// Between two looks at the reference count.
const INTERVAL: Duration = Duration::from_millis(20);

/// Removes one livepatch's module.
#[derive(Debug)]
pub struct Unload {
    name: String,
    deadline: BootTime,
    interrupted: bool,
}

/// How removing a module can end.
#[derive(Debug)]
pub enum UnloadOutcome {
    /// It was removed.
    Unloaded,
    /// No module of that name was loaded.
    NotLoaded,
    /// It still has an entry among the livepatches: disable it first.
    StillActive,
    /// It is not a livepatch, or that could not be seen: not ours to remove.
    NotALivepatch,
    /// References did not go away in time. Without an entry this is a module that `force` has pinned, or one that a
    /// process holds: only a reboot removes it.
    StillReferenced {
        /// How many there are.
        refcount: u32,
    },
    /// Interrupted before it was removed.
    Interrupted,
    /// The kernel refused.
    Refused(CallError),
    /// The kernel's state could not be read.
    Unreadable(KernelError),
}

impl Unload {
    /// To be removed by the deadline.
    pub fn new(name: impl Into<String>, deadline: BootTime) -> Self {
        Self {
            name: name.into(),
            deadline,
            interrupted: false,
        }
    }

    fn attempt(&self, kernel: &dyn Kernel) -> Result<Step<UnloadOutcome>, KernelError> {
        if kernel.standing(&self.name)?.is_some() {
            return Ok(Step::Done(UnloadOutcome::StillActive));
        }
        let Some(module) = kernel.module(&self.name)? else {
            return Ok(Step::Done(UnloadOutcome::NotLoaded));
        };
        if !module.livepatch.is(&true) {
            return Ok(Step::Done(UnloadOutcome::NotALivepatch));
        }
        let late = kernel.now() >= self.deadline;
        if module.refcount > 0 {
            return Ok(if late {
                Step::Done(UnloadOutcome::StillReferenced {
                    refcount: module.refcount,
                })
            } else {
                Step::Wait(INTERVAL)
            });
        }
        Ok(match kernel.delete_module(&self.name) {
            Ok(()) => Step::Done(UnloadOutcome::Unloaded),
            Err(error) if error.errno == Errno::ENOENT => Step::Done(UnloadOutcome::NotLoaded),
            // A reference was taken in between, or its own loading or unloading is not over.
            Err(error) if matches!(error.errno, Errno::EAGAIN | Errno::EBUSY) && !late => Step::Wait(INTERVAL),
            Err(error) => Step::Done(UnloadOutcome::Refused(error)),
        })
    }
}

impl Operation for Unload {
    type Outcome = UnloadOutcome;

    fn step(&mut self, kernel: &dyn Kernel) -> Step<UnloadOutcome> {
        if self.interrupted {
            return Step::Done(UnloadOutcome::Interrupted);
        }
        self.attempt(kernel)
            .unwrap_or_else(|error| Step::Done(UnloadOutcome::Unreadable(error)))
    }

    fn stragglers(&self) -> Option<&Seen<Stragglers>> {
        None
    }

    fn interrupt(&mut self) {
        self.interrupted = true;
    }
}
