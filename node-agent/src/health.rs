//! Whether the agent's loop gets on. No IO.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The loop looks around every minute and every call it makes has a limit far below this.
const HANGS: Duration = Duration::from_mins(5);

/// The loop's sign of life. Clones share it.
#[derive(Debug, Clone)]
pub struct Health {
    begun: Instant,
    /// Seconds after `begun` of the last sign of life.
    last: Arc<AtomicU64>,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            begun: Instant::now(),
            last: Arc::default(),
        }
    }
}

impl Health {
    /// A sign of life.
    pub fn beat(&self) {
        self.last.store(self.begun.elapsed().as_secs(), Ordering::Relaxed);
    }

    /// Whether there was one lately.
    pub fn is_alive(&self) -> bool {
        self.begun
            .elapsed()
            .as_secs()
            .saturating_sub(self.last.load(Ordering::Relaxed))
            < HANGS.as_secs()
    }
}
