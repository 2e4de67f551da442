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

use crate::backoff::Backoff;
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
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use validate::View;

/// The shortest time between two turns. What happens in between is taken together.
const PACE: Duration = Duration::from_millis(5);
/// A standby only has to remember since when what is effective.
const STANDBY_PACE: Duration = Duration::from_secs(1);
/// After a turn as long as this part of what was thought: many changes in a large fleet are taken together.
const SHARE: u32 = 4;
/// The loop shows that it lives at least this often.
const BEAT: Duration = Duration::from_secs(10);
/// The shortest time after which a turn is taken although nothing changed.
const SOON: Duration = Duration::from_millis(50);
/// Waits after a turn in which something failed.
const AFTER_FAILURE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

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
        let mut after_failure = Backoff::new(AFTER_FAILURE.0, AFTER_FAILURE.1);
        loop {
            self.health.beat();
            let beat = Instant::now() + BEAT;
            let until = again.map_or(beat, |again| again.min(beat));
            let due = tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                Ok(()) = self.terms.changed() => true,
                () = self.world.changed() => true,
                () = sleep_until(until) => again.is_some_and(|again| again <= Instant::now()),
            };
            if !due {
                continue;
            }
            let turn = self.turn().await;
            let failed = if turn.failed {
                Some(after_failure.pause())
            } else {
                after_failure.reset();
                None
            };
            again = [turn.again, failed]
                .into_iter()
                .flatten()
                .min()
                .map(|pause| Instant::now() + pause);
            let pace = if turn.leads { PACE } else { STANDBY_PACE };
            self.rest((turn.thought / SHARE).max(pace)).await;
        }
    }

    /// Waits, but not when leadership changes or it has to stop.
    async fn rest(&self, pause: Duration) {
        let mut terms = self.terms.clone();
        tokio::select! {
            () = self.stop.cancelled() => {}
            Ok(()) = terms.changed() => {}
            () = sleep(pause) => {}
        }
    }

    /// One turn.
    async fn turn(&mut self) -> Turn {
        let (began, now) = (Instant::now(), Timestamp::now());
        let term = self.term();
        let look = self.fetch.look(term.as_ref()).await;
        let decide = look.decide;
        self.view.take_in(look, now);
        let leads = term.is_some();
        self.show(leads);
        let (true, Some(term)) = (decide, term) else {
            return Turn {
                leads,
                thought: began.elapsed(),
                failed: false,
                again: self.fetch.look_again_in(),
            };
        };
        let mut decision = decide::decide(&mut self.view, now, &self.metrics);
        if decide::new_grants(&decision) > 0 && self.fetch.confirm_policies().await {
            self.view.give_leave(self.fetch.leave(Some(&term)));
            decision = decide::decide(&mut self.view, now, &self.metrics);
        }
        let thought = began.elapsed();
        let wake = decision.wake_at.map(|at| until(at, now));
        let by = Apply {
            client: &self.client,
            metrics: &self.metrics,
            health: &self.health,
            world: &self.world,
            term: &term,
            stop: &self.stop,
            news_since: self.fetch.news_since(),
        };
        let mut applied = by.carry_out(decision, &self.view).await;
        for (name, patch) in std::mem::take(&mut applied.unknown) {
            self.fetch.unsettled.add(name, patch);
        }
        let rest = applied.unfinished.then_some(Duration::ZERO);
        let told = self.report.tell(applied, by, &self.view).await;
        Turn {
            leads,
            thought,
            failed: told.failed,
            again: [rest, wake, told.wait, self.fetch.look_again_in()]
                .into_iter()
                .flatten()
                .min(),
        }
    }

    /// Tells probes and Prometheus.
    fn show(&self, leads: bool) {
        self.health.set_synced(self.fetch.is_synced());
        self.metrics.set_leader(leads);
        if !leads {
            // The leader tells of the sets, and nobody else.
            self.metrics.show_sets(std::iter::empty());
        }
    }

    fn term(&mut self) -> Option<Term> {
        self.terms.borrow_and_update().clone().filter(Term::is_current)
    }
}

/// What became of a turn.
struct Turn {
    /// Whether this operator led when it began.
    leads: bool,
    /// How long it took to look and to decide.
    thought: Duration,
    /// Whether something failed that is to be tried again although nothing changes.
    failed: bool,
    /// When to take the next turn even if nothing changes.
    again: Option<Duration>,
}

/// The time from `now` to `at`, but no less than a moment: a time that has passed has been decided for.
fn until(at: Timestamp, now: Timestamp) -> Duration {
    let rest = Duration::try_from(at.duration_since(now)).unwrap_or(Duration::ZERO);
    rest.max(SOON)
}
