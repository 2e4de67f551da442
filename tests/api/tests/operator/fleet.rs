//! Agents that exist as writers of statuses only, and the memory of everything that was ever granted. Does IO.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Patch, PatchParams};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, ResourceExt};
use livepatch_crds::NodeLivepatch;
use livepatch_crds::node::{Grant, GrantResult, NodeLivepatchStatus};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::artefacts::KERNELS;

/// What an agent does with a grant.
#[derive(Clone, Debug, PartialEq)]
pub enum Conduct {
    /// It loads what it is granted, at once.
    Obeys,
    /// It reports its kernel and that it has begun, and no more.
    Begins,
    /// Its kernel refuses every module.
    Fails {
        reason: &'static str,
        message: &'static str,
    },
}

/// The agents of all nodes.
pub struct Fleet {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    admin: Client,
    conducts: Mutex<BTreeMap<String, (Conduct, usize)>>,
    /// What the watch showed, in order: one object, or a list as a whole. Between the objects of a list the world did not
    /// go by.
    history: Mutex<Vec<Vec<NodeLivepatch>>>,
}

impl Fleet {
    /// Begins to watch. Nodes without an agent stay silent.
    pub fn start(admin: &Client) -> Self {
        let shared = Arc::new(Shared {
            admin: admin.clone(),
            conducts: Mutex::default(),
            history: Mutex::default(),
        });
        let task = tokio::spawn(Arc::clone(&shared).run());
        Self { shared, task }
    }

    /// Gives a node an agent, or changes what it does. `kernel` is an index into [`KERNELS`].
    pub async fn agent(&self, node: &str, kernel: usize, conduct: Conduct) {
        self.shared
            .conducts
            .lock()
            .unwrap()
            .insert(node.to_owned(), (conduct, kernel));
        let api: Api<NodeLivepatch> = Api::all(self.shared.admin.clone());
        if let Some(object) = api.get_opt(node).await.unwrap() {
            self.shared.act(&object).await;
        }
    }

    /// Every node that was ever granted something of the set, in the order in which it was first seen.
    pub fn ever_granted(&self, set: &str) -> Vec<String> {
        let mut names = Vec::new();
        for object in self.shared.history.lock().unwrap().iter().flatten() {
            let granted = object.spec.livepatches.iter().any(|grant| grant.set.name == set);
            if granted && !names.contains(&object.name_any()) {
                names.push(object.name_any());
            }
        }
        names
    }

    /// Every epoch under which something was granted.
    pub fn epochs(&self) -> BTreeSet<String> {
        let history = self.shared.history.lock().unwrap();
        let grants = history.iter().flatten().flat_map(|object| &object.spec.livepatches);
        grants.map(|grant| grant.epoch.clone()).collect()
    }

