//! Everything that is watched, behind one lock. No IO.

use super::cache::Cache;
use super::seen::{NodeContent, NodeObjectContent, RolloutContent, SetContent};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::sync::Notify;

/// A kind of object that is watched or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// LivepatchSet.
    Set,
    /// LivepatchRollout.
    Rollout,
    /// NodeLivepatch.
    NodeObject,
    /// Node.
    Node,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Set, Self::Rollout, Self::NodeObject, Self::Node];

    /// The name of the resource in the API.
    pub fn resource(self) -> &'static str {
        match self {
            Self::Set => "livepatchsets",
            Self::Rollout => "livepatchrollouts",
            Self::NodeObject => "nodelivepatches",
            Self::Node => "nodes",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.resource())
    }
}

/// All that is watched.
#[derive(Debug, Default)]
pub struct Caches {
    /// The sets.
    pub sets: Cache<SetContent>,
    /// The rollouts.
    pub rollouts: Cache<RolloutContent>,
    /// The NodeLivepatches.
    pub node_objects: Cache<NodeObjectContent>,
    /// The nodes.
    pub nodes: Cache<NodeContent>,
    /// What is wrong with a watch, for as long as it is.
    pub trouble: BTreeMap<Kind, String>,
    /// When the first change came that nobody has looked at yet.
    pub news_since: Option<Instant>,
}

impl Caches {
    /// When the oldest of the lists was asked for, if all of them are complete.
    pub fn complete_as_of(&self) -> Option<Instant> {
        // Without `..`: a new watch cannot be forgotten.
        let Self {
            sets,
            rollouts,
            node_objects,
            nodes,
            trouble: _,
            news_since: _,
        } = self;
        [
            sets.complete_as_of(),
            rollouts.complete_as_of(),
            node_objects.complete_as_of(),
            nodes.complete_as_of(),
        ]
        .into_iter()
        .min()
        .flatten()
    }
}

/// All that is watched, and who wants to know when it changes.
#[derive(Debug, Default)]
pub struct World {
    caches: Mutex<Caches>,
    changed: Notify,
}

impl World {
    /// The caches; nobody holds this over an await.
    pub fn lock(&self) -> MutexGuard<'_, Caches> {
        self.caches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says that something changed.
    pub fn wake(&self) {
        self.changed.notify_one();
    }

    /// Waits until something changes; a change since the last wait counts.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::cache::Shown;
    use std::time::Duration;

    #[test]
    fn complete_is_as_old_as_the_oldest_list() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut caches = Caches::default();
        assert_eq!(caches.complete_as_of(), None);
        caches.sets.show(Shown::ListBegins, at(1));
        caches.rollouts.show(Shown::ListBegins, at(2));
        caches.node_objects.show(Shown::ListBegins, at(0));
        caches.nodes.show(Shown::ListBegins, at(3));
        caches.sets.show(Shown::ListEnds, at(4));
        caches.rollouts.show(Shown::ListEnds, at(4));
        caches.node_objects.show(Shown::ListEnds, at(4));
        assert_eq!(caches.complete_as_of(), None);
        caches.nodes.show(Shown::ListEnds, at(4));
        assert_eq!(caches.complete_as_of(), Some(at(0)));
        caches.nodes.lose();
        assert_eq!(caches.complete_as_of(), None);
    }
}
