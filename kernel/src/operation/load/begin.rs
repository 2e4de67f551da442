//! From nothing to a running transition. Writes through the seam.

use std::time::Duration;

use super::super::Step;
use super::super::roster::Roster;
use super::super::unload::{Unload, UnloadOutcome};
use super::super::watch::Watch;
use super::{Call, Load, LoadOutcome, Next, PATIENCE, SOON, State};
use crate::error::{CallError, KernelError};
use crate::refusal::{Circumstances, LoadRefusal, RefusalReason, Retry};
use crate::seam::Kernel;

/// Most calls of one load, all retries included.
const MAX_ATTEMPTS: u32 = 5;

/// Between two tries of a call that failed for a reason that passes.
const RETRY: Duration = Duration::from_secs(2);

/// How long a call is waited for whose deadline has passed, so that a load that begins only now is still taken back.
/// Some kernels have been seen to spend minutes in it.
const CALL: Duration = Duration::from_mins(5);

/// How long a leftover's references are waited for.
const LEFTOVER: Duration = Duration::from_secs(15);

impl Load {
    pub(super) fn begin(&mut self, kernel: &dyn Kernel) -> Next {
        if self.interrupted && self.repair.is_none() {
            return Ok(Step::Done(LoadOutcome::Interrupted));
        }
        if let Some(standing) = kernel.standing(&self.request.name)? {
            return self.entry_exists(kernel, standing.enabled);
        }
        if kernel.in_transition()?.is_some() {
            return Ok(if self.late(kernel) && self.repair.is_none() {
                Self::refused(LoadRefusal::untried(RefusalReason::TransitionRunning))
            } else {
                Step::Wait(PATIENCE)
            });
        }
        if let Some(module) = kernel.module(&self.request.name)? {
            // Only once: a name that is taken again after its leftover was removed is somebody else's.
            if self.leftover_removed || !module.livepatch.is(&true) {
                return Ok(self.give_up(LoadRefusal::untried(RefusalReason::NameTaken)));
            }
            self.leftover_removed = true;
            self.state = State::RemovingLeftover(Unload::new(&self.request.name, kernel.now() + LEFTOVER));
            return Ok(Step::Wait(Duration::ZERO));
        }
        self.call(kernel)
    }

    /// The name has an entry. The same build is adopted, another one keeps its name, one that goes away is waited for.
    fn entry_exists(&mut self, kernel: &dyn Kernel, enabled: bool) -> Next {
        if !enabled {
            return Ok(if self.late(kernel) && self.repair.is_none() {
                Self::refused(LoadRefusal::untried(RefusalReason::NameTaken))
            } else {
                Step::Wait(SOON)
            });
        }
        let module = kernel.module(&self.request.name)?;
        if module.is_some_and(|module| module.build_id.is(&self.request.build_id)) {
            self.roster.get_or_insert_with(Roster::default);
            self.watch = Some(Watch::begin(kernel.now()));
            self.state = State::Patching;
            return Ok(Step::Wait(Duration::ZERO));
        }
        Ok(self.give_up(LoadRefusal::untried(RefusalReason::NameTaken)))
    }

    pub(super) fn leftover_gone(&mut self, outcome: UnloadOutcome) -> Step<LoadOutcome> {
        match outcome {
            UnloadOutcome::Unloaded | UnloadOutcome::NotLoaded | UnloadOutcome::StillActive => {
                self.state = State::Begin;
                Step::Wait(Duration::ZERO)
            }
            UnloadOutcome::Unreadable(error) => Step::Done(LoadOutcome::Unreadable(error)),
            UnloadOutcome::StillReferenced { .. } => self.give_up(LoadRefusal::untried(RefusalReason::LeftoverPinned)),
            UnloadOutcome::Refused(_) | UnloadOutcome::NotALivepatch | UnloadOutcome::Interrupted => {
                self.give_up(LoadRefusal::untried(RefusalReason::NameTaken))
            }
        }
    }

