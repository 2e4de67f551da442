//! A term of leadership: what a write needs to know before it is sent. No IO.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Leadership under one epoch. It ends by itself when it is not renewed: whoever writes asks [`Term::is_current`] first.
#[derive(Clone)]
pub struct Term {
    epoch: Arc<str>,
    began: Instant,
    /// Milliseconds after `began`; zero once it was given up.
    ends: Arc<AtomicU64>,
}

impl Term {
    /// A term that began at `began`, the moment before its lease was written, and ends at `ends`.
    pub fn new(lease_uid: &str, transitions: i32, began: Instant, ends: Instant) -> Self {
        let term = Self {
            epoch: format!("{lease_uid}/{transitions}").into(),
            began,
            ends: Arc::new(AtomicU64::new(0)),
        };
        term.prolong(ends);
        term
    }

    /// `<uid of the Lease>/<its leaseTransitions>`: the agents act on grants of the current epoch only.
    pub fn epoch(&self) -> &str {
        &self.epoch
    }

    /// The moment before the lease was taken: what was written before it may be another operator's.
    pub fn began(&self) -> Instant {
        self.began
    }

    /// Whether this operator still leads, by its own monotonic clock.
    pub fn is_current(&self) -> bool {
        self.remaining() > Duration::ZERO
    }

    /// How long it still leads without a further renewal.
    pub fn remaining(&self) -> Duration {
        let ends = Duration::from_millis(self.ends.load(Ordering::Acquire));
        ends.saturating_sub(self.began.elapsed())
    }

    /// After a renewal. Whole milliseconds, rounded down: a term is never longer than it is.
    pub(super) fn prolong(&self, ends: Instant) {
        let length = ends.saturating_duration_since(self.began).as_millis();
        self.ends
            .store(u64::try_from(length).unwrap_or(u64::MAX), Ordering::Release);
    }

    /// Given up or lost.
    pub(super) fn end(&self) {
        self.ends.store(0, Ordering::Release);
    }
}

impl fmt::Debug for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Term")
            .field("epoch", &self.epoch)
            .field("remaining", &self.remaining())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_term_ends_by_itself_and_at_once_when_given_up() {
        let now = Instant::now();
        let term = Term::new("uid", 3, now, now);
        assert_eq!(term.epoch(), "uid/3");
        assert!(!term.is_current());
        term.prolong(now + Duration::from_mins(1));
        let copy = term.clone();
        assert!(copy.is_current());
        term.end();
        assert!(!copy.is_current());
    }
}
