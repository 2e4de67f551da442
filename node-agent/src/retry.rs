//! When something that failed for a passing reason is tried again. No IO.

use std::collections::BTreeMap;
use std::time::Duration;

use livepatch_crds::node::Grant;
use livepatch_kernel::BootTime;

use crate::journal::{Failure, Pair};

/// Wait after the first failure.
const FIRST: Duration = Duration::from_secs(2);
/// Longest wait.
const LONGEST: Duration = Duration::from_mins(5);

/// What is tried again.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// A grant, as it was given: one given anew is tried at once.
    Grant {
        /// What it is for.
        pair: Pair,
        /// Its rollout.
        rollout: String,
        /// Its attempt.
        attempt: i32,
        /// The leadership under which it was given.
        epoch: String,
    },
    /// Bringing back what was in effect before a reboot.
    Restore(Pair),
    /// Disabling a predecessor.
    Retire(Pair),
    /// Following a transition past its deadline.
    Follow(Pair),
    /// Removing a leftover module.
    Leftover(String),
    /// Writing the journal.
    Journal,
    /// Writing the status.
    Report,
}

impl Subject {
    /// The subject of a grant.
    pub fn grant(grant: &Grant) -> Self {
        Self::Grant {
            pair: Pair::of(grant),
            rollout: grant.rollout.clone(),
            attempt: grant.attempt,
            epoch: grant.epoch.clone(),
        }
    }
}

/// One thing that is waited with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// Not before this.
    pub until: BootTime,
    /// Failures in a row.
    pub failures: u32,
    /// The last one.
    pub failure: Failure,
}

/// Everything that is waited with.
#[derive(Debug, Clone, Default)]
pub struct Retries {
    waiting: BTreeMap<Subject, Waiting>,
}

impl Retries {
    /// Notes a failure. `jitter` is a random number in 0..1, so that a fleet does not come back at once.
    pub fn failed(&mut self, subject: Subject, failure: Failure, now: BootTime, jitter: f64) {
        let failures = self
            .waiting
            .get(&subject)
            .map_or(0, |waiting| waiting.failures)
            .saturating_add(1);
        let until = now + delay(failures, jitter);
        self.waiting.insert(
            subject,
            Waiting {
                until,
                failures,
                failure,
            },
        );
    }

    /// Notes a success, or that the subject is no longer of interest.
    pub fn forget(&mut self, subject: &Subject) {
        self.waiting.remove(subject);
    }

    /// Forgets what `keep` does not want.
    pub fn retain(&mut self, keep: impl Fn(&Subject) -> bool) {
        self.waiting.retain(|subject, _| keep(subject));
    }

    /// Why the subject must wait, if it must.
    pub fn waiting(&self, subject: &Subject, now: BootTime) -> Option<&Waiting> {
        self.waiting.get(subject).filter(|waiting| waiting.until > now)
    }

    /// The last failure, also when its wait is over.
    pub fn last(&self, subject: &Subject) -> Option<&Waiting> {
        self.waiting.get(subject)
    }
}

/// Doubling from [`FIRST`] to [`LONGEST`], less up to half of it.
pub fn delay(failures: u32, jitter: f64) -> Duration {
    let doubled = FIRST.saturating_mul(1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX));
    doubled.min(LONGEST).mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn delays_grow_and_stay_bounded(failures in 1_u32..100, jitter in 0.0_f64..1.0) {
            let this = delay(failures, jitter);
            prop_assert!(this >= FIRST / 2 && this <= LONGEST);
            prop_assert!(delay(failures + 1, jitter) >= this);
        }
    }
}