    fn call(&mut self, kernel: &dyn Kernel) -> Next {
        if self.roster.is_none() {
            self.roster = Some(Roster::take(kernel)?);
        }
        self.attempts += 1;
        let mark = kernel.log_mark();
        let since = kernel.now();
        self.called.get_or_insert(since);
        match kernel.start_load(&self.request.name, &self.request.image, &self.request.parameters) {
            Ok(pending) => {
                self.state = State::Calling(Call { pending, since, mark });
                Ok(Step::Wait(Duration::ZERO))
            }
            Err(error) => {
                let refusal = LoadRefusal::of(error, &kernel.log_since(&mark), &circumstances(kernel)?);
                Ok(self.give_up(refusal))
            }
        }
    }

    pub(super) fn calling(&mut self, kernel: &dyn Kernel) -> Next {
        let State::Calling(call) = &mut self.state else {
            return Ok(Step::Wait(Duration::ZERO));
        };
        let since = call.since;
        match call.pending.poll() {
            Some(Ok(())) => {
                self.called_back(kernel);
                Ok(Step::Wait(Duration::ZERO))
            }
            Some(Err(error)) => {
                let mark = std::mem::take(&mut call.mark);
                self.call_failed(kernel, error, &mark)
            }
            // The call may take long although its work is done: what sysfs says counts.
            None if self.late(kernel) => {
                if kernel
                    .standing(&self.request.name)?
                    .is_some_and(|standing| standing.transition)
                {
                    self.called_back(kernel);
                    return Ok(Step::Wait(Duration::ZERO));
                }
                Ok(if kernel.now().since(since) >= CALL {
                    Step::Done(LoadOutcome::CallNotReturned)
                } else {
                    Step::Wait(SOON)
                })
            }
            // A look wakes a processor on which the call may be at work, so a long call is looked at less often.
            None => Ok(Step::Wait((kernel.now().since(since) / 8).clamp(SOON / 10, SOON / 2))),
        }
    }

    fn called_back(&mut self, kernel: &dyn Kernel) {
        self.watch = Some(Watch::begin(kernel.now()));
        self.state = State::Patching;
    }

    fn call_failed(&mut self, kernel: &dyn Kernel, error: CallError, mark: &crate::klog::LogMark) -> Next {
        let refusal = LoadRefusal::of(error, &kernel.log_since(mark), &circumstances(kernel)?);
        let again = match refusal.reason {
            // Whoever began a transition between the look and the call may also have brought the state along.
            RefusalReason::IncompatibleState => kernel.in_transition()?.is_some(),
            RefusalReason::NameTaken => {
                !self.leftover_removed
                    && kernel
                        .module(&self.request.name)?
                        .is_some_and(|m| m.livepatch.is(&true))
            }
            _ => refusal.retry() != Retry::Never,
        };
        let exhausted = match &self.repair {
            None => self.attempts >= MAX_ATTEMPTS || self.late(kernel),
            // What is missing is missing until this succeeds.
            Some(lost) => kernel.now() >= lost.deadline,
        };
        if !again || exhausted {
            return Ok(self.give_up(refusal));
        }
        self.state = State::Begin;
        if self.repair.is_none() {
            self.called = None;
            self.roster = None;
        }
        Ok(Step::Wait(match (refusal.reason, &self.repair) {
            (RefusalReason::NameTaken, _) => Duration::ZERO,
            (_, Some(_)) => PATIENCE,
            (_, None) => RETRY,
        }))
    }

    /// Ends the operation, as a refusal or as a repair that failed.
    pub(super) fn give_up(&mut self, refusal: LoadRefusal) -> Step<LoadOutcome> {
        match self.repair.take() {
            None => Self::refused(refusal),
            Some(lost) => Step::Done(LoadOutcome::Lost {
                missing: lost.missing,
                refusal: Some(refusal),
            }),
        }
    }
}

fn circumstances(kernel: &dyn Kernel) -> Result<Circumstances, KernelError> {
    Ok(Circumstances {
        policy: kernel.policy(),
        foreign_transition: kernel.in_transition()?.is_some(),
    })
}
