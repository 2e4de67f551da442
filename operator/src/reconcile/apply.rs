//! Fourth stage: writes what was decided, but statuses. Has the client.
//!
//! The order: rollouts first, since grants name them; objects of nodes that are gone before those of their successors;
//! grants last, when all they rely on is there. Each write has a precondition, so that a decision which rests on what is no
//! longer so does nothing; what then is, the watch shows, and it is decided again.

use super::validate::View;
use crate::health::Health;
use crate::lease::term::Term;
use crate::merge_diff::merge_diff;
use crate::metrics::Metrics;
use crate::watch::seen::Seen;
use crate::watch::world::{Kind, World};
use crate::writes::{CONCURRENCY, Verb, WriteError, patch_params, post_params, request};
use futures::stream::{self, StreamExt};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::{DeleteParams, Patch, Preconditions};
use kube::{Api, Client};
use livepatch_crds::rollout::LivepatchRolloutStatus;
use livepatch_crds::set::LivepatchSetStatus;
use livepatch_crds::{GROUP, LivepatchRollout, NodeLivepatch, SET_LABEL, VERSION};
use livepatch_planner::fleet::Decision;
use livepatch_planner::fleet::decision::{Happening, NewNodeObject, NewRollout, NodeChange, StaleNodeObject};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// A turn writes no longer than this: in a large wave what people say, what fails and what a status tells come between
/// its grants, and not after them.
const AT_MOST: Duration = Duration::from_secs(1);

/// What was decided, after its writes: the only thing that can be reported.
#[derive(Debug, Default)]
pub struct Applied {
    /// Statuses of sets to be written.
    pub(super) set_statuses: Vec<(String, LivepatchSetStatus)>,
    /// Statuses of rollouts to be written.
    pub(super) rollout_statuses: Vec<(String, LivepatchRolloutStatus)>,
    /// What is worth an event, if the status that says so is written.
    pub(super) happenings: Vec<Happening>,
    /// Writes of NodeLivepatches whose outcome is unknown, by name.
    pub(super) unknown: BTreeMap<String, Value>,
    /// Whether something failed that is to be tried again although nothing changes.
    pub(super) failed: bool,
    /// Whether time was up before all was written: the rest is decided anew, at once.
    pub(super) unfinished: bool,
}

/// What writes need.
#[derive(Clone, Copy)]
pub struct Apply<'a> {
    /// The API server.
    pub client: &'a Client,
    /// Where requests are counted.
    pub metrics: &'a Metrics,
    /// Told of every write, since many take long.
    pub health: &'a Health,
    /// Where own writes are remembered.
    pub world: &'a World,
    /// Under which it is written.
    pub term: &'a Term,
    /// Ends it.
    pub stop: &'a CancellationToken,
    /// When the first of the changes came on which the decision rests, if any did.
    pub news_since: Option<Instant>,
}

impl Apply<'_> {
    /// Writes what was decided.
    pub async fn carry_out(self, decision: Decision, view: &View) -> Applied {
        // Without `..`: nothing that is decided can be forgotten.
        let Decision {
            new_rollouts,
            expired_rollouts,
            new_node_objects,
            stale_node_objects,
            node_changes,
            set_statuses,
            rollout_statuses,
            happenings,
            wake_at: _,
        } = decision;
        let run = Run {
            by: self,
            view,
            cut_short: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            unfinished: AtomicBool::new(false),
            began: Instant::now(),
            unknown: Mutex::default(),
        };
        run.each(new_rollouts, |rollout| run.make_rollout(rollout)).await;
        run.each(expired_rollouts, |name| run.delete_rollout(name)).await;
        run.each(stale_node_objects, |object| run.delete_node_object(object))
            .await;
        run.each(new_node_objects, |object| run.make_node_object(object)).await;
        run.each(node_changes, |change| run.change_node(change)).await;
        Applied {
            set_statuses,
            rollout_statuses,
            happenings,
            failed: run.failed.into_inner(),
            unfinished: run.unfinished.into_inner(),
            unknown: run.unknown.into_inner().unwrap_or_else(PoisonError::into_inner),
        }
    }

    /// Whether this operator may still write.
    pub fn may_write(&self) -> bool {
        self.term.is_current() && !self.stop.is_cancelled()
    }
}

/// One run through a decision.
struct Run<'a> {
    by: Apply<'a>,
    view: &'a View,
    /// The API server is not well, or this operator leads no more.
    cut_short: AtomicBool,
    failed: AtomicBool,
    unfinished: AtomicBool,
    began: Instant,
    unknown: Mutex<BTreeMap<String, Value>>,
}

