//! What a seed stands for: a fleet, what is to be rolled out, and everything that goes wrong meanwhile.

mod draw;

use std::collections::BTreeMap;
use std::time::Duration;

use livepatch_crds::set::LivepatchSetSpec;
use livepatch_kernel::Call;
use livepatch_operator::watch::world::Kind;
use nix::errno::Errno;
use serde_json::{Value, json};

use crate::coverage::Arm;
use crate::modules::{Conduct, Shelf};
use crate::net::Trouble;

/// A whole run, before it is run.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub machines: Vec<MachinePlan>,
    pub sets: Vec<SetPlan>,
    /// Length of the agents' probation.
    pub settle: Duration,
    /// How far each operator's wall clock is ahead, in milliseconds.
    pub skews: [i64; 2],
    pub happenings: Vec<(Duration, Happening)>,
    /// From then on nothing goes wrong any more.
    pub heals: Duration,
}

#[derive(Clone, Debug)]
pub(crate) struct MachinePlan {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub build: usize,
    pub transition: Duration,
    /// It is not there from the beginning.
    pub joins: Option<Duration>,
}

#[derive(Clone, Debug)]
pub(crate) struct SetPlan {
    pub name: String,
    pub cumulative: bool,
    pub created: Duration,
    pub spec: Value,
    /// For each revision: the kernel builds it has a module for.
    pub revisions: Vec<Vec<(usize, Conduct)>>,
}

impl SetPlan {
    /// The spec with the template of a revision.
    #[expect(
        clippy::expect_used,
        reason = "a scenario that is not valid is an error of the simulator"
    )]
    pub fn spec(&self, revision: usize) -> LivepatchSetSpec {
        let mut spec = self.spec.clone();
        let reference = Shelf::reference(&self.name, revision);
        spec["template"] = json!({"source": {"oci": {"reference": reference}}});
        serde_json::from_value(spec).expect("the scenario's sets are valid")
    }
}

/// Something that is done to the world.
#[derive(Clone, Debug)]
pub(crate) enum Happening {
    KillOperator(usize),
    StopOperator(usize),
    PauseOperator(usize, Duration),
    SilenceWatch(usize, Kind, Duration),
    BreakWatch(usize, Kind),
    Reconnect(usize, Kind),
    StallReplica(usize, Duration),
    Trouble(Trouble),
    Arm(Arm),
    KillAgent(usize),
    SilenceAgent(usize, Duration),
    BreakAgentWatch(usize),
    /// The power goes, and comes back.
    PowerCut(usize, Duration),
    /// A shutdown in good order, and a boot.
    Reboot(usize, Duration),
    Unreachable(usize, Duration),
    /// Another machine under the same name.
    Recreate(usize, Duration),
    Remove(usize),
    Join(usize),
    /// A reboot into another kernel build.
    NewKernel(usize, usize),
    Label(usize, &'static str, &'static str),
    Skip(usize, bool),
    Stop(usize, bool),
    FailNext(usize, Call, Errno),
    /// A task sleeps in what a set patches.
    Sleeper(usize, usize, Option<Duration>),
    Foreign(usize, bool),
    /// Somebody disables what a set loaded.
    Drift(usize),
    LostRace(usize),
    SlowCall(usize, Duration),
    DiskFull(usize, bool),
    JournalLost(usize),
    JournalDamaged(usize),
    RegistryAway(Duration),
    RegistryDamaged(Duration),
    CreateSet(usize),
    DeleteSet(usize),
    Revise(usize, usize),
    /// A field of the rollout strategy.
    Strategy(usize, &'static str, Value),
    Pause(usize),
    Resume(usize),
    Abort(usize),
    Exclude(usize, usize),
    Retry(usize),
    Promote(usize, String),
    /// A field of an object that no version can read, for so long.
    Unreadable(usize, Duration),
    /// The same with a set, and its end.
    UnreadableSet(usize),
    ReadableSet(usize),
    /// Somebody else writes to an object.
    Touch(usize),
    /// Nothing goes wrong any more, and people do what is asked of them.
    Heal,
    /// People look once more.
    Help,
}

impl Scenario {
    /// What a seed stands for.
    pub fn of(seed: u64) -> Self {
        draw::scenario(seed)
    }
}
