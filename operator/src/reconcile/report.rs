//! Last stage: says what was done, in statuses, events and metrics. Has the client.

use super::apply::{Applied, Apply};
use super::validate::{Version, View};
use crate::events::Events;
use crate::merge_diff::merge_diff;
use crate::metrics::SetSeries;
use crate::watch::seen::Seen;
use crate::watch::world::Kind;
use crate::writes::{CONCURRENCY, Verb, WriteError, patch_params, request};
use futures::stream::{self, StreamExt};
use kube::api::Patch;
use kube::{Api, Resource};
use livepatch_crds::{LivepatchRollout, LivepatchSet};
use livepatch_planner::fleet::decision::Regarding;
use livepatch_planner::fleet::snapshot::SetView;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::time::{Duration, Instant};

/// A status is written no more often: in a busy wave it changes with every node.
const AT_MOST_EVERY: Duration = Duration::from_secs(1);

/// Writes statuses and events.
pub struct Report {
    events: Events,
    /// When each status was last written.
    written: BTreeMap<(Kind, String), Instant>,
}

impl Report {
    /// With where events go.
    pub fn new(events: Events) -> Self {
        Self {
            events,
            written: BTreeMap::new(),
        }
    }

    /// Says what was done.
    pub async fn tell(&mut self, applied: Applied, by: Apply<'_>, view: &View) -> Told {
        let Applied {
            set_statuses,
            rollout_statuses,
            happenings,
            unknown: _,
            failed,
            unfinished: _,
        } = applied;
        let snapshot = view.snapshot();
        let sets: BTreeMap<&str, &SetView> = snapshot.sets.iter().map(|set| (set.name.as_str(), set)).collect();
        let rollouts = snapshot.sets.iter().flat_map(|set| &set.rollouts);
        let rollouts: BTreeMap<&str, _> = rollouts.map(|rollout| (rollout.name.as_str(), rollout)).collect();
        let mut wait = None;
        let mut patches = Vec::new();
        for (name, status) in &set_statuses {
            let target = sets.get(name.as_str()).zip(view.versions().sets.get(name));
            if let Some((set, version)) = target {
                patches.extend(self.turn(Kind::Set, name, version, &set.status, status, &mut wait));
            }
        }
        for (name, status) in &rollout_statuses {
            let target = rollouts.get(name.as_str()).zip(view.versions().rollouts.get(name));
            if let Some((rollout, version)) = target {
                patches.extend(self.turn(Kind::Rollout, name, version, &rollout.status, status, &mut wait));
            }
        }
        // The futures are made first: a stream of references makes one whose Send the compiler cannot show.
        let writes: Vec<_> = patches.iter().map(|patch| write(patch, by)).collect();
        let outcomes: Vec<Outcome<'_>> = stream::iter(writes).buffer_unordered(CONCURRENCY).collect().await;
        let failed = failed || outcomes.iter().any(|outcome| outcome.failed);
        let told: BTreeSet<(Kind, &str)> = outcomes.iter().filter_map(|outcome| outcome.written).collect();
        for (kind, name) in &told {
            self.written.insert((*kind, (*name).to_owned()), Instant::now());
        }
        for happening in &happenings {
            let (kind, name) = match &happening.regarding {
                Regarding::Set(name) => (Kind::Set, name),
                Regarding::Rollout(name) => (Kind::Rollout, name),
            };
            // It is found anew with the status that says so, if that could not be written now.
            let Some(patch) = patches.iter().find(|patch| (patch.kind, &patch.name) == (kind, name)) else {
                continue;
            };
            if told.contains(&(kind, name.as_str())) && by.may_write() {
                self.events.publish(happening, kind, name, &patch.uid).await;
            }
        }
        self.written.retain(|_, at| at.elapsed() < AT_MOST_EVERY);
        by.metrics.show_sets(snapshot.sets.iter().map(|set| {
            let current = set.status.rollout.as_deref();
            let rollout = set
                .rollouts
                .iter()
                .find(|rollout| Some(rollout.name.as_str()) == current);
            let failures = rollout.map_or(&[][..], |rollout| &rollout.status.failures[..]);
            SetSeries {
                name: &set.name,
                status: &set.status,
                failures,
            }
        }));
        Told { failed, wait }
    }

    /// The patch of a status whose turn it is.
    fn turn<T: Serialize>(
        &self,
        kind: Kind,
        name: &str,
        version: &Version,
        old: &T,
        new: &T,
        wait: &mut Option<Duration>,
    ) -> Option<StatusPatch> {
        let last = self.written.get(&(kind, name.to_owned()));
        let rest = last.map_or(Duration::ZERO, |at| AT_MOST_EVERY.saturating_sub(at.elapsed()));
        if !rest.is_zero() {
            *wait = Some(wait.map_or(rest, |wait| wait.min(rest)));
            return None;
        }
        let diff = merge_diff(old, new).ok().flatten()?;
        Some(StatusPatch {
            kind,
            name: name.to_owned(),
            uid: version.uid.clone(),
            body: json!({
                "metadata": {"uid": version.uid, "resourceVersion": version.version.to_string()},
                "status": diff,
            }),
        })
    }
}

/// What became of a report.
#[derive(Clone, Copy, Debug)]
pub struct Told {
    /// Whether something failed, here or before, that is to be tried again although nothing changes.
    pub failed: bool,
    /// When to come back for a status whose turn it was not yet.
    pub wait: Option<Duration>,
}

/// A status to be written.
#[derive(Debug)]
struct StatusPatch {
    kind: Kind,
    name: String,
    uid: String,
    body: serde_json::Value,
}

/// What became of one patch.
struct Outcome<'a> {
    /// Of what a status was written, if it was.
    written: Option<(Kind, &'a str)>,
    failed: bool,
}

async fn write<'a>(patch: &'a StatusPatch, by: Apply<'_>) -> Outcome<'a> {
    let not_written = |failed| Outcome { written: None, failed };
    if !by.may_write() {
        return not_written(false);
    }
    let result = match patch.kind {
        Kind::Set => patch_status::<LivepatchSet>(patch, by).await.map(|set| {
            by.world.lock().sets.remember(Seen::of(set), Instant::now());
        }),
        _ => patch_status::<LivepatchRollout>(patch, by).await.map(|rollout| {
            by.world.lock().rollouts.remember(Seen::of(rollout), Instant::now());
        }),
    };
    by.health.beat();
    match result {
        Ok(()) => Outcome {
            written: Some((patch.kind, &patch.name)),
            failed: false,
        },
        // The watch tells what is there.
        Err(WriteError::Conflict { .. } | WriteError::Gone { .. }) => not_written(false),
        Err(error) => {
            tracing::warn!(reason = error.reason(), name = patch.name, "{error}");
            not_written(true)
        }
    }
}

async fn patch_status<K>(patch: &StatusPatch, by: Apply<'_>) -> Result<K, WriteError>
where
    K: Resource<DynamicType = (), Scope = kube::core::ClusterResourceScope> + Clone + DeserializeOwned + Debug,
{
    let api: Api<K> = Api::all(by.client.clone());
    let (params, body) = (patch_params(), Patch::Merge(&patch.body));
    let call = api.patch_status(&patch.name, &params, &body);
    request(by.metrics, Verb::PatchStatus, patch.kind, call).await
}
