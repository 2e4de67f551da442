//! The records of the journal. No IO.

use livepatch_crds::node::{Grant, ModuleReference, SetReference};
use livepatch_crds::policy::{GrantPolicy, TimeoutPolicy};
use livepatch_crds::set::LivepatchType;
use livepatch_kernel::operation::{OnTimeout, Roster};
use livepatch_kernel::{BootId, BootTime};
use livepatch_planner::node::Mode;
use serde::{Deserialize, Serialize};

use super::boots::Boots;
use super::phase::Phase;

/// Version of the file's schema that this program writes and reads.
pub const SCHEMA: u32 = 1;

/// Most entries kept. The oldest that matter least go first.
pub const MAX_ENTRIES: usize = 128;

/// The whole journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Journal {
    /// [`SCHEMA`]; anything else is refused by the reader.
    pub schema: u32,
    /// Why nothing may be changed on this node, as the API server last said; empty if it may. Heeded while the API
    /// server is away.
    #[serde(default)]
    pub hold: String,
    /// What is remembered of boots.
    #[serde(default)]
    pub boots: Boots,
    /// One entry per set and pair, in the order of their first loads.
    #[serde(default)]
    pub entries: Vec<Entry>,
}

impl Default for Journal {
    fn default() -> Self {
        Self {
            schema: SCHEMA,
            hold: String::new(),
            boots: Boots::default(),
            entries: Vec::new(),
        }
    }
}

/// What is loaded where: the identity of all work of this project.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pair {
    /// GNU build id of the kernel, hexadecimal.
    pub kernel_build_id: String,
    /// SHA-256 of the module file, hexadecimal.
    pub sha256: String,
}

impl Pair {
    /// The pair for which a grant was given.
    pub fn of(grant: &Grant) -> Self {
        Self {
            kernel_build_id: grant.module.kernel_build_id.clone(),
            sha256: grant.module.sha256.clone(),
        }
    }
}

/// One module that was granted to this node, and how far it came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// Name of the set.
    pub set: String,
    /// UID of the set.
    pub set_uid: String,
    /// Name of the rollout.
    pub rollout: String,
    /// The attempt of the rollout.
    pub attempt: i32,
    /// Whether the set is a cumulative one.
    pub cumulative: bool,
    /// What is loaded on which kernel.
    pub pair: Pair,
    /// Name of the module in the kernel's spelling.
    pub module: String,
    /// GNU build id of the module, hexadecimal; empty if it has none.
    pub build_id: String,
    /// Repository of the module, to pull it again if the local copy is damaged.
    pub repository: String,
    /// Digest of the module's manifest.
    pub digest: String,
    /// Time for a transition, in seconds.
    pub timeout_seconds: u32,
    /// Boot to which `started`, `deadline` and the instants in `phase` belong.
    pub boot: BootId,
    /// When the intent was written.
    pub started: BootTime,
    /// When a transition that has not finished is given up.
    pub deadline: BootTime,
    /// How often a load of this attempt was begun.
    pub starts: u32,
    /// What was enabled before the load: a cancelled load is compared with it.
    #[serde(default)]
    pub roster: Roster,
    /// What the node may do on its own.
    #[serde(default)]
    pub policy: GrantPolicy,
    /// The plan that this entry is the target of, as it was when it was begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<Intent>,
    /// Set while it is out of effect and to be brought back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub absence: Option<Absence>,
    /// How long it was out of effect the last time, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gap_milliseconds: Option<u64>,
    /// Whether it was once in effect for long enough in one boot: no crash suspects it any more.
    #[serde(default)]
    pub proven: bool,
    /// When it was last brought back after somebody disabled it, in the boot `boot`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drift_restored: Option<BootTime>,
    /// How far it came.
    pub phase: Phase,
}

/// What was meant when something was begun: for whoever reads the journal afterwards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Intent {
    /// How.
    pub mode: Mode,
    /// Why this way.
    pub because: Vec<String>,
    /// SHA-256 of what is brought back afterwards.
    pub restores: Vec<String>,
    /// SHA-256 of everything that has to be on local disk: what is brought back, and what is gone back to if it fails.
    #[serde(default)]
    pub way_back: Vec<String>,
}

/// A livepatch that is out of effect for a while.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Absence {
    /// Since when, at the latest.
    pub since: BootTime,
    /// Whether its probation was over before.
    pub settled: bool,
    /// SHA-256 of the module for or by whose load; empty if there is none any more.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub by: String,
}

impl Entry {
    /// An entry for a grant, about to be begun.
    pub fn begin(grant: &Grant, boot: BootId, now: BootTime) -> Self {
        let timeout_seconds = u32::try_from(grant.transition_timeout_seconds.max(0)).unwrap_or(0);
        Self {
            set: grant.set.name.clone(),
            set_uid: grant.set.uid.clone(),
            rollout: grant.rollout.clone(),
            attempt: grant.attempt,
            cumulative: grant.livepatch_type == LivepatchType::Cumulative,
            pair: Pair::of(grant),
            module: grant.module.name.clone(),
            build_id: grant.module.build_id.clone(),
            repository: grant.module.repository.clone(),
            digest: grant.module.digest.clone(),
            timeout_seconds,
            boot,
            started: now,
            deadline: now + std::time::Duration::from_secs(timeout_seconds.into()),
            starts: 1,
            roster: Roster::default(),
            policy: grant.policy.clone(),
            plan: None,
            absence: None,
            gap_milliseconds: None,
            proven: false,
            drift_restored: None,
            phase: Phase::Starting { again: false },
        }
    }

