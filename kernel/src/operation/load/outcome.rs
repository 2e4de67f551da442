//! How a load can end. No IO.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::blockers::Stragglers;
use crate::clock::BootTime;
use crate::error::KernelError;
use crate::refusal::LoadRefusal;
use crate::seen::Seen;

/// How a load can end.
#[derive(Debug)]
pub enum LoadOutcome {
    /// It is loaded, enabled, out of transition, and proven to be the build that was asked for.
    Loaded(Loaded),
    /// The kernel refused, or the load was not tried; nothing has changed.
    Refused(LoadRefusal),
    /// It was taken back, at its deadline, by an interrupt or by somebody else; what was enabled before still is.
    Reverted {
        /// The tasks that held it up, when last looked at.
        stragglers: Option<Seen<Stragglers>>,
        /// Whether its module could not be removed.
        leftover: bool,
        /// Switched tasks ran the new functions, and while a replacing load lasted not the replaced ones, for so long:
        /// from the call until the last task was back. A load that was gone on with may be told longer, by what passed
        /// between the time it was given as that of its call and the call itself.
        exposure: Duration,
    },
    /// It is still in transition after its deadline: as asked, or because nothing proved that taking it back is without
    /// loss. Can be resumed.
    StillInTransition {
        /// The tasks that hold it up, when last looked at.
        stragglers: Option<Seen<Stragglers>>,
        /// Why it was not taken back.
        why: &'static str,
    },
    /// `finit_module` has not returned and no transition is to be seen. Look again later.
    CallNotReturned,
    /// It was interrupted before anything was done.
    Interrupted,
    /// Its entry is gone although nobody here took it back: somebody disabled or replaced it.
    Vanished,
    /// It is loaded and enabled, but whether it is the build that was asked for is not proven.
    Unproven {
        /// What was found in place of the build id.
        found: String,
    },
    /// A lost race could not be repaired: these livepatches, and this one, are not enabled.
    Lost {
        /// What is missing.
        missing: Vec<String>,
        /// Why the repair failed, if the kernel refused it.
        refusal: Option<LoadRefusal>,
    },
    /// The kernel's state could not be read; what has become of the load is unknown.
    Unreadable(KernelError),
}

/// A finished load.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Loaded {
    /// When `finit_module` was called; `None` if it was loaded before this operation began.
    pub called: Option<BootTime>,
    /// When it was first seen enabled and out of transition.
    pub effective: BootTime,
    /// Livepatches that were enabled before and are not any more.
    pub replaced: Vec<String>,
    /// Set if a cancel lost its race and the livepatch was put back.
    pub repair: Option<Repair>,
}

/// A repaired lost race.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Repair {
    /// What was missing meanwhile.
    pub missing: Vec<String>,
    /// From the write that lost the race to the end of the repairing transition. Tasks were switching back during it,
    /// so not all of them ran unpatched functions all that time.
    pub gap: Duration,
    /// How it was repaired.
    pub means: RepairMeans,
}

/// How a lost race was repaired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RepairMeans {
    /// The disabling that the write had begun was reversed before it ended.
    Reversed,
    /// The module was loaded again.
    LoadedAgain,
}
