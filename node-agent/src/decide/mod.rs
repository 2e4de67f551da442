//! From what is known to what is done next: one step at a time. No IO, no clock.
//!
//! [`decide`] is total: whatever it is given, it answers, and whatever it does not know makes it wait.

pub mod bookkeeping;
mod coexist;
mod grants;
mod housekeeping;
mod restore;
mod under_way;
mod verdict;

use std::collections::BTreeMap;
use std::time::Duration;

use livepatch_crds::NodeLivepatchSpec;
use livepatch_crds::node::{Blocker, Grant, GrantStatus};
use livepatch_module::Inspection;

use crate::journal::{Entry, Failure, Journal, Pair};
use crate::retry::{Retries, Subject};
use crate::truth::Truth;
use crate::validate;
use verdict::Verdict;

pub use verdict::reasons;

/// Wait before the kernel is looked at again when nothing is to be done: it tells nobody that somebody changed it.
pub const IDLE: Duration = Duration::from_mins(1);

/// Wait while somebody else's transition runs, or a module comes or goes.
const BUSY: Duration = Duration::from_secs(5);

/// Most often a load of one attempt is begun: an agent that is killed again and again during a load may be killed by it.
const MAX_STARTS: u32 = 3;

/// What is known of the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JournalState {
    /// There is none.
    Missing,
    /// It was read.
    Known(Journal),
    /// It is there and cannot be used.
    Unreadable(Failure),
}

/// Everything a decision rests on.
#[derive(Debug, Clone, Copy)]
pub struct Snapshot<'a> {
    /// The spec, as last seen; `None` while it is not known or there is none.
    pub spec: Option<&'a NodeLivepatchSpec>,
    /// What the kernel says.
    pub truth: &'a Truth,
    /// What the journal says.
    pub journal: &'a JournalState,
    /// Why a person on the node stopped the agent, if one did.
    pub stop: Option<&'a str>,
    /// Modules that are in the local store, verified, by their SHA-256.
    pub prepared: &'a BTreeMap<String, Inspection>,
    /// What is waited with.
    pub retries: &'a Retries,
    /// Tasks that hold up the transition that is followed.
    pub blockers: &'a [Blocker],
    /// Length of the probation.
    pub settle: Duration,
}

/// What is done next.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Nothing.
    Nothing,
    /// The journal is replaced.
    Write(Journal),
    /// A module is brought into the local store and verified.
    Prepare(Box<Preparation>),
    /// A module is loaded.
    Load(Box<Load>),
    /// A transition of ours is followed to its end or its deadline.
    Follow(Key),
    /// The module of a livepatch of ours that is no longer in use is removed.
    RemoveLeftover(String),
}

/// The name of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// UID of the set.
    pub set_uid: String,
    /// The pair.
    pub pair: Pair,
}

impl Key {
    /// The key of an entry.
    pub fn of(entry: &Entry) -> Self {
        Self {
            set_uid: entry.set_uid.clone(),
            pair: entry.pair.clone(),
        }
    }
}

/// A module to be brought into the local store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preparation {
    /// The entry that wants it: one to be restored, or what a grant would make.
    pub entry: Entry,
    /// What is waited with if it fails.
    pub subject: Subject,
    /// Whether it is to be restored rather than newly granted.
    pub again: bool,
}

/// A module to be loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Load {
    /// Its entry, to be written before the kernel is asked.
    pub entry: Entry,
    /// The grant that has to be still there, under the present leadership. `None`: a return to what was in effect
    /// before the reboot, which asks nobody.
    pub grant: Option<Grant>,
}

/// What is done next, and what is said meanwhile.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// What is done next.
    pub step: Step,
    /// One per grant, in the order of the spec.
    pub verdicts: Vec<GrantStatus>,
    /// Why nothing at all can be done, if so.
    pub obstacle: Option<Failure>,
    /// When to look again at the latest.
    pub recheck: Duration,
}

/// What is done next.
pub fn decide(snapshot: &Snapshot<'_>) -> Decision {
    let wishes = snapshot.spec.map(validate::wishes).unwrap_or_default();
    let mut work = Work::new(snapshot, bookkeeping::keep(snapshot, &wishes));
    work.under_way();
    work.restore();
    let mut verdicts: Vec<Option<Verdict>> = vec![None; wishes.len()];
    for index in validate::working_order(&wishes) {
        if let (Some(wish), Some(slot)) = (wishes.get(index), verdicts.get_mut(index)) {
            *slot = Some(work.grant(wish));
        }
    }
    work.housekeeping();
    let verdicts = wishes
        .iter()
        .zip(verdicts)
        .filter_map(|(wish, verdict)| Some(verdict?.of(wish.grant)))
        .collect();
    work.finish(verdicts)
}

/// A decision in the making.
struct Work<'a> {
    snapshot: &'a Snapshot<'a>,
    /// The journal as it will be once this step's bookkeeping is written; `None` if there can be none.
    journal: Option<Journal>,
    obstacle: Option<Failure>,
    step: Option<Step>,
    /// Something runs in the kernel: nothing may be begun.
    busy: bool,
    /// A cumulative livepatch will follow: what it would throw out has to wait.
    cumulative_to_come: bool,
    recheck: Duration,
}

impl<'a> Work<'a> {
    fn new(snapshot: &'a Snapshot<'a>, kept: bookkeeping::Kept) -> Self {
        let changed = match (&kept.journal, snapshot.journal) {
            (Some(new), JournalState::Known(old)) => new != old,
            (Some(_), JournalState::Missing) => true,
            _ => false,
        };
        let writable = snapshot.retries.waiting(&Subject::Journal, snapshot.truth.now);
        let step = match &kept.journal {
            Some(journal) if changed && writable.is_none() => Some(Step::Write(journal.clone())),
            _ => None,
        };
        let mut work = Self {
            snapshot,
            obstacle: kept
                .obstacle
                .or_else(|| writable.map(|waiting| waiting.failure.clone())),
            journal: kept.journal,
            step,
            busy: false,
            cumulative_to_come: false,
            recheck: IDLE,
        };
        if let Some(waiting) = writable {
            work.look_again(waiting.until.since(snapshot.truth.now));
        }
        if let Some(journal) = &work.journal {
            let settling = journal.next_settling(&snapshot.truth.boot, snapshot.truth.now, snapshot.settle);
            if let Some(settling) = settling {
                work.look_again(settling);
            }
        }
        work
    }

    /// The first proposal is the step.
    fn propose(&mut self, step: Step) {
        self.step.get_or_insert(step);
    }

    fn look_again(&mut self, after: Duration) {
        self.recheck = self.recheck.min(after.max(Duration::from_millis(100)));
    }

    /// Whether something else comes first.
    const fn occupied(&self) -> bool {
        self.busy || self.step.is_some()
    }

    fn finish(self, verdicts: Vec<GrantStatus>) -> Decision {
        Decision {
            step: self.step.unwrap_or(Step::Nothing),
            verdicts,
            obstacle: self.obstacle,
            recheck: self.recheck,
        }
    }
}
