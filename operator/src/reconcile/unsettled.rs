//! Grants whose write was not answered. Has the client.
//!
//! Such a write may have happened, may not have, or may still happen. It is sent again, with the same resourceVersion as
//! precondition, until there is a definite answer: success or conflict. After either the object has another version, so
//! that the first write, wherever it is, can do nothing any more. Until then no grant is given: it would not be counted.

use crate::backoff::Backoff;
use crate::lease::term::Term;
use crate::metrics::Metrics;
use crate::watch::seen::Seen;
use crate::watch::world::{Kind, World};
use crate::writes::{CONCURRENCY, Verb, WriteError, patch_params, request};
use futures::StreamExt;
use futures::stream;
use kube::api::Patch;
use kube::{Api, Client};
use livepatch_crds::NodeLivepatch;
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Writes of NodeLivepatches whose outcome is unknown: the patch with its precondition, by name.
#[derive(Debug)]
pub struct Unsettled {
    writes: BTreeMap<String, Value>,
    epoch: String,
    backoff: Backoff,
    not_before: Option<Instant>,
}

impl Default for Unsettled {
    fn default() -> Self {
        Self {
            writes: BTreeMap::new(),
            epoch: String::new(),
            backoff: Backoff::new(Duration::from_millis(500), Duration::from_secs(10)),
            not_before: None,
        }
    }
}

impl Unsettled {
    /// Remembers a write. There is at most one for each object: no other is made before it is settled.
    pub fn add(&mut self, name: String, patch: Value) {
        self.writes.insert(name, patch);
        if self.not_before.is_none() {
            self.not_before = Some(Instant::now() + self.backoff.pause());
        }
    }

    /// What is written under one term is void after it: agents act on the current epoch only. The next term begins with
    /// fresh lists.
    pub fn belong_to(&mut self, term: Option<&Term>) {
        let epoch = term.map_or("", Term::epoch);
        if self.epoch != epoch {
            epoch.clone_into(&mut self.epoch);
            self.writes.clear();
            self.not_before = None;
        }
    }

    /// What there is to wait for, in one sentence.
    pub fn message(&self) -> Option<String> {
        let count = self.writes.len();
        (count > 0).then(|| format!("the outcome of {count} writes is unknown; they are being settled"))
    }

    /// When to try again.
    pub fn due_in(&self) -> Option<Duration> {
        self.not_before.map(|due| due.saturating_duration_since(Instant::now()))
    }

    /// Tries to settle them.
    pub async fn settle(&mut self, client: &Client, metrics: &Metrics, world: &World, term: &Term) {
        if self.writes.is_empty() || self.due_in().is_some_and(|rest| !rest.is_zero()) {
            return;
        }
        let api: Api<NodeLivepatch> = Api::all(client.clone());
        let attempts: Vec<_> = self
            .writes
            .iter()
            .map(|(name, patch)| settle_one(&api, metrics, world, term, name.clone(), patch.clone()))
            .collect();
        let attempts: Vec<(String, Result<(), WriteError>)> =
            stream::iter(attempts).buffer_unordered(CONCURRENCY).collect().await;
        for (name, result) in attempts {
            match result {
                Ok(()) => _ = self.writes.remove(&name),
                Err(error) => tracing::debug!(reason = error.reason(), node = name, "{error}"),
            }
        }
        if self.writes.is_empty() {
            self.backoff.reset();
            self.not_before = None;
        } else {
            self.not_before = Some(Instant::now() + self.backoff.pause());
        }
    }
}

async fn settle_one(
    api: &Api<NodeLivepatch>,
    metrics: &Metrics,
    world: &World,
    term: &Term,
    name: String,
    patch: Value,
) -> (String, Result<(), WriteError>) {
    let settled = match send_again(api, metrics, term, &name, &patch).await {
        Ok(Some(object)) => {
            world.lock().node_objects.remember(Seen::of(object), Instant::now());
            Ok(())
        }
        Ok(None) => Ok(()),
        Err(error) => Err(error),
    };
    (name, settled)
}

/// The object after a definite answer, if it is still there.
async fn send_again(
    api: &Api<NodeLivepatch>,
    metrics: &Metrics,
    term: &Term,
    name: &str,
    patch: &Value,
) -> Result<Option<NodeLivepatch>, WriteError> {
    if !term.is_current() {
        return Ok(None);
    }
    let (params, patch) = (patch_params(), Patch::Merge(patch));
    let again = api.patch(name, &params, &patch);
    match request(metrics, Verb::Patch, Kind::NodeObject, again).await {
        Ok(object) => Ok(Some(object)),
        Err(WriteError::Gone { .. }) => Ok(None),
        // Refused, by a policy for example, this time; look what became of the first.
        Err(WriteError::Conflict { .. } | WriteError::Refused { .. }) => {
            request(metrics, Verb::Get, Kind::NodeObject, api.get_opt(name)).await
        }
        Err(error) => Err(error),
    }
}
