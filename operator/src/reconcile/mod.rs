//! The one reconcile loop: fetch, validate, decide, apply, report, each in a file of that name.
//!
//! All sets and all nodes are decided together, since budgets and conflicts are between them, and one loop means one
//! writer. Only fetch, apply and report have a client.

pub mod apply;
pub mod decide;
pub mod fetch;
pub mod report;
mod unsettled;
pub mod validate;

use crate::health::Health;
use crate::lease::term::Term;
use crate::metrics::Metrics;
use crate::watch::world::World;
use apply::Apply;
use fetch::Fetch;
use jiff::Timestamp;
use kube::Client;
use report::Report;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use validate::View;

/// The shortest time between two turns. What happens in between is taken together.
const PACE: Duration = Duration::from_millis(5);
/// Turns take at most one part in so many of the time, so that many changes in a large fleet are taken together.
const SHARE: u32 = 4;
/// The loop shows that it lives at least this often.
const BEAT: Duration = Duration::from_secs(10);
/// After a turn that was cut short, the next one waits that long.
const AFTER_TROUBLE: Duration = Duration::from_secs(1);

/// Turns what there is into what should be.
pub struct Reconciler {
    /// For writes: with no retries of its own.
    pub client: Client,
    /// Where requests are counted.
    pub metrics: Metrics,
    /// Told at every turn.
    pub health: Health,
    /// What the watches show.
    pub world: Arc<World>,
    /// Leadership.
    pub terms: watch::Receiver<Option<Term>>,
    /// Ends the loop.
    pub stop: CancellationToken,
    /// First stage.
    pub fetch: Fetch,
    /// Second stage.
    pub view: View,
    /// Last stage.
    pub report: Report,
}

impl Reconciler {
    /// Runs until stopped.
    pub async fn run(mut self) {
        let mut again: Option<Instant> = None;
        loop {
            self.health.beat();
            let beat = Instant::now() + BEAT;
            let until = again.map_or(beat, |again| again.min(beat));
            let due = tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                Ok(()) = self.terms.changed() => true,
                () = self.world.changed() => true,
                () = sleep(until.saturating_duration_since(Instant::now())) => again.is_some_and(|again| again <= Instant::now()),
            };
            if !due {
                continue;
            }
            let began = Instant::now();
            again = self.turn().await.map(|pause| Instant::now() + pause);
            let pause = (began.elapsed() / SHARE).clamp(PACE, AFTER_TROUBLE);
            sleep(pause).await;
        }
    }

    /// One turn; when to take the next one even if nothing changes.
    async fn turn(&mut self) -> Option<Duration> {
        let now = Timestamp::now();
        let term = self.term();
        let look = self.fetch.look(term.as_ref()).await;
        let decide = look.decide;
        self.view.take_in(look, now);
        self.health.set_synced(self.fetch.is_synced());
        self.metrics.set_leader(term.is_some());
        let (true, Some(term)) = (decide, term) else {
            return self.fetch.look_again_in();
        };
        let mut decision = decide::decide(&self.view, now, &self.metrics);
        if decide::new_grants(&decision) > 0 && self.fetch.confirm_policies().await {
            self.view.give_leave(self.fetch.leave(Some(&term)));
            decision = decide::decide(&self.view, now, &self.metrics);
        }
        let wake = decision.wake_at.map(|at| until(at, now));
        let by = Apply {
            client: &self.client,
            metrics: &self.metrics,
            health: &self.health,
            world: &self.world,
            term: &term,
            stop: &self.stop,
        };
        let mut applied = by.carry_out(decision, &self.view).await;
        for (name, patch) in std::mem::take(&mut applied.unknown) {
            self.fetch.unsettled.add(name, patch);
        }
        let trouble = applied.cut_short.then_some(AFTER_TROUBLE);
        let wait = self.report.tell(applied, by, &self.view).await;
        [wake, trouble, wait, self.fetch.look_again_in()]
            .into_iter()
            .flatten()
            .min()
    }

    fn term(&mut self) -> Option<Term> {
        self.terms.borrow_and_update().clone().filter(Term::is_current)
    }
}

/// The time from `now` to `at`, and a little more: what was decided for that moment is then due.
fn until(at: Timestamp, now: Timestamp) -> Duration {
    let rest = Duration::try_from(at.duration_since(now)).unwrap_or(Duration::ZERO);
    rest + PACE
}
