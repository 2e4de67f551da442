//! Proof that a transition is really held up, before it is cancelled. Reads the kernel.
//!
//! Writing `enabled` can lose the race against completion: `transition` still reads 1 when the kernel is about to
//! finish (3 of 12 tries on an idle 7.2 guest). A task that has the wrong patch state cannot be passed over by
//! completion, and one that had it a second ago and has it still will hardly leave it within the next microseconds.

use std::time::Duration;

use crate::blockers::Straggler;
use crate::clock::BootTime;
use crate::seam::Kernel;
use crate::seen::Seen;

/// Time between the two samples.
const APART: Duration = Duration::from_secs(1);

/// Most tasks remembered of a sample.
const MAX_TASKS: usize = 256;

/// Two samples a second apart.
#[derive(Debug, Default)]
pub(super) struct Sampler {
    first: Option<(BootTime, Vec<Straggler>)>,
}

/// What the samples say so far.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Sampled {
    /// Look again after this time.
    Wait(Duration),
    /// A task was stuck in both samples and is stuck right now.
    Stuck,
    /// Tasks cannot be seen, for this reason, so nothing is ever proven.
    Blind(String),
}

impl Sampler {
    /// Takes a sample, if it is time for one.
    pub(super) fn sample(&mut self, kernel: &dyn Kernel, target: bool) -> Sampled {
        let now = kernel.now();
        if let Some((at, _)) = &self.first
            && now.since(*at) < APART
        {
            return Sampled::Wait(APART.saturating_sub(now.since(*at)));
        }
        let tasks = match kernel.stragglers(target, MAX_TASKS) {
            Seen::Known(stragglers) => stragglers.listed,
            Seen::Unknown(why) => return Sampled::Blind(why),
        };
        let before = self
            .first
            .replace((kernel.now(), tasks))
            .map(|(_, tasks)| tasks)
            .unwrap_or_default();
        let stuck = self.first.iter().flat_map(|(_, tasks)| tasks).find(|task| {
            before
                .iter()
                .any(|other| other.tid == task.tid && other.pid == task.pid)
                && kernel.straggles(task, target).is(&true)
        });
        if stuck.is_some() {
            Sampled::Stuck
        } else {
            Sampled::Wait(APART)
        }
    }
}
