//! Disabling a livepatch. Writes through the seam.
//!
//! A disabled livepatch cannot be enabled again, only loaded again. Until the transition has ended, writing 1 takes the
//! decision back; that write cannot do harm when it loses its race, it then finds no entry.

use std::time::Duration;

use nix::errno::Errno;

use super::watch::Watch;
use super::{OnTimeout, Operation, Step};
use crate::blockers::Stragglers;
use crate::clock::BootTime;
use crate::error::{CallError, KernelError};
use crate::seam::Kernel;
use crate::seen::Seen;

/// Between two tries while another livepatch is in transition.
const BUSY: Duration = Duration::from_millis(250);

/// Between two looks at an entry that is about to go.
const VANISHING: Duration = Duration::from_millis(10);

/// Disables one livepatch and waits until it is gone.
#[derive(Debug)]
pub struct Disable {
    name: String,
    deadline: BootTime,
    on_timeout: OnTimeout,
    state: State,
    watch: Option<Watch>,
    interrupted: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Begin,
    Unpatching,
    TakingBack,
}

/// How disabling can end.
#[derive(Debug)]
pub enum DisableOutcome {
    /// It is disabled and its entry is gone; its module is left to be unloaded.
    Disabled,
    /// It had no entry to begin with.
    NotEnabled,
    /// It did not finish in time, or was interrupted, and is enabled again.
    Reverted(Option<Seen<Stragglers>>),
    /// It did not finish in time and goes on, as asked.
    StillInTransition(Option<Seen<Stragglers>>),
    /// Another livepatch was in transition until the deadline: nothing was done.
    TransitionRunning(String),
    /// Interrupted before anything was done.
    Interrupted,
    /// The kernel refused.
    Refused(CallError),
    /// The kernel's state could not be read.
    Unreadable(KernelError),
}

impl Disable {
    /// To be disabled by the deadline.
    pub fn new(name: impl Into<String>, deadline: BootTime, on_timeout: OnTimeout) -> Self {
        Self {
            name: name.into(),
            deadline,
            on_timeout,
            state: State::Begin,
            watch: None,
            interrupted: false,
        }
    }

    fn attempt(&mut self, kernel: &dyn Kernel) -> Result<Step<DisableOutcome>, KernelError> {
        let Some(standing) = kernel.standing(&self.name)? else {
            let gone = if self.state == State::Begin {
                DisableOutcome::NotEnabled
            } else {
                DisableOutcome::Disabled
            };
            return Ok(Step::Done(gone));
        };
        let late = kernel.now() >= self.deadline;
        match self.state {
            State::Begin if !standing.enabled => {
                self.unpatching(kernel);
                Ok(Step::Wait(Duration::ZERO))
            }
            State::Begin if self.interrupted => Ok(Step::Done(DisableOutcome::Interrupted)),
            State::Begin => self.write(kernel, late),
            // Somebody took it back.
            State::Unpatching if standing.enabled => {
                self.state = State::TakingBack;
                Ok(Step::Wait(VANISHING))
            }
            // Its transition is over and the entry is about to be freed.
            State::Unpatching if !standing.transition => Ok(Step::Wait(VANISHING)),
            State::Unpatching if late || self.interrupted => Ok(self.give_up(kernel)),
            State::Unpatching => {
                let wait = self.watch.as_mut().map_or(VANISHING, |watch| watch.next(kernel, false));
                Ok(Step::Wait(wait))
            }
            State::TakingBack if standing.is_effective() => Ok(Step::Done(DisableOutcome::Reverted(self.seen()))),
            State::TakingBack => Ok(Step::Wait(VANISHING)),
        }
    }

    fn write(&mut self, kernel: &dyn Kernel, late: bool) -> Result<Step<DisableOutcome>, KernelError> {
        if let Some(other) = kernel.in_transition()? {
            // Also if it is its own: cancelling a load is another operation, with its own proof.
            return Ok(if late {
                Step::Done(DisableOutcome::TransitionRunning(other))
            } else {
                Step::Wait(BUSY)
            });
        }
        match kernel.set_enabled(&self.name, false) {
            Ok(()) => self.unpatching(kernel),
            // Somebody was quicker: a transition began, it is disabled already, or it is gone.
            Err(error) if matches!(error.errno, Errno::EBUSY | Errno::EINVAL | Errno::ENOENT) && !late => {
                return Ok(Step::Wait(BUSY));
            }
            Err(error) => return Ok(Step::Done(DisableOutcome::Refused(error))),
        }
        Ok(Step::Wait(VANISHING))
    }

    fn unpatching(&mut self, kernel: &dyn Kernel) {
        self.state = State::Unpatching;
        self.watch = Some(Watch::begin(kernel.now()));
    }

    fn give_up(&mut self, kernel: &dyn Kernel) -> Step<DisableOutcome> {
        if let Some(watch) = &mut self.watch {
            watch.look(kernel, false);
        }
        if self.on_timeout == OnTimeout::Wait && !self.interrupted {
            return Step::Done(DisableOutcome::StillInTransition(self.seen()));
        }
        // Whatever it answers, the next look says what came of it.
        if kernel.set_enabled(&self.name, true).is_ok() {
            self.state = State::TakingBack;
        }
        Step::Wait(VANISHING)
    }

    fn seen(&self) -> Option<Seen<Stragglers>> {
        self.stragglers().cloned()
    }
}

impl Operation for Disable {
    type Outcome = DisableOutcome;

    fn step(&mut self, kernel: &dyn Kernel) -> Step<DisableOutcome> {
        self.attempt(kernel)
            .unwrap_or_else(|error| Step::Done(DisableOutcome::Unreadable(error)))
    }

    fn stragglers(&self) -> Option<&Seen<Stragglers>> {
        self.watch.as_ref().and_then(Watch::stragglers)
    }

    fn interrupt(&mut self) {
        self.interrupted = true;
    }
}
