//! How entries change with boots and with time. No IO.

use std::collections::BTreeMap;
use std::time::Duration;

use livepatch_kernel::{BootId, BootTime};

use super::boots::Ended;
use super::phase::{Failure, Phase};
use super::record::{Entry, Journal, MAX_ENTRIES};

/// Most entries of one set that are kept for kernels other than the running one.
const FORMER_KERNELS: usize = 4;

/// Reason of an entry whose load was cut off by a reboot.
pub const REBOOTED_DURING_LOAD: &str = "RebootedDuringLoad";
/// Reason of an entry whose node rebooted before it had settled.
pub const REBOOTED_ON_PROBATION: &str = "RebootedOnProbation";

/// What an entry becomes when its boot has ended.
enum Fate {
    Becomes(Phase),
    Quarantined(Failure),
    Forgotten,
    Stays,
}

fn during_load() -> Failure {
    let message = "the node rebooted while this livepatch was being loaded; a new attempt lifts the quarantine";
    Failure::new(REBOOTED_DURING_LOAD, message)
}

fn on_probation() -> Failure {
    let message = "the node rebooted before this livepatch had been in effect for long enough; a new attempt lifts the quarantine";
    Failure::new(REBOOTED_ON_PROBATION, message)
}

impl Journal {
    /// Judges what an earlier boot left unfinished. Idempotent.
    pub fn enter_boot(&mut self, boot: &BootId) {
        let ended = self.boots.enter(boot);
        let mut quarantined: Vec<(String, BootId)> = Vec::new();
        self.entries.retain_mut(|entry| {
            if entry.boot == *boot {
                return true;
            }
            let cleanly = ended
                .as_ref()
                .is_some_and(|Ended { boot, cleanly }| *cleanly && entry.boot == *boot);
            let fate = fate(entry, cleanly);
            entry.absence = None;
            entry.drift_restored = None;
            match fate {
                Fate::Stays => {}
                Fate::Forgotten => return false,
                Fate::Becomes(phase) => entry.phase = phase,
                Fate::Quarantined(failure) => {
                    quarantined.push((entry.pair.sha256.clone(), entry.boot.clone()));
                    entry.phase = Phase::Quarantined { failure };
                }
            }
            true
        });
        self.return_predecessors(quarantined);
    }

    /// What a quarantined one had taken the place of comes back; if that had not settled either and was in effect in the
    /// boot that crashed, it is under the same suspicion.
    fn return_predecessors(&mut self, mut quarantined: Vec<(String, BootId)>) {
        while let Some((sha256, boot)) = quarantined.pop() {
            for entry in &mut self.entries {
                let Phase::Superseded { by, settled } = &entry.phase else {
                    continue;
                };
                if *by != sha256 {
                    continue;
                }
                if *settled || entry.boot != boot {
                    entry.phase = Phase::Settled;
                } else {
                    quarantined.push((entry.pair.sha256.clone(), entry.boot.clone()));
                    entry.phase = Phase::Quarantined {
                        failure: on_probation(),
                    };
                }
            }
        }
    }