impl Run<'_> {
    /// Does one thing to each, some at once. Stops when the API server is not well, this operator leads no more, or time
    /// is up.
    async fn each<T, F>(&self, items: Vec<T>, act: impl Fn(T) -> F)
    where
        F: Future<Output = Result<(), WriteError>>,
    {
        let act = &act;
        stream::iter(items)
            .for_each_concurrent(CONCURRENCY, |item| async move {
                if self.cut_short.load(Ordering::Relaxed) || !self.by.may_write() {
                    self.cut_short.store(true, Ordering::Relaxed);
                    return;
                }
                if self.began.elapsed() > AT_MOST {
                    self.unfinished.store(true, Ordering::Relaxed);
                    return;
                }
                let result = act(item).await;
                self.by.health.beat();
                if let Err(error) = result {
                    self.note(&error);
                }
            })
            .await;
    }

    fn note(&self, error: &WriteError) {
        match error {
            // The watch tells what is there.
            WriteError::Conflict { .. } | WriteError::Exists { .. } | WriteError::Gone { .. } => {
                tracing::debug!(reason = error.reason(), "{error}");
            }
            WriteError::Refused { .. } => {
                self.failed.store(true, Ordering::Relaxed);
                tracing::warn!(reason = error.reason(), "{error}");
            }
            WriteError::Throttled | WriteError::Unknown { .. } => {
                self.failed.store(true, Ordering::Relaxed);
                if !self.cut_short.swap(true, Ordering::Relaxed) {
                    tracing::warn!(reason = error.reason(), "{error}");
                }
            }
        }
    }

    async fn make_rollout(&self, new: NewRollout) -> Result<(), WriteError> {
        let NewRollout { name, set, spec } = new;
        let mut rollout = LivepatchRollout::new(&name, spec);
        rollout.metadata.labels = Some([(SET_LABEL.to_owned(), set.clone())].into());
        rollout.metadata.owner_references = Some(vec![OwnerReference {
            api_version: format!("{GROUP}/{VERSION}"),
            kind: "LivepatchSet".to_owned(),
            name: set,
            uid: rollout.spec.set_uid.clone(),
            controller: Some(true),
            block_owner_deletion: None,
        }]);
        let api: Api<LivepatchRollout> = Api::all(self.by.client.clone());
        let params = post_params();
        let made = api.create(&params, &rollout);
        let made = request(self.by.metrics, Verb::Create, Kind::Rollout, made).await?;
        tracing::info!(rollout = name, "made the rollout");
        self.by.world.lock().rollouts.remember(Seen::of(made), Instant::now());
        Ok(())
    }

    async fn delete_rollout(&self, name: String) -> Result<(), WriteError> {
        let Some(version) = self.view.versions().rollouts.get(&name) else {
            return Ok(());
        };
        let api: Api<LivepatchRollout> = Api::all(self.by.client.clone());
        let params = delete_params(&version.uid);
        let deleted = request(self.by.metrics, Verb::Delete, Kind::Rollout, api.delete(&name, &params)).await?;
        tracing::info!(
            rollout = name,
            "deleted the rollout: it is beyond the history that is kept"
        );
        if deleted.right().is_some() {
            let mut caches = self.by.world.lock();
            caches.rollouts.remember_deleted(&name, &version.uid, Instant::now());
        }
        Ok(())
    }

    async fn delete_node_object(&self, object: StaleNodeObject) -> Result<(), WriteError> {
        let StaleNodeObject { node, uid } = object;
        let api: Api<NodeLivepatch> = Api::all(self.by.client.clone());
        let params = delete_params(&uid);
        let deleted = request(
            self.by.metrics,
            Verb::Delete,
            Kind::NodeObject,
            api.delete(&node, &params),
        )
        .await?;
        tracing::info!(node, "deleted the NodeLivepatch of a node that is gone");
        if deleted.right().is_some() {
            let mut caches = self.by.world.lock();
            caches.node_objects.remember_deleted(&node, &uid, Instant::now());
        }
        Ok(())
    }

    async fn make_node_object(&self, new: NewNodeObject) -> Result<(), WriteError> {
        let NewNodeObject { node, spec } = new;
        let mut object = NodeLivepatch::new(&node, spec);
        object.metadata = ObjectMeta {
            owner_references: Some(vec![OwnerReference {
                api_version: "v1".to_owned(),
                kind: "Node".to_owned(),
                name: node.clone(),
                uid: object.spec.node_uid.clone(),
                controller: None,
                block_owner_deletion: None,
            }]),
            ..object.metadata
        };
        let api: Api<NodeLivepatch> = Api::all(self.by.client.clone());
        let params = post_params();
        let made = api.create(&params, &object);
        let made = request(self.by.metrics, Verb::Create, Kind::NodeObject, made).await?;
        self.by
            .world
            .lock()
            .node_objects
            .remember(Seen::of(made), Instant::now());
        Ok(())
    }

    async fn change_node(&self, change: NodeChange) -> Result<(), WriteError> {
        let NodeChange {
            node,
            resource_version,
            spec,
            new_grants,
        } = change;
        let before = self
            .view
            .snapshot()
            .nodes
            .get(&node)
            .and_then(|view| view.object.as_ref());
        let Some(before) = before else {
            return Ok(());
        };
        let Ok(Some(diff)) = merge_diff(&before.spec, &spec) else {
            return Ok(());
        };
        let body = json!({
            "metadata": {"uid": before.uid, "resourceVersion": resource_version},
            "spec": diff,
        });
        let api: Api<NodeLivepatch> = Api::all(self.by.client.clone());
        let (params, patch) = (patch_params(), Patch::Merge(&body));
        let patched = api.patch(&node, &params, &patch);
        if let Some(since) = self.by.news_since.filter(|_| new_grants > 0) {
            self.by.metrics.observe_grant(since.elapsed());
        }
        match request(self.by.metrics, Verb::Patch, Kind::NodeObject, patched).await {
            Ok(object) => {
                self.by.metrics.count_grants(new_grants);
                tracing::debug!(node, new_grants, "changed what the node is granted");
                self.by
                    .world
                    .lock()
                    .node_objects
                    .remember(Seen::of(object), Instant::now());
                Ok(())
            }
            Err(error) => {
                if error.is_unknown() {
                    let mut unknown = self.unknown.lock().unwrap_or_else(PoisonError::into_inner);
                    unknown.insert(node, body);
                }
                Err(error)
            }
        }
    }
}

fn delete_params(uid: &str) -> DeleteParams {
    DeleteParams::background().preconditions(Preconditions {
        uid: Some(uid.to_owned()),
        resource_version: None,
    })
}
