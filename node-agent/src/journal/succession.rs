//! How livepatches give way to each other and come back, as the kernel is seen to run them. No IO.

use livepatch_kernel::{BootId, BootTime};
use livepatch_planner::node::Mode;
use livepatch_planner::node::situation::supersedes;

use super::phase::Phase;
use super::record::{Absence, Entry, Journal, Pair};

/// What the kernel shows of an entry's module and build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// Nothing of that name and build.
    Gone,
    /// It has an entry, and is not, or not yet, in effect.
    Between,
    /// Enabled and out of transition.
    Effective,
}

impl Journal {
    /// Notes that an entry whose load was begun is in effect, and what of the others it has taken out or taken the place
    /// of. `enabled` tells whether another entry is still enabled in the kernel.
    pub fn applied(
        &mut self,
        set_uid: &str,
        pair: &Pair,
        boot: &BootId,
        now: BootTime,
        enabled: impl Fn(&Entry) -> bool,
    ) {
        let Some(winner) = self.entry(set_uid, pair).cloned() else {
            return;
        };
        // What its predecessor was missing since it was disabled for this one, this one was missing.
        let missing = |other: &Entry| other.set == winner.set && other.phase == Phase::Displaced;
        let since = self.entries.iter().filter(|other| missing(other)).filter_map(|other| {
            let absence = other.absence.as_ref()?;
            (absence.by == pair.sha256).then_some(absence.since)
        });
        let gap = since.min().map(|since| now.since(since));
        for other in &mut self.entries {
            if other.pair.kernel_build_id == pair.kernel_build_id && other.pair != *pair {
                let enabled = enabled(other);
                other.give_way(&winner, boot, enabled);
            }
        }
        if let Some(entry) = self.entry_mut(set_uid, pair) {
            entry.come_back(boot, now);
            if let Some(gap) = gap {
                entry.gap(gap);
            }
        }
    }
}

impl Journal {
    /// Notes that the load of `entry` was taken back after `exposure`. Says whether anything was exposed: an atomic
    /// replace only takes others out.
    pub fn expose(&mut self, entry: &Entry, exposure: std::time::Duration) -> bool {
        if entry.plan.as_ref().is_none_or(|plan| plan.mode != Mode::Atomic) {
            return false;
        }
        let mut exposed = false;
        for other in &mut self.entries {
            if other.is_in_effect() && !other.cumulative && other.boot == entry.boot && entry.met(other) {
                other.gap(exposure);
                exposed = true;
            }
        }
        exposed
    }
}

impl Entry {
    /// Makes room for `winner`, which is in effect.
    fn give_way(&mut self, winner: &Self, boot: &BootId, enabled: bool) {
        let replaced = self.set == winner.set || (self.cumulative && winner.cumulative);
        let contained = winner.cumulative && supersedes(&winner.policy, &self.set, &self.pair.sha256);
        let by = winner.pair.sha256.clone();
        let present = self.is_in_effect() && self.boot == *boot;
        let settled = match &self.phase {
            Phase::Applied { .. } => self.proven,
            // Also one that is to come back after a reboot, and one that could not.
            Phase::Settled | Phase::NotRestored { .. } => true,
            // Also one whose return was cut off with the agent: nothing of it runs while the load of another ends.
            Phase::Displaced | Phase::Starting { again: true } => {
                self.absence.as_ref().is_none_or(|absence| absence.settled)
            }
            Phase::Contained { settled, .. } if winner.cumulative => {
                let settled = *settled;
                if contained {
                    self.phase = Phase::Contained { by, settled };
                } else {
                    self.displace(&by, winner.started, settled);
                    self.boot = boot.clone();
                }
                return;
            }
            // A successor's successor has nothing to say about those before.
            _ => return,
        };
        if (replaced || contained) && enabled {
            self.phase = Phase::Retiring { by, settled };
            self.boot = boot.clone();
        } else if replaced {
            self.absence = None;
            self.phase = Phase::Superseded { by, settled };
        } else if contained {
            self.absence = None;
            self.phase = Phase::Contained { by, settled };
        } else if present && !enabled && winner.met(self) {
            self.displace(&by, winner.started, settled);
        }
    }

    /// Whether `other` was in effect when this one's load was begun.
    fn met(&self, other: &Self) -> bool {
        self.roster.0.iter().any(|enlisted| enlisted.name == other.module)
    }

    /// Out of effect since `since`, for or by the load of `by`.
    pub fn displace(&mut self, by: &str, since: BootTime, settled: bool) {
        self.phase = Phase::Displaced;
        self.absence = Some(Absence {
            since,
            settled,
            by: by.to_owned(),
        });
    }

    /// In effect, for the first time or again. What had settled in this boot and was only away for a while is as proven
    /// as it was.
    fn come_back(&mut self, boot: &BootId, now: BootTime) {
        let absence = self.absence.take();
        if let Some(absence) = &absence {
            self.gap(now.since(absence.since));
        }
        self.phase = match absence {
            Some(absence) if absence.settled => Phase::Settled,
            _ => Phase::Applied { at: now },
        };
        self.boot = boot.clone();
    }

    /// Notes how long it was out of effect, wholly or for some tasks.
    pub fn gap(&mut self, gap: std::time::Duration) {
        self.gap_milliseconds = Some(u64::try_from(gap.as_millis()).unwrap_or(u64::MAX));
    }

    /// What an entry that was to go becomes by what the kernel shows. `contained` tells whether a cumulative one in
    /// effect contains it.
    pub fn gone_or_back(&mut self, shown: Shown, boot: &BootId, now: BootTime, contained: bool) {
        match (&self.phase, shown) {
            (Phase::Retiring { by, settled }, Shown::Gone) => {
                let (by, settled) = (by.clone(), *settled);
                self.phase = if contained {
                    Phase::Contained { by, settled }
                } else {
                    Phase::Superseded { by, settled }
                };
            }
            (Phase::Removing, Shown::Gone) => self.phase = Phase::Removed,
            // It was not disabled after all, or that was taken back, or somebody else loaded it again.
            (Phase::Displaced, Shown::Effective) => self.come_back(boot, now),
            (Phase::Removing, Shown::Effective) => self.phase = Phase::Settled,
            _ => {}
        }
    }
}
