//! A set with its rollouts, as read from the cluster. No IO.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta};
use livepatch_crds::conditions::{self, COMPLETE, READY, STALLED};
use livepatch_crds::rollout::{Control, LivepatchRolloutStatus};
use livepatch_crds::set::LivepatchSetStatus;
use livepatch_crds::{LivepatchRollout, LivepatchSet};

use crate::options::RevisionPrefix;
use crate::text::Tone;

/// A set and the rollouts of its revisions, the newest first.
#[derive(Clone, Debug)]
pub struct Family {
    pub set: LivepatchSet,
    pub rollouts: Vec<LivepatchRollout>,
}

impl Family {
    /// Of a set and rollouts among which others may be: a former set of the same name had its own.
    pub fn of(set: LivepatchSet, rollouts: impl IntoIterator<Item = LivepatchRollout>) -> Self {
        let uid = set.metadata.uid.clone().unwrap_or_default();
        let mut rollouts: Vec<_> = rollouts
            .into_iter()
            .filter(|rollout| rollout.spec.set_uid == uid)
            .collect();
        rollouts.sort_by(|one, other| order(&other.metadata).cmp(&order(&one.metadata)));
        Self { set, rollouts }
    }

    /// Every set with its rollouts, by name.
    pub fn all(sets: Vec<LivepatchSet>, rollouts: Vec<LivepatchRollout>) -> Vec<Self> {
        let mut by_uid: BTreeMap<String, Vec<LivepatchRollout>> = BTreeMap::new();
        for rollout in rollouts {
            by_uid.entry(rollout.spec.set_uid.clone()).or_default().push(rollout);
        }
        let mut families: Vec<Self> = sets
            .into_iter()
            .map(|set| {
                let own = by_uid.remove(set.metadata.uid.as_deref().unwrap_or_default());
                Self::of(set, own.unwrap_or_default())
            })
            .collect();
        families.sort_by(|one, other| one.name().cmp(other.name()));
        families
    }

    /// Name of the set.
    pub fn name(&self) -> &str {
        name(&self.set.metadata)
    }

    /// What the operator says of the set; nothing yet if it has not seen it.
    pub fn status(&self) -> LivepatchSetStatus {
        self.set.status.clone().unwrap_or_default()
    }

    /// Whether the operator's status speaks of the set as it is written now.
    pub fn is_observed(&self) -> bool {
        let observed = self.set.status.as_ref().map(|status| status.observed_generation);
        observed.is_some_and(|observed| observed >= self.set.metadata.generation.unwrap_or(0))
    }

    /// The rollout of the revision that the set asks for, if the operator has made it.
    pub fn current(&self) -> Option<&LivepatchRollout> {
        let wanted = self.set.status.as_ref()?.rollout.as_deref()?;
        self.rollouts.iter().find(|rollout| name(&rollout.metadata) == wanted)
    }

    /// Whether it is the rollout of the revision that the set asks for.
    pub fn is_current(&self, rollout: &LivepatchRollout) -> bool {
        self.current()
            .is_some_and(|current| current.metadata.uid == rollout.metadata.uid)
    }

    /// The revision of one of the set's rollouts.
    pub fn revision<'a>(&self, rollout: &'a LivepatchRollout) -> &'a str {
        let name = name(&rollout.metadata);
        name.strip_prefix(self.name())
            .and_then(|rest| rest.strip_prefix('-'))
            .unwrap_or(name)
    }

    /// The rollout of a revision of which the first digits were typed.
    pub fn rollout_of(&self, typed: &RevisionPrefix) -> Result<&LivepatchRollout, NoSuchRevision> {
        let mut meant = self.rollouts.iter().filter(|r| typed.means(self.revision(r)));
        match (meant.next(), meant.next()) {
            (Some(one), None) => Ok(one),
            (None, _) => Err(NoSuchRevision::Unknown {
                set: self.name().to_owned(),
                revision: typed.to_string(),
            }),
            (Some(_), Some(_)) => Err(NoSuchRevision::Ambiguous {
                set: self.name().to_owned(),
                revision: typed.to_string(),
            }),
        }
    }
}

/// A revision was named that is not there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoSuchRevision {
    /// No rollout has it.
    #[error("LivepatchSet {set} has no revision {revision}; see kubectl livepatch history {set}")]
    Unknown { set: String, revision: String },
    /// Several have.
    #[error("LivepatchSet {set} has several revisions that begin with {revision}; give more digits")]
    Ambiguous { set: String, revision: String },
}

fn order(meta: &ObjectMeta) -> (Option<Timestamp>, &str) {
    (created(meta), name(meta))
}

/// Name of an object.
pub fn name(meta: &ObjectMeta) -> &str {
    meta.name.as_deref().unwrap_or_default()
}

/// When an object was made.
pub fn created(meta: &ObjectMeta) -> Option<Timestamp> {
    meta.creation_timestamp.as_ref().map(|time| time.0)
}

/// What the operator says of a rollout; nothing yet if it has not looked at it.
pub fn rollout_status(rollout: &LivepatchRollout) -> LivepatchRolloutStatus {
    rollout.status.clone().unwrap_or_default()
}

/// Whether the operator's status speaks of the rollout as it is written now.
pub fn is_observed(rollout: &LivepatchRollout) -> bool {
    let observed = rollout.status.as_ref().map(|status| status.observed_generation);
    observed.is_some_and(|observed| observed >= rollout.metadata.generation.unwrap_or(0))
}

/// What people want done with a rollout.
pub fn control(rollout: &LivepatchRollout) -> &Control {
    &rollout.spec.control
}

/// In one word and one sentence how something stands: what its condition Ready says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State<'a> {
    pub reason: &'a str,
    pub message: &'a str,
    pub tone: Tone,
}

/// How something with these conditions stands.
pub fn state(conditions: &[Condition]) -> State<'_> {
    let Some(ready) = conditions::find(conditions, READY) else {
        return State {
            reason: "Unseen",
            message: "the operator has not reported on it yet",
            tone: Tone::Busy,
        };
    };
    let tone = if conditions::is_true(conditions, COMPLETE) {
        Tone::Good
    } else if conditions::is_true(conditions, STALLED) {
        Tone::Bad
    } else {
        match ready.reason.as_str() {
            "Superseded" => Tone::Faint,
            "Paused" | "AwaitingPromotion" | "WaveEmpty" | "NoNodesSelected" | "Soaking" => Tone::Wait,
            _ => Tone::Busy,
        }
    };
    State {
        reason: &ready.reason,
        message: &ready.message,
        tone,
    }
}
