//! How long to wait before something is tried again. Pure but for its jitter.

use std::time::Duration;

/// Waits that double up to a limit, each cut by a random part so that many programs do not come back at once.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    limit: Duration,
    next: Duration,
}

impl Backoff {
    /// The first wait, and the longest.
    pub fn new(first: Duration, limit: Duration) -> Self {
        Self {
            first,
            limit,
            next: first,
        }
    }

    /// The next wait: at least half of what it stands at.
    pub fn pause(&mut self) -> Duration {
        let full = self.next.min(self.limit);
        self.next = full.saturating_mul(2);
        full.mul_f64(0.5 + 0.5 * fastrand::f64())
    }

    /// Begins anew after a success.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_limit_and_begin_anew() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(5));
        for full in [1, 2, 4, 5, 5, 5] {
            let pause = backoff.pause();
            let full = Duration::from_secs(full);
            assert!(pause >= full / 2 && pause <= full, "{pause:?} of {full:?}");
        }
        backoff.reset();
        assert!(backoff.pause() <= Duration::from_secs(1));
    }
}