    /// Goes through all that was ever seen: at no moment more than `limit` nodes were in flight with the set, and no
    /// second node of a kernel build was granted before the first one had the livepatch.
    pub fn assert_budget(&self, set: &str, limit: usize) {
        let mut now: BTreeMap<String, NodeLivepatch> = BTreeMap::new();
        let mut proven: BTreeSet<String> = BTreeSet::new();
        for shown in self.shared.history.lock().unwrap().iter() {
            now.extend(shown.iter().map(|object| (object.name_any(), object.clone())));
            let mut flying: Vec<(&str, &Grant)> = Vec::new();
            for (name, object) in &now {
                let Some(grant) = object.spec.livepatches.iter().find(|grant| grant.set.name == set) else {
                    continue;
                };
                match object.status.as_ref() {
                    Some(status) if is_loaded(status, grant) => {
                        proven.insert(grant.module.kernel_build_id.clone());
                    }
                    Some(status) if has_failed(status, grant) => {}
                    _ => flying.push((name, grant)),
                }
            }
            assert!(flying.len() <= limit, "more than {limit} in flight: {flying:#?}");
            for (_, build) in KERNELS {
                let trying = flying
                    .iter()
                    .filter(|(_, grant)| grant.module.kernel_build_id == build)
                    .count();
                assert!(
                    trying <= 1 || proven.contains(build),
                    "two of {build} before one was proven: {flying:#?}"
                );
            }
        }
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn is_loaded(status: &NodeLivepatchStatus, grant: &Grant) -> bool {
    status
        .loaded
        .iter()
        .any(|loaded| loaded.build_id == grant.module.build_id && loaded.enabled)
}

fn has_failed(status: &NodeLivepatchStatus, grant: &Grant) -> bool {
    status.livepatches.iter().any(|told| {
        told.rollout == grant.rollout && told.attempt == grant.attempt && told.result == GrantResult::Failed
    })
}

impl Shared {
    async fn run(self: Arc<Self>) {
        let api: Api<NodeLivepatch> = Api::all(self.admin.clone());
        let mut events = pin!(watcher(api, watcher::Config::default()).default_backoff());
        let mut list = Vec::new();
        while let Some(event) = events.next().await {
            let shown = match event {
                Ok(Event::InitApply(object)) => {
                    list.push(object);
                    continue;
                }
                Ok(Event::InitDone) => std::mem::take(&mut list),
                Ok(Event::Apply(object)) => vec![object],
                Ok(Event::Delete(mut object)) => {
                    object.spec.livepatches.clear();
                    vec![object]
                }
                Ok(Event::Init) | Err(_) => {
                    list.clear();
                    continue;
                }
            };
            self.history.lock().unwrap().push(shown.clone());
            for object in shown {
                self.act(&object).await;
            }
        }
    }

    /// What the agent of the object's node does.
    async fn act(&self, object: &NodeLivepatch) {
        let name = object.name_any();
        let conduct = self.conducts.lock().unwrap().get(&name).cloned();
        let Some((conduct, kernel)) = conduct else {
            return;
        };
        // The agent of a node that was made anew does not touch the object of the old one.
        let nodes: Api<Node> = Api::all(self.admin.clone());
        let Ok(Some(node)) = nodes.get_opt(&name).await else {
            return;
        };
        let Some(boot_id) = node
            .status
            .as_ref()
            .and_then(|s| s.node_info.as_ref())
            .map(|info| info.boot_id.clone())
        else {
            return;
        };
        if node.uid().as_deref() != Some(&object.spec.node_uid) {
            return;
        }
        let told = status(object, &conduct, kernel, &boot_id);
        let now = serde_json::to_value(object.status.clone().unwrap_or_default()).unwrap();
        if told.as_object().unwrap().iter().all(|(key, value)| now[key] == *value) {
            return;
        }
        let api: Api<NodeLivepatch> = Api::all(self.admin.clone());
        let patch = json!({"metadata": {"uid": object.uid()}, "status": told});
        for _ in 0..100 {
            match api
                .patch_status(&name, &PatchParams::default(), &Patch::Merge(&patch))
                .await
            {
                Ok(_) => return,
                Err(kube::Error::Api(status)) if [404, 409].contains(&status.code) => return,
                Err(_) => tokio::time::sleep(Duration::from_millis(500)).await,
            }
        }
    }
}

fn status(object: &NodeLivepatch, conduct: &Conduct, kernel: usize, boot_id: &str) -> Value {
    let (release, build_id) = KERNELS[kernel];
    let grants = &object.spec.livepatches;
    let mut loaded = object
        .status
        .as_ref()
        .map_or_else(Vec::new, |status| status.loaded.clone());
    loaded.retain(|_| object.status.as_ref().is_some_and(|status| status.boot_id == boot_id));
    let mut loaded = serde_json::to_value(loaded).unwrap();
    let told: Vec<Value> = grants
        .iter()
        .map(|grant| {
            let here = loaded.as_array().unwrap().iter().any(|one| one["buildID"] == grant.module.build_id);
            let (result, reason, message) = match conduct {
                _ if here => ("Loaded", "UpToDate", ""),
                Conduct::Obeys => {
                    loaded.as_array_mut().unwrap().push(json!({
                        "module": grant.module.name, "buildID": grant.module.build_id, "owner": "Set",
                        "set": grant.set.name, "enabled": true, "transition": false, "functionCount": 1,
                    }));
                    ("Loaded", "UpToDate", "")
                }
                Conduct::Begins => ("Transitioning", "Working", ""),
                Conduct::Fails { reason, message } => ("Failed", *reason, *message),
            };
            let mut told = json!({
                "set": grant.set.name, "rollout": grant.rollout, "attempt": grant.attempt, "result": result, "reason": reason,
            });
            if !message.is_empty() {
                told["message"] = json!(message);
            }
            told
        })
        .collect();
    json!({
        "observedGeneration": object.metadata.generation, "agentVersion": "0.1.0", "bootID": boot_id, "kernelTaints": "OE",
        "kernel": {"release": release, "buildID": build_id, "architecture": "amd64"},
        "loadedCount": loaded.as_array().unwrap().len(), "loaded": loaded, "livepatches": told,
    })
}
