//! Taking a load back, and putting it back when that lost the race against its completion. Writes through the seam.
//!
//! The write of 0 takes the kernel's lock, so whether it came before or after completion is known right after it: had
//! the replacing load completed, the livepatches it replaced are disabled by then. In that case the write has begun to
//! disable the finished livepatch, and writing 1 reverses that, which is the quickest repair; only if that comes too
//! late as well is the module loaded again.

use std::time::Duration;

use super::super::Step;
use super::super::sampler::Sampled;
use super::super::unload::{Unload, UnloadOutcome};
use super::super::watch::Watch;
use super::{Load, LoadOutcome, Lost, Next, RepairMeans, SOON, State};
use crate::clock::BootTime;
use crate::seam::Kernel;

/// How long a transition is watched past its deadline for proof that it is stuck.
const PROOF: Duration = Duration::from_mins(1);

/// How long a repair may take before the operation ends (the repair itself goes on in the kernel).
const REPAIR: Duration = Duration::from_mins(10);

/// How long a transition that was taken back may go on before the operation ends.
const GOING_BACK: Duration = Duration::from_mins(5);

/// How long the module's references are waited for after it was taken back.
const CLEAN_UP: Duration = Duration::from_secs(15);

impl Load {
    pub(super) fn sampling(&mut self, kernel: &dyn Kernel) -> Next {
        let State::Sampling(sampler, since) = &mut self.state else {
            return Ok(Step::Wait(Duration::ZERO));
        };
        let since = *since;
        match kernel.standing(&self.request.name)? {
            Some(standing) if standing.enabled && standing.transition => {}
            _ => {
                self.state = State::Patching;
                return Ok(Step::Wait(Duration::ZERO));
            }
        }
        match sampler.sample(kernel, true) {
            Sampled::Stuck => self.cancel(kernel),
            Sampled::Blind(_) => Ok(self.still_in_transition(kernel, "tasks cannot be seen from here")),
            Sampled::Wait(_) if kernel.now().since(since) >= PROOF => {
                Ok(self.still_in_transition(kernel, "no task was seen to hold it up"))
            }
            // Short waits, so that completion is noticed soon; the sampler keeps its own second.
            Sampled::Wait(span) => Ok(Step::Wait(span.min(Duration::from_millis(100)))),
        }
    }

    fn cancel(&mut self, kernel: &dyn Kernel) -> Next {
        let written = kernel.now();
        // An error says that somebody else was quicker; the next look says what came of it.
        let cancelled = kernel.set_enabled(&self.request.name, false).is_ok();
        if !cancelled {
            self.state = State::Patching;
            return Ok(Step::Wait(SOON));
        }
        self.state = State::Unpatching(written);
        if self.find_loss(kernel, written)? {
            self.put_back(kernel);
        }
        Ok(Step::Wait(SOON))
    }

    /// Compares who is enabled with who was, and notes a loss.
    fn find_loss(&mut self, kernel: &dyn Kernel, since: BootTime) -> Result<bool, crate::error::KernelError> {
        let Some(roster) = &self.roster else { return Ok(false) };
        let missing = roster.missing(kernel, &self.request.name)?;
        let lost = !missing.is_empty();
        if lost && self.repair.is_none() {
            let deadline = kernel.now() + REPAIR;
            self.repair = Some(Lost {
                since,
                missing,
                means: RepairMeans::Reversed,
                deadline,
            });
        }
        Ok(lost)
    }

    pub(super) fn unpatching(&mut self, kernel: &dyn Kernel) -> Next {
        let State::Unpatching(since) = self.state else {
            return Ok(Step::Wait(Duration::ZERO));
        };
        let Some(standing) = kernel.standing(&self.request.name)? else {
            return self.entry_gone(kernel);
        };
        if standing.enabled {
            self.state = State::Patching;
            return Ok(Step::Wait(Duration::ZERO));
        }
        // As long as it is being disabled a loss can still be reversed.
        if self.repair.is_some() && standing.transition && self.put_back(kernel) {
            return Ok(Step::Wait(SOON));
        }
        if kernel.now().since(since) >= GOING_BACK {
            if let Some(watch) = &mut self.watch {
                watch.look(kernel, false);
            }
            let stragglers = self.seen();
            let why = "it was taken back, and a task holds that up";
            return Ok(Step::Done(LoadOutcome::StillInTransition { stragglers, why }));
        }
        Ok(Step::Wait(SOON))
    }

    /// Reverses the disabling that a lost race has begun.
    fn put_back(&mut self, kernel: &dyn Kernel) -> bool {
        let reversed = kernel.set_enabled(&self.request.name, true).is_ok();
        if reversed {
            self.watch = Some(Watch::begin(kernel.now()));
            self.state = State::Patching;
        }
        reversed
    }

    /// Its entry is gone: taken back, or lost.
    pub(super) fn entry_gone(&mut self, kernel: &dyn Kernel) -> Next {
        let taken_back = matches!(self.state, State::Unpatching(_));
        if !taken_back && self.repair.is_none() {
            return Ok(Step::Done(LoadOutcome::Vanished));
        }
        let gone = kernel.now();
        if self.find_loss(kernel, gone)? {
            if let Some(lost) = &mut self.repair {
                lost.means = RepairMeans::LoadedAgain;
            }
            self.leftover_removed = false;
            self.attempts = 0;
            self.state = State::Begin;
            return Ok(Step::Wait(Duration::ZERO));
        }
        self.state = State::CleaningUp(Unload::new(&self.request.name, gone + CLEAN_UP), gone);
        Ok(Step::Wait(Duration::ZERO))
    }

    pub(super) fn cleaned_up(&mut self, back: BootTime, outcome: UnloadOutcome) -> Step<LoadOutcome> {
        let leftover = match outcome {
            UnloadOutcome::Unloaded | UnloadOutcome::NotLoaded => false,
            UnloadOutcome::Unreadable(error) => return Step::Done(LoadOutcome::Unreadable(error)),
            _ => true,
        };
        let exposure = self.called.map_or(Duration::ZERO, |called| back.since(called));
        Step::Done(LoadOutcome::Reverted {
            stragglers: self.seen(),
            leftover,
            exposure,
        })
    }
}