    /// Another module of the same set, as a grant names it, only to be brought to the node.
    pub fn of_module(like: &Self, module: &ModuleReference) -> Self {
        Self {
            pair: Pair {
                kernel_build_id: module.kernel_build_id.clone(),
                sha256: module.sha256.clone(),
            },
            module: module.name.clone(),
            build_id: module.build_id.clone(),
            repository: module.repository.clone(),
            digest: module.digest.clone(),
            ..like.clone()
        }
    }

    /// Whether this entry is about the pair of a grant, for its set.
    pub fn is_for(&self, grant: &Grant) -> bool {
        self.set_uid == grant.set.uid && self.pair == Pair::of(grant)
    }

    /// Whether this entry is about the very attempt of a grant.
    pub fn is_attempt(&self, grant: &Grant) -> bool {
        self.is_for(grant) && self.rollout == grant.rollout && self.attempt == grant.attempt
    }

    /// Whether a grant was given after this entry, and by a person's demand to try again.
    ///
    /// Attempts count per rollout, and the first one of a new rollout is nobody's demand for this pair.
    pub fn is_retried_by(&self, grant: &Grant) -> bool {
        if self.rollout == grant.rollout {
            grant.attempt > self.attempt
        } else {
            grant.attempt > 1
        }
    }

    /// The module as a grant names it.
    pub fn module_reference(&self) -> ModuleReference {
        ModuleReference {
            name: self.module.clone(),
            repository: self.repository.clone(),
            digest: self.digest.clone(),
            sha256: self.pair.sha256.clone(),
            build_id: self.build_id.clone(),
            kernel_build_id: self.pair.kernel_build_id.clone(),
        }
    }

    /// The set as a grant names it.
    pub fn set_reference(&self) -> SetReference {
        SetReference {
            name: self.set.clone(),
            uid: self.set_uid.clone(),
        }
    }

    /// Cumulative or `OffBand`.
    pub const fn livepatch_type(&self) -> LivepatchType {
        if self.cumulative {
            LivepatchType::Cumulative
        } else {
            LivepatchType::OffBand
        }
    }

    /// Whether the kernel was, or may have been, asked to load it and the end is not yet written.
    pub const fn is_under_way(&self) -> bool {
        matches!(self.phase, Phase::Starting { .. })
    }

    /// Whether this project put it into effect and nothing of this project took it out since.
    pub const fn is_in_effect(&self) -> bool {
        matches!(self.phase, Phase::Applied { .. } | Phase::Settled)
    }

    /// Whether the kernel was, or may have been, asked to disable it.
    pub const fn is_going(&self) -> bool {
        matches!(self.phase, Phase::Displaced | Phase::Retiring { .. } | Phase::Removing)
    }

    /// Begins now, with the time it was given.
    pub fn postpone(&mut self, now: BootTime) {
        let span = self.deadline.since(self.started);
        self.started = now;
        self.deadline = now + span;
        if let Some(absence) = &mut self.absence
            && self.phase == Phase::Displaced
        {
            absence.since = now;
        }
    }

    /// Whether its probation is over, in this boot or in an earlier one.
    pub fn has_settled(&self) -> bool {
        self.proven || self.phase == Phase::Settled
    }

    /// What follows when a transition is not over at its deadline.
    pub const fn on_timeout(&self) -> OnTimeout {
        match self.policy.timeout_policy {
            TimeoutPolicy::Wait if !matches!(self.phase, Phase::Starting { again: true }) => OnTimeout::Wait,
            TimeoutPolicy::Wait | TimeoutPolicy::Revert => OnTimeout::Revert,
        }
    }
}

impl Journal {
    /// The entry for the pair of a grant and its set.
    pub fn entry_for(&self, grant: &Grant) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.is_for(grant))
    }

    /// The same, to change it.
    pub fn entry_for_mut(&mut self, grant: &Grant) -> Option<&mut Entry> {
        self.entries.iter_mut().find(|entry| entry.is_for(grant))
    }

    /// The entry of a set for a pair.
    pub fn entry(&self, set_uid: &str, pair: &Pair) -> Option<&Entry> {
        self.entries
            .iter()
            .find(|entry| entry.set_uid == set_uid && entry.pair == *pair)
    }

    /// The same, to change it.
    pub fn entry_mut(&mut self, set_uid: &str, pair: &Pair) -> Option<&mut Entry> {
        self.entries
            .iter_mut()
            .find(|entry| entry.set_uid == set_uid && entry.pair == *pair)
    }

    /// Puts an entry in the place of the one for the same set and pair, or after the last one of its set, or at the end:
    /// the order of sets is the order in which they are brought back.
    pub fn put(&mut self, entry: Entry) {
        if let Some(old) = self.entry_mut(&entry.set_uid, &entry.pair) {
            *old = entry;
            return;
        }
        let last = self.entries.iter().rposition(|other| {
            other.set_uid == entry.set_uid && other.pair.kernel_build_id == entry.pair.kernel_build_id
        });
        let place = last.map_or(self.entries.len(), |last| last + 1);
        self.entries.insert(place, entry);
    }
}
