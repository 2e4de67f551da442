//! Loading a livepatch and waiting for its transition. Writes through the seam.
//!
//! One `finit_module` per attempt, in a thread of its own; never while any transition runs. A successful call means
//! that the transition has begun, nothing more. Before "patching complete" a load can be cancelled without loss, after
//! it not; the two are a race when the kernel is about to finish, so a cancel needs proof that it is not
//! (two samples) and is followed by a look at every livepatch that was enabled before. If the race was lost all
//! the same, the livepatch is put back at once.

mod begin;
mod finish;
mod outcome;
mod recover;
#[cfg(test)]
mod tests;

use std::ffi::CString;
use std::sync::Arc;
use std::time::Duration;

use super::roster::Roster;
use super::sampler::Sampler;
use super::unload::Unload;
use super::watch::Watch;
use super::{Operation, Step};
use crate::blockers::Stragglers;
use crate::clock::BootTime;
use crate::error::KernelError;
use crate::identity::BuildId;
use crate::klog::LogMark;
use crate::refusal::LoadRefusal;
use crate::seam::{Kernel, PendingLoad};
use crate::seen::Seen;

pub use outcome::{LoadOutcome, Loaded, Repair, RepairMeans};

/// What happens when a transition has not ended at its deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OnTimeout {
    /// It is taken back, once that is proven to be without loss.
    Revert,
    /// It goes on; the operation ends and can be resumed with another deadline.
    Wait,
}

/// What to load.
#[derive(Debug, Clone)]
pub struct LoadRequest {
    /// The module's name in kernel spelling.
    pub name: String,
    /// The module's build id; `None` if the file has none.
    pub build_id: Option<BuildId>,
    /// The file, uncompressed.
    pub image: Arc<[u8]>,
    /// Module parameters, `key=value` separated by blanks.
    pub parameters: CString,
    /// When the transition has to be over.
    pub deadline: BootTime,
    /// What to do when it is not.
    pub on_timeout: OnTimeout,
}

/// Loads one livepatch.
pub struct Load {
    request: LoadRequest,
    state: State,
    /// Who was enabled before the call; `None` until the call.
    roster: Option<Roster>,
    called: Option<BootTime>,
    watch: Option<Watch>,
    /// How often the call was tried.
    attempts: u32,
    leftover_removed: bool,
    repair: Option<Lost>,
    interrupted: bool,
}

/// A lost cancel: since when the livepatches have been missing.
struct Lost {
    since: BootTime,
    missing: Vec<String>,
    means: RepairMeans,
    /// When to give up waiting for the repair.
    deadline: BootTime,
}

enum State {
    /// Nothing done yet, or waiting to try again.
    Begin,
    /// A leftover of the same name is being removed.
    RemovingLeftover(Unload),
    /// `finit_module` runs.
    Calling(Call),
    /// The transition runs.
    Patching,
    /// The deadline has passed: the transition is being proven stuck.
    Sampling(Sampler, BootTime),
    /// It was taken back, at this time or before, and goes on backwards.
    Unpatching(BootTime),
    /// It was taken back, wholly at this time; its module is being removed.
    CleaningUp(Unload, BootTime),
}

struct Call {
    pending: Box<dyn PendingLoad>,
    /// When this very call was made; a repair makes another one long after the first.
    since: BootTime,
    mark: LogMark,
}

/// Between two looks while something outside is waited for.
const PATIENCE: Duration = Duration::from_millis(250);

/// Between two looks at something that is about to happen.
const SOON: Duration = Duration::from_millis(10);

type Next = Result<Step<LoadOutcome>, KernelError>;

impl Load {
    /// To be loaded.
    pub fn new(request: LoadRequest) -> Self {
        Self {
            request,
            state: State::Begin,
            roster: None,
            called: None,
            watch: None,
            attempts: 0,
            leftover_removed: false,
            repair: None,
            interrupted: false,
        }
    }

    /// Goes on with a load that an earlier process began in this boot: its call was made at `called`, with `roster`
    /// enabled before it.
    pub fn resume(request: LoadRequest, called: BootTime, roster: Roster) -> Self {
        let mut load = Self::new(request);
        load.state = State::Patching;
        load.called = Some(called);
        load.roster = Some(roster);
        load.watch = Some(Watch::begin(called));
        load
    }

    fn attempt(&mut self, kernel: &dyn Kernel) -> Next {
        match &mut self.state {
            State::Begin => self.begin(kernel),
            State::RemovingLeftover(unload) => match unload.step(kernel) {
                Step::Wait(span) => Ok(Step::Wait(span)),
                Step::Done(outcome) => Ok(self.leftover_gone(outcome)),
            },
            State::Calling(_) => self.calling(kernel),
            State::Patching => self.patching(kernel),
            State::Sampling(..) => self.sampling(kernel),
            State::Unpatching(_) => self.unpatching(kernel),
            State::CleaningUp(unload, back) => match unload.step(kernel) {
                Step::Wait(span) => Ok(Step::Wait(span)),
                Step::Done(outcome) => {
                    let back = *back;
                    Ok(self.cleaned_up(back, outcome))
                }
            },
        }
    }

    fn late(&self, kernel: &dyn Kernel) -> bool {
        self.interrupted || kernel.now() >= self.request.deadline
    }

    fn refused(refusal: LoadRefusal) -> Step<LoadOutcome> {
        Step::Done(LoadOutcome::Refused(refusal))
    }

    fn seen(&self) -> Option<Seen<Stragglers>> {
        self.stragglers().cloned()
    }
}

impl Operation for Load {
    type Outcome = LoadOutcome;

    fn step(&mut self, kernel: &dyn Kernel) -> Step<LoadOutcome> {
        self.attempt(kernel)
            .unwrap_or_else(|error| Step::Done(LoadOutcome::Unreadable(error)))
    }

    fn stragglers(&self) -> Option<&Seen<Stragglers>> {
        self.watch.as_ref().and_then(Watch::stragglers)
    }

    fn interrupt(&mut self) {
        self.interrupted = true;
    }
}
