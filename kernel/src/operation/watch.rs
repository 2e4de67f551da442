//! How often to look during a transition. Reads the kernel.
//!
//! The kernel tells nobody when a transition ends, so it is asked. It tries once a second, but the first pass often
//! suffices, so the first seconds are watched closely.

use std::time::Duration;

use crate::blockers::Stragglers;
use crate::clock::BootTime;
use crate::seam::Kernel;
use crate::seen::Seen;

/// Interval of the first two seconds, and after them.
const CLOSELY: Duration = Duration::from_millis(20);
const LATER: Duration = Duration::from_millis(100);
const BEGINNING: Duration = Duration::from_secs(2);

/// Interval of looking for the tasks that are in the way: a pass over all tasks of the host.
const SCAN: Duration = Duration::from_secs(5);

/// Most tasks listed for people.
const LISTED: usize = 16;

/// Watches one transition.
#[derive(Debug)]
pub(super) struct Watch {
    since: BootTime,
    scanned: Option<BootTime>,
    stragglers: Option<Seen<Stragglers>>,
}

impl Watch {
    pub(super) fn begin(since: BootTime) -> Self {
        Self {
            since,
            scanned: None,
            stragglers: None,
        }
    }

    /// Says when to look next, and from time to time looks at tasks.
    pub(super) fn next(&mut self, kernel: &dyn Kernel, target: bool) -> Duration {
        let now = kernel.now();
        if now.since(self.since) < BEGINNING {
            return CLOSELY;
        }
        if self.scanned.is_none_or(|at| now.since(at) >= SCAN) {
            self.look(kernel, target);
        }
        LATER
    }

    /// Looks at tasks now.
    pub(super) fn look(&mut self, kernel: &dyn Kernel, target: bool) {
        self.scanned = Some(kernel.now());
        self.stragglers = Some(kernel.stragglers(target, LISTED));
    }

    pub(super) fn stragglers(&self) -> Option<&Seen<Stragglers>> {
        self.stragglers.as_ref()
    }
}
