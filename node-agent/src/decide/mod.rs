//! From what is known to what is done next: one step at a time. No IO, no clock.
//!
//! [`decide`] is total: whatever it is given, it answers, and whatever it does not know makes it wait.

mod advance;
pub mod bookkeeping;
mod grants;
mod housekeeping;
mod restore;
mod retire;
mod situation;
mod under_way;
mod verdict;

use std::collections::{BTreeMap, BTreeSet};
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

impl JournalState {
    /// Modules whose load or removal was begun, as far as is known.
    pub fn modules_under_way(&self) -> BTreeSet<String> {
        let Self::Known(journal) = self else {
            return BTreeSet::new();
        };
        let under_way = journal.entries.iter().filter(|entry| entry.is_under_way());
        under_way.map(|entry| entry.module.clone()).collect()
    }
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
    /// A livepatch is disabled.
    Disable(Box<Disable>),
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
    /// The module, as the entry it has or would have.
    pub wanted: Entry,
    /// The entry that cannot go on without it.
    pub target: Entry,
    /// What is waited with if it fails.
    pub subject: Subject,
    /// Whether it is newly granted, rather than here before.
    pub granted: bool,
}

/// A module to be loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Load {
    /// Its entry, to be written before the kernel is asked.
    pub entry: Entry,
    /// The grant that has to be still there, under the present leadership. `None`: a plan that was begun, or a return to
    /// what was in effect before, which asks nobody.
    pub grant: Option<Grant>,
    /// What is waited with if it fails.
    pub subject: Subject,
}

/// A livepatch to be disabled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disable {
    /// Its entry, to be written before the kernel is asked.
    pub entry: Entry,
    /// The entry in whose way it is, written with it.
    pub target: Option<Entry>,
    /// The grant that has to be still there, if this begins a plan.
    pub grant: Option<Grant>,
    /// What is waited with if it fails.
    pub subject: Subject,
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
    let mut verdicts: Vec<Option<Verdict>> = vec![None; wishes.len()];
    work.under_way();
    work.begun_plans(&wishes, &mut verdicts);
    work.restore();
    work.retire();
    work.new_plans(&wishes, &mut verdicts);
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
    /// What is to be brought back, and why that is refused.
    not_restored: BTreeMap<Pair, Failure>,
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
            not_restored: BTreeMap::new(),
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
