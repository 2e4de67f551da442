//! How entries change with boots, with time and with each other. No IO.

use std::time::Duration;

use livepatch_kernel::{BootId, BootTime};

use super::record::{Entry, Failure, Journal, MAX_ENTRIES, Pair, Phase};

/// Reason of an entry whose load was cut off by a reboot.
pub const REBOOTED_DURING_LOAD: &str = "RebootedDuringLoad";
/// Reason of an entry whose node rebooted before it had settled.
pub const REBOOTED_ON_PROBATION: &str = "RebootedOnProbation";

impl Journal {
    /// Judges what an earlier boot left unfinished. Idempotent; says whether anything changed.
    pub fn enter_boot(&mut self, boot: &BootId) -> bool {
        let before = self.clone();
        let mut quarantined: Vec<(String, String)> = Vec::new();
        for entry in self.entries.iter_mut().filter(|entry| entry.boot != *boot) {
            let failure = match &entry.phase {
                Phase::Starting { .. } => Failure::new(
                    REBOOTED_DURING_LOAD,
                    "the node rebooted while this livepatch was being loaded; a new attempt lifts the quarantine",
                ),
                Phase::Applied { .. } => Failure::new(
                    REBOOTED_ON_PROBATION,
                    "the node rebooted before this livepatch had been in effect for long enough; a new attempt lifts the quarantine",
                ),
                Phase::NotRestored { .. } => {
                    entry.phase = Phase::Settled;
                    continue;
                }
                Phase::Settled | Phase::Superseded { .. } | Phase::Failed { .. } | Phase::Quarantined { .. } => {
                    continue;
                }
            };
            quarantined.push((entry.set_uid.clone(), entry.pair.sha256.clone()));
            entry.phase = Phase::Quarantined { failure };
        }
        for entry in &mut self.entries {
            if let Phase::Superseded { by } = &entry.phase
                && quarantined
                    .iter()
                    .any(|(set, sha256)| *set == entry.set_uid && sha256 == by)
            {
                entry.phase = Phase::Settled;
            }
        }
        *self != before
    }

    /// Ends the probation of what has been in effect for `settle` in this boot, and forgets what it superseded.
    pub fn settle(&mut self, boot: &BootId, now: BootTime, settle: Duration) -> bool {
        let mut settled: Vec<(String, String)> = Vec::new();
        for entry in self.entries.iter_mut().filter(|entry| entry.boot == *boot) {
            if let Phase::Applied { at } = entry.phase
                && now.since(at) >= settle
            {
                entry.phase = Phase::Settled;
                settled.push((entry.set_uid.clone(), entry.pair.sha256.clone()));
            }
        }
        self.entries.retain(|entry| match &entry.phase {
            Phase::Superseded { by } => !settled
                .iter()
                .any(|(set, sha256)| *set == entry.set_uid && sha256 == by),
            _ => true,
        });
        !settled.is_empty()
    }

    /// Time until the next probation ends.
    pub fn next_settling(&self, boot: &BootId, now: BootTime, settle: Duration) -> Option<Duration> {
        self.entries
            .iter()
            .filter(|entry| entry.boot == *boot)
            .filter_map(|entry| match entry.phase {
                Phase::Applied { at } => Some((at + settle).since(now)),
                _ => None,
            })
            .min()
    }

    /// Notes that an entry is in effect. Others of its set that are no longer `loaded` were superseded by it.
    pub fn applied(
        &mut self,
        set_uid: &str,
        pair: &Pair,
        boot: &BootId,
        now: BootTime,
        loaded: impl Fn(&Entry) -> bool,
    ) {
        for other in &mut self.entries {
            if other.set_uid == set_uid && other.pair != *pair && other.is_in_effect() && !loaded(other) {
                other.phase = Phase::Superseded {
                    by: pair.sha256.clone(),
                };
            }
        }
        if let Some(entry) = self.entry_mut(set_uid, pair) {
            entry.phase = Phase::Applied { at: now };
            entry.boot = boot.clone();
        }
    }

    /// Drops the entries that matter least until the journal is within its bound; never one that is or may be loaded,
    /// or that keeps a pair from being loaded.
    pub fn prune(&mut self) {
        let expendable = |entry: &Entry| match entry.phase {
            Phase::Failed { .. } => Some(0),
            Phase::Superseded { .. } => Some(1),
            Phase::NotRestored { .. } => Some(2),
            _ => None,
        };
        while self.entries.len() > MAX_ENTRIES {
            let least = self
                .entries
                .iter()
                .enumerate()
                .filter_map(|(index, entry)| expendable(entry).map(|rank| (rank, index)))
                .min();
            match least {
                Some((_, index)) => self.entries.remove(index),
                None => return,
            };
        }
    }

    /// Whether a module file may still be needed.
    pub fn needs(&self, sha256: &str) -> bool {
        self.entries.iter().any(|entry| {
            entry.pair.sha256 == sha256 && !matches!(entry.phase, Phase::Failed { .. } | Phase::Quarantined { .. })
        })
    }
}
