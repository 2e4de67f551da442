//! What is known of the artefacts that sets name. Reads them in the background, once per reference, and never makes the
//! reconcile loop wait. Does IO through [`BundleSource`].

pub mod registry;

use crate::backoff::Backoff;
use crate::metrics::Metrics;
use crate::watch::world::World;
use futures::future::BoxFuture;
use livepatch_crds::bounded::{MAX_MESSAGE, bounded};
use livepatch_planner::fleet::snapshot::{BundleView, ModuleView};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

/// Artefacts that are read at once.
const CONCURRENT: usize = 4;
/// One attempt takes no longer.
const ATTEMPT: Duration = Duration::from_mins(1);
/// Waits after a failure that may pass.
const PASSING: (Duration, Duration) = (Duration::from_secs(2), Duration::from_mins(2));
/// Waits after any other: somebody may push what is missing.
const LASTING: (Duration, Duration) = (Duration::from_mins(1), Duration::from_mins(10));

/// Where artefacts come from.
pub trait BundleSource: Send + Sync + 'static {
    /// Reads the modules of the artefact that `reference` names.
    fn bundle<'a>(&'a self, reference: &'a str) -> BoxFuture<'a, Result<Vec<ModuleView>, BundleError>>;
}

/// Why an artefact cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct BundleError {
    /// Reason code.
    pub reason: &'static str,
    /// What failed, with the registry's words.
    pub message: String,
    /// Whether it may pass by itself.
    pub passes: bool,
}

/// The artefacts of all sets. Copies are the same library.
#[derive(Clone)]
pub struct Library {
    source: Arc<dyn BundleSource>,
    entries: Arc<Mutex<BTreeMap<String, Entry>>>,
    slots: Arc<Semaphore>,
    world: Arc<World>,
    metrics: Metrics,
    stop: CancellationToken,
}

struct Entry {
    view: BundleView,
    /// Ends the reading of an artefact that no set names any more.
    abandon: CancellationToken,
}

impl fmt::Debug for Library {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Library").finish_non_exhaustive()
    }
}

impl Library {
    /// A library that reads from `source` until `stop`, and wakes `world` when it has read something.
    pub fn new(source: Arc<dyn BundleSource>, world: Arc<World>, metrics: Metrics, stop: CancellationToken) -> Self {
        Self {
            source,
            entries: Arc::default(),
            slots: Arc::new(Semaphore::new(CONCURRENT)),
            world,
            metrics,
            stop,
        }
    }

    /// What is known of each of `references`. Those that are new are begun, those that nobody names any more forgotten.
    pub fn look_up(&self, references: &BTreeSet<&str>) -> BTreeMap<String, BundleView> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.retain(|reference, entry| {
            let named = references.contains(reference.as_str());
            if !named {
                entry.abandon.cancel();
            }
            named
        });
        for reference in references {
            if !entries.contains_key(*reference) {
                let abandon = self.stop.child_token();
                let reading = self.clone().read((*reference).to_owned());
                tokio::spawn(abandon.clone().run_until_cancelled_owned(reading));
                let view = BundleView::Unread;
                entries.insert((*reference).to_owned(), Entry { view, abandon });
            }
        }
        entries
            .iter()
            .map(|(reference, entry)| (reference.clone(), entry.view.clone()))
            .collect()
    }

    async fn read(self, reference: String) {
        let mut passing = Backoff::new(PASSING.0, PASSING.1);
        let mut lasting = Backoff::new(LASTING.0, LASTING.1);
        loop {
            let error = match self.attempt(&reference).await {
                Ok(modules) => {
                    tracing::info!(reference, modules = modules.len(), "read the artefact");
                    self.show(&reference, BundleView::Read(Arc::new(modules)));
                    return;
                }
                Err(error) => error,
            };
            let pause = if error.passes { passing.pause() } else { lasting.pause() };
            self.metrics.count_bundle_failure(error.reason);
            tracing::warn!(
                reason = error.reason,
                reference,
                again_in_seconds = pause.as_secs(),
                "{error}"
            );
            self.show(
                &reference,
                BundleView::Unusable {
                    reason: error.reason,
                    message: bounded(&error.message, MAX_MESSAGE),
                    retried: error.passes,
                },
            );
            sleep(pause).await;
        }
    }

    async fn attempt(&self, reference: &str) -> Result<Vec<ModuleView>, BundleError> {
        // The semaphore is never closed; if it were, reading without a slot is no harm.
        let _slot = self.slots.acquire().await;
        timeout(ATTEMPT, self.source.bundle(reference))
            .await
            .unwrap_or_else(|_| {
                Err(BundleError {
                    reason: "RegistryUnavailable",
                    message: format!("{reference} was not read within {} s", ATTEMPT.as_secs()),
                    passes: true,
                })
            })
    }

    fn show(&self, reference: &str, view: BundleView) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = entries.get_mut(reference) {
            entry.view = view;
        }
        drop(entries);
        self.world.wake();
    }
}