    /// Ends the probation of what has been in effect for `settle` in this boot, and forgets what it superseded.
    pub fn settle(&mut self, boot: &BootId, now: BootTime, settle: Duration) {
        let mut settled: Vec<String> = Vec::new();
        for entry in self.entries.iter_mut().filter(|entry| entry.boot == *boot) {
            if let Phase::Applied { at } = entry.phase
                && now.since(at) >= settle
            {
                entry.phase = Phase::Settled;
                entry.proven = true;
                settled.push(entry.pair.sha256.clone());
            }
        }
        while let Some(sha256) = settled.pop() {
            self.entries.retain(|entry| match &entry.phase {
                Phase::Superseded { by, .. } if *by == sha256 => {
                    settled.push(entry.pair.sha256.clone());
                    false
                }
                _ => true,
            });
        }
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

    /// Drops the entries that matter least until the journal is within its bounds; never one that is or may be loaded on
    /// this kernel, or that keeps a pair from being loaded on it.
    pub fn prune(&mut self, kernel_build_id: &str) {
        self.prune_other_kernels(kernel_build_id);
        let expendable = |entry: &Entry| match entry.phase {
            Phase::Removed => Some(0),
            Phase::Failed { .. } => Some(1),
            Phase::Superseded { .. } => Some(2),
            Phase::NotRestored { .. } => Some(3),
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

    /// A node that falls back to a former kernel finds what it ran there, but not without end.
    fn prune_other_kernels(&mut self, kernel_build_id: &str) {
        let mut kept: BTreeMap<String, usize> = BTreeMap::new();
        let mut latest_first: Vec<Entry> = std::mem::take(&mut self.entries);
        latest_first.reverse();
        latest_first.retain(|entry| {
            if entry.pair.kernel_build_id == kernel_build_id {
                return true;
            }
            let count = kept.entry(entry.set_uid.clone()).or_default();
            *count += 1;
            *count <= FORMER_KERNELS
        });
        latest_first.reverse();
        self.entries = latest_first;
    }

    /// Whether a module file may still be needed.
    pub fn needs(&self, sha256: &str) -> bool {
        self.entries.iter().any(|entry| {
            entry.pair.sha256 == sha256
                && !matches!(
                    entry.phase,
                    Phase::Failed { .. } | Phase::Quarantined { .. } | Phase::Removing | Phase::Removed
                )
        })
    }
}

/// What an entry of a boot that has ended becomes. A probation is served once: a crash while something proven is in effect
/// again, or on its way back, counts towards a crash loop and does not suspect it.
fn fate(entry: &Entry, cleanly: bool) -> Fate {
    let settled = entry.proven || entry.absence.as_ref().is_some_and(|absence| absence.settled);
    match &entry.phase {
        Phase::Starting { again: true } | Phase::Applied { .. } | Phase::Displaced if cleanly || settled => {
            Fate::Becomes(Phase::Settled)
        }
        Phase::Starting { again: false } if cleanly => Fate::Forgotten,
        Phase::Starting { .. } => Fate::Quarantined(during_load()),
        Phase::Clearing => Fate::Forgotten,
        Phase::Displaced if entry.absence.is_none() => Fate::Becomes(Phase::Settled),
        Phase::Applied { .. } | Phase::Displaced => Fate::Quarantined(on_probation()),
        Phase::Retiring { by, settled } => Fate::Becomes(Phase::Superseded {
            by: by.clone(),
            settled: *settled,
        }),
        Phase::NotRestored { .. } => Fate::Becomes(Phase::Settled),
        Phase::Removing => Fate::Becomes(Phase::Removed),
        Phase::Settled
        | Phase::Superseded { .. }
        | Phase::Contained { .. }
        | Phase::Removed
        | Phase::Failed { .. }
        | Phase::Quarantined { .. } => Fate::Stays,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(set: &str, kernel: usize, sha256: usize, phase: Phase) -> Entry {
        let text = format!(
            r#"{{"set":"{set}","setUid":"{set}","rollout":"r","attempt":1,"cumulative":false,
            "pair":{{"kernelBuildId":"k{kernel}","sha256":"{sha256}"}},"module":"m","buildId":"b","repository":"r",
            "digest":"d","timeoutSeconds":60,"boot":"one","started":0,"deadline":0,"starts":1,
            "phase":{{"name":"settled"}}}}"#
        );
        Entry {
            phase,
            ..serde_json::from_str(&text).unwrap()
        }
    }

    #[test]
    fn former_kernels_are_remembered_but_not_all() {
        let mut journal = Journal::default();
        for kernel in 0..20 {
            journal.put(entry("a", kernel, kernel, Phase::Settled));
            journal.put(entry("b", kernel, kernel, Phase::Settled));
            journal.prune(&format!("k{kernel}"));
        }
        let kernels = |set: &str| -> Vec<String> {
            let of_set = journal.entries.iter().filter(|entry| entry.set == set);
            of_set.map(|entry| entry.pair.kernel_build_id.clone()).collect()
        };
        assert_eq!(kernels("a"), ["k15", "k16", "k17", "k18", "k19"]);
        assert_eq!(kernels("b"), kernels("a"));
    }

    #[test]
    fn failures_go_before_what_counts() {
        let mut journal = Journal::default();
        let failure = Failure::new("Why", "because");
        journal.put(entry(
            "a",
            1,
            0,
            Phase::Quarantined {
                failure: failure.clone(),
            },
        ));
        journal.put(entry("a", 1, 1, Phase::Settled));
        for sha256 in 2..400 {
            journal.put(entry(
                "a",
                1,
                sha256,
                Phase::Failed {
                    failure: failure.clone(),
                },
            ));
            journal.prune("k1");
        }
        assert_eq!(journal.entries.len(), MAX_ENTRIES);
        assert_eq!(journal.entries[1].phase, Phase::Settled);
        assert!(matches!(journal.entries[0].phase, Phase::Quarantined { .. }));
        assert_eq!(journal.entries.last().unwrap().pair.sha256, "399");
    }

    #[test]
    fn entering_a_boot_twice_is_entering_it_once() {
        let mut journal = Journal::default();
        journal.put(entry("a", 1, 1, Phase::Starting { again: false }));
        journal.put(entry(
            "b",
            1,
            2,
            Phase::Applied {
                at: BootTime::default(),
            },
        ));
        journal.put(entry(
            "b",
            1,
            0,
            Phase::Superseded {
                by: "2".to_owned(),
                settled: true,
            },
        ));
        for boot in ["one", "two", "two"] {
            journal.enter_boot(&BootId(boot.to_owned()));
        }
        assert!(matches!(journal.entries[0].phase, Phase::Quarantined { .. }));
        assert!(matches!(journal.entries[1].phase, Phase::Quarantined { .. }));
        assert_eq!(journal.entries[2].phase, Phase::Settled);
    }

    #[test]
    fn what_is_proven_is_not_suspected_on_its_way_back() {
        let away = |settled| {
            Some(crate::journal::Absence {
                since: BootTime::default(),
                settled,
                by: "2".to_owned(),
            })
        };
        for (proven, absence, phase, suspected) in [
            (true, None, Phase::Starting { again: true }, false),
            (false, away(true), Phase::Starting { again: true }, false),
            (false, away(false), Phase::Starting { again: true }, true),
            (false, None, Phase::Starting { again: true }, true),
            (true, away(false), Phase::Displaced, false),
            (false, away(false), Phase::Displaced, true),
            (true, None, Phase::Starting { again: false }, true),
        ] {
            let mut journal = Journal::default();
            journal.put(Entry {
                absence,
                proven,
                ..entry("a", 1, 1, phase)
            });
            let before = format!("{:?}", journal.entries);
            journal.enter_boot(&BootId("two".to_owned()));
            let quarantined = matches!(journal.entries[0].phase, Phase::Quarantined { .. });
            assert_eq!(quarantined, suspected, "{before}");
        }
    }
}
