//! Clean ends, crashes and crash loops. No IO.
//!
//! A boot ended cleanly if the agent was told to leave before it ended: the kubelet and systemd send SIGTERM to everything
//! when a node shuts down, and a panic, a power cut or a watchdog does not. An agent that starts again in the same boot
//! takes the mark back with its first write.

use std::time::Duration;

use livepatch_crds::node::Grant;
use livepatch_kernel::{BootId, BootTime};
use serde::{Deserialize, Serialize};

/// A crash within this time after a load of ours counts.
pub const WATCHED: Duration = Duration::from_hours(1);

/// So many crashes, each within [`WATCHED`] of a load of ours, are a loop.
pub const LOOP: u32 = 2;

/// What is remembered of boots.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Boots {
    /// The boot in which the journal was last written.
    pub current: Option<BootId>,
    /// Whether the agent was told to leave in that boot and no other began since.
    pub left: bool,
    /// When a load was last begun in that boot; forgotten after [`WATCHED`].
    pub last_load: Option<BootTime>,
    /// Boots in a row that ended uncleanly within [`WATCHED`] of a load.
    pub crashes: u32,
    /// The attempts that were known when a loop was first suspected: a higher one is a person's word to go on.
    pub attempts: Option<Vec<Attempt>>,
}

/// An attempt of a rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attempt {
    /// Name of the rollout.
    pub rollout: String,
    /// The attempt.
    pub attempt: i32,
}

impl Boots {
    /// Notes which boot this is. Says whether the former one, which has ended then, ended cleanly.
    pub fn enter(&mut self, boot: &BootId) -> Option<Ended> {
        let former = self.current.replace(boot.clone());
        let left = std::mem::take(&mut self.left);
        if former.as_ref() == Some(boot) {
            return None;
        }
        let loaded = self.last_load.take().is_some();
        if !left && loaded {
            self.crashes = self.crashes.saturating_add(1);
        }
        former.map(|boot| Ended { boot, cleanly: left })
    }

    /// Forgets a load that nothing came of, and with it the crashes before it.
    pub fn pass(&mut self, now: BootTime) {
        if self.last_load.is_some_and(|at| now.since(at) >= WATCHED) {
            self.last_load = None;
            self.crashes = 0;
        }
    }

    /// Whether loading goes on to crash this node, as far as can be told.
    pub const fn is_looping(&self) -> bool {
        self.crashes >= LOOP
    }

    /// While a loop is suspected: a person's new attempt ends the suspicion.
    pub fn heed(&mut self, grants: &[Grant]) {
        if !self.is_looping() {
            self.attempts = None;
            return;
        }
        let Some(known) = &self.attempts else {
            let attempt = |grant: &Grant| Attempt {
                rollout: grant.rollout.clone(),
                attempt: grant.attempt,
            };
            self.attempts = Some(grants.iter().map(attempt).collect());
            return;
        };
        let before = |grant: &Grant| {
            let known = known.iter().find(|attempt| attempt.rollout == grant.rollout);
            known.map_or(1, |known| known.attempt)
        };
        if grants.iter().any(|grant| grant.attempt > before(grant)) {
            self.crashes = 0;
            self.attempts = None;
        }
    }
}

/// A boot that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Which.
    pub boot: BootId,
    /// Whether the agent was told to leave before.
    pub cleanly: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boot(name: &str) -> BootId {
        BootId(name.to_owned())
    }

    #[test]
    fn two_crashes_after_loads_are_a_loop_and_an_hour_in_peace_ends_it() {
        let mut boots = Boots::default();
        assert_eq!(boots.enter(&boot("a")), None);
        for (next, crashes) in [("b", 1), ("c", 2)] {
            boots.last_load = Some(BootTime::default());
            assert!(!boots.enter(&boot(next)).unwrap().cleanly);
            assert_eq!(boots.crashes, crashes);
        }
        assert!(boots.is_looping());
        boots.last_load = Some(BootTime::default());
        boots.pass(BootTime::default() + WATCHED);
        assert!(!boots.is_looping());
    }

    #[test]
    fn a_clean_end_is_no_crash_unless_an_agent_came_back_before_it() {
        let mut boots = Boots::default();
        boots.enter(&boot("a"));
        boots.last_load = Some(BootTime::default());
        boots.left = true;
        assert!(boots.enter(&boot("b")).unwrap().cleanly);
        assert_eq!(boots.crashes, 0);
        boots.left = true;
        assert_eq!(boots.enter(&boot("b")), None, "the same boot goes on");
        boots.last_load = Some(BootTime::default());
        assert!(!boots.enter(&boot("c")).unwrap().cleanly);
        assert_eq!(boots.crashes, 1);
    }
}
