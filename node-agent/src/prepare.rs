//! Bringing a module into the local store, checked. IO.

use std::sync::Arc;

use futures::FutureExt as _;
use livepatch_module::Inspection;

use crate::agent::Agent;
use crate::conclude::chain;
use crate::decide::Preparation;
use crate::fetch::Seen;
use crate::journal::Failure;
use crate::source::Module;
use crate::store::sha256_of;
use crate::verify;

impl Agent {
    /// Brings a module into the local store: from there if it is there already, else from its source.
    pub(crate) async fn prepare(&mut self, preparation: Preparation, seen: &Seen) {
        let Preparation {
            wanted,
            mut target,
            subject,
            granted,
        } = preparation;
        let sha256 = wanted.pair.sha256.clone();
        let (store, source) = (self.store.clone(), Arc::clone(&self.source));
        let limit = self.settings.times.pull;
        let identity = seen.truth.identity.clone();
        let obtaining = async move {
            if granted {
                source
                    .allows(&wanted.repository)
                    .map_err(|error| Refusal::of(&error, false, error.reason()))?;
            }
            let stored = {
                let (store, source, wanted) = (store.clone(), Arc::clone(&source), wanted.clone());
                tokio::task::spawn_blocking(move || {
                    let bytes = store.read(&wanted.pair.sha256).ok().flatten()?;
                    source.inspect(&bytes).ok()
                })
            };
            if let Ok(Some(inspection)) = stored.await {
                verify::module(&wanted, &identity, &wanted.pair.sha256, &inspection)
                    .map_err(|error| Refusal::of(&error, false, error.reason()))?;
                return Ok(inspection);
            }
            let pulled = tokio::time::timeout(limit, source.pull(&wanted.repository, &wanted.digest)).await;
            let Module { bytes, inspection } = match pulled {
                Ok(Ok(module)) => module,
                Ok(Err(error)) => return Err(Refusal::of(&error, error.is_retryable(), error.reason())),
                Err(_) => {
                    let message = format!("the module was not pulled within {} s", limit.as_secs());
                    return Err(Refusal {
                        failure: Failure::new("RegistryUnavailable", &message),
                        passes: true,
                    });
                }
            };
            let keeping = tokio::task::spawn_blocking(move || {
                verify::module(&wanted, &identity, &sha256_of(&bytes), &inspection)
                    .map_err(|error| Refusal::of(&error, false, error.reason()))?;
                store
                    .write(&wanted.pair.sha256, &bytes)
                    .map_err(|error| Refusal::of(&error, true, error.reason()))?;
                Ok(inspection)
            });
            keeping.await.unwrap_or_else(|_| Err(Refusal::ended()))
        };
        let obtained: Option<Result<Inspection, Refusal>> = self.reporting(obtaining.boxed()).await;
        match obtained {
            None => {}
            Some(Ok(inspection)) => {
                self.memory.prepared.insert(sha256, inspection);
            }
            Some(Err(Refusal { failure, passes: true })) => self.wait_with(subject, failure),
            Some(Err(Refusal { failure, passes: false })) => {
                target.boot = seen.truth.boot.clone();
                self.give_up(target, failure).await;
            }
        }
    }
}

/// Why a module is not in the local store.
struct Refusal {
    failure: Failure,
    /// Whether another try may succeed.
    passes: bool,
}

impl Refusal {
    fn of(error: &dyn std::error::Error, passes: bool, reason: &str) -> Self {
        Self {
            failure: Failure::new(reason, &chain(error)),
            passes,
        }
    }

    fn ended() -> Self {
        Self {
            failure: Failure::new("Interrupted", "the agent is stopping"),
            passes: true,
        }
    }
}
