//! Waiting for what takes long, off the event loop and with reports meanwhile. IO.

use futures::future::BoxFuture;
use livepatch_crds::node::Blocker;
use tokio::sync::watch;

use crate::agent::Agent;
use crate::decide::decide;

impl Agent {
    /// Runs something outside the event loop.
    pub(crate) async fn blocking<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        match tokio::task::spawn_blocking(work).await {
            Ok(done) => done,
            // Only a panic ends such a task early, and the pool outlives the agent.
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => std::future::pending().await,
            },
        }
    }

    pub(crate) async fn reporting<T>(&mut self, work: BoxFuture<'_, T>) -> Option<T> {
        self.reporting_blockers(work, None).await
    }

    /// Waits for something that may take long, and reports meanwhile, not more often than every ten seconds. `None` if
    /// the agent is told to leave: what was begun is then left as it is.
    pub(crate) async fn reporting_blockers<T>(
        &mut self,
        mut work: BoxFuture<'_, T>,
        mut blockers: Option<&mut watch::Receiver<Vec<Blocker>>>,
    ) -> Option<T> {
        let leave = self.leave.clone();
        loop {
            tokio::select! {
                biased;
                done = &mut work => return Some(done),
                () = leave.cancelled() => return None,
                () = tokio::time::sleep(self.settings.times.progress) => {}
            }
            if let Some(blockers) = &mut blockers {
                self.memory.blockers.clone_from(&blockers.borrow_and_update());
            }
            let report = async {
                if let Ok(seen) = self.fetch().await {
                    let decision = decide(&seen.snapshot(&self.memory, self.settings.times.settle));
                    self.report(&seen, &decision).await;
                }
            };
            report.await;
        }
    }
}
