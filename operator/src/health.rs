//! Whether the operator lives and is ready. No IO.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Without a beat for that long the loop hangs. The longest thing between two beats is a handful of requests of 10 s each.
const HANGS: Duration = Duration::from_mins(2);

/// Told by the loop, asked by probes. Copies are the same health.
#[derive(Clone, Debug)]
pub struct Health {
    started: Instant,
    /// Milliseconds from the start to the last beat.
    beat: Arc<AtomicU64>,
    synced: Arc<AtomicBool>,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            beat: Arc::default(),
            synced: Arc::default(),
        }
    }
}

impl Health {
    /// The loop got on.
    pub fn beat(&self) {
        let since = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.beat.store(since, Ordering::Relaxed);
    }

    /// All watches have shown all there is.
    pub fn set_synced(&self, synced: bool) {
        self.synced.store(synced, Ordering::Relaxed);
    }

    /// Whether the loop gets on.
    pub fn is_alive(&self) -> bool {
        let beat = Duration::from_millis(self.beat.load(Ordering::Relaxed));
        self.started.elapsed().saturating_sub(beat) < HANGS
    }

    /// Whether all watches have shown all there is.
    pub fn is_ready(&self) -> bool {
        self.synced.load(Ordering::Relaxed)
    }
}
