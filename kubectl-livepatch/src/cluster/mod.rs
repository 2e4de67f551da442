//! The one place with a client: what is read from the API server, and the one thing that is written. Does IO.

mod error;
mod watch;

pub use error::ClusterError;
pub use watch::{Change, Changes, Kind};

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{ListParams, PartialObjectMeta, Patch, PatchParams, ValidationDirective};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use livepatch_crds::{LivepatchRollout, LivepatchSet, NodeLivepatch, SET_LABEL};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::family::Family;
use crate::options::{NodeName, SetName};

/// Which cluster, and as whom.
#[derive(Debug, Clone, Default, Args)]
pub struct ClusterOptions {
    /// The kubeconfig file [default: $KUBECONFIG or ~/.kube/config]
    #[arg(long, value_name = "FILE", help_heading = "Cluster")]
    pub kubeconfig: Option<PathBuf>,

    /// The context of the kubeconfig
    #[arg(long, value_name = "NAME", help_heading = "Cluster")]
    pub context: Option<String>,
}

/// Longest wait for the answer to one request.
const ANSWER: Duration = Duration::from_secs(30);
const CONNECTING: Duration = Duration::from_secs(10);
/// HTTP status.
const TOO_MANY_REQUESTS: u16 = 429;
/// Objects in one answer: a fleet's objects are tens of megabytes.
const PAGE: u32 = 500;
/// Who wrote `spec.control`, in `metadata.managedFields`.
const FIELD_MANAGER: &str = "kubectl-livepatch";

/// A way to one cluster.
pub struct Cluster {
    client: Client,
}

impl Cluster {
    /// From the kubeconfig, or from the pod that this runs in.
    pub async fn connect(options: &ClusterOptions) -> Result<Self, ClusterError> {
        // Said explicitly, rustls never has to guess which provider to take; the error means that it is said already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut config = config(options).await?;
        // A wait of minutes would be hidden in one call.
        config.default_retry = false;
        config.connect_timeout = Some(CONNECTING);
        let client = Client::try_from(config).map_err(|source| ClusterError::Client { source })?;
        Ok(Self { client })
    }

    /// A set and its rollouts.
    pub async fn family(&self, name: &SetName) -> Result<Family, ClusterError> {
        let sets: Api<LivepatchSet> = Api::all(self.client.clone());
        let what = format!("LivepatchSet {name}");
        let set = answer(&what, async || sets.get_opt(name.as_str()).await)
            .await?
            .ok_or_else(|| ClusterError::NoSuchSet { name: name.to_string() })?;
        let rollouts = self.all("LivepatchRollouts", &of_set(name)).await?;
        Ok(Family::of(set, rollouts))
    }

    /// Every set and its rollouts, by name.
    pub async fn families(&self) -> Result<Vec<Family>, ClusterError> {
        let sets: Vec<LivepatchSet> = self.all("LivepatchSets", &ListParams::default()).await?;
        let rollouts: Vec<LivepatchRollout> = self.all("LivepatchRollouts", &ListParams::default()).await?;
        Ok(Family::all(sets, rollouts))
    }

    /// What `gist` makes of every node's object; the objects themselves are not kept.
    pub async fn nodes<G>(&self, gist: impl Fn(NodeLivepatch) -> Option<G>) -> Result<Vec<G>, ClusterError> {
        self.paged("NodeLivepatches", &ListParams::default(), gist).await
    }

    /// The object of one node.
    pub async fn node_livepatch(&self, name: &NodeName) -> Result<NodeLivepatch, ClusterError> {
        let objects: Api<NodeLivepatch> = Api::all(self.client.clone());
        answer(&format!("NodeLivepatch {name}"), async || {
            objects.get_opt(name.as_str()).await
        })
        .await?
        .ok_or_else(|| ClusterError::NoSuchNode { name: name.to_string() })
    }

    /// A node, if it is there and may be read.
    pub async fn node(&self, name: &NodeName) -> Result<Option<Node>, ClusterError> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        allowed(answer(&format!("Node {name}"), async || nodes.get_opt(name.as_str()).await).await).map(Option::flatten)
    }

    /// The nodes of the cluster: what `gist` makes of each.
    pub async fn all_nodes<G>(&self, gist: impl Fn(Node) -> Option<G>) -> Result<Vec<G>, ClusterError> {
        self.paged("Nodes", &ListParams::default(), gist).await
    }

    /// The pods on a node by their UIDs, as `namespace/name`, as far as they may be read.
    pub async fn pods_on(&self, node: &NodeName) -> Result<BTreeMap<String, String>, ClusterError> {
        let pods: Api<Pod> = Api::all(self.client.clone());
        let params = ListParams::default().fields(&format!("spec.nodeName={node}"));
        let pods = allowed(answer("Pods", async || pods.list_metadata(&params).await).await)?;
        let named = |pod: PartialObjectMeta<Pod>| {
            let name = format!("{}/{}", pod.metadata.namespace?, pod.metadata.name?);
            Some((pod.metadata.uid?, name))
        };
        Ok(pods
            .map(|pods| pods.items)
            .unwrap_or_default()
            .into_iter()
            .filter_map(named)
            .collect())
    }

    /// Writes `spec.control` of a rollout, if the rollout is still what `seen` says: anything that was decided on
    /// another state of it is decided anew.
    pub async fn control(
        &self,
        seen: &LivepatchRollout,
        control: &Value,
        dry_run: bool,
    ) -> Result<LivepatchRollout, ClusterError> {
        let rollouts: Api<LivepatchRollout> = Api::all(self.client.clone());
        let name = seen.metadata.name.as_deref().unwrap_or_default();
        let patch = serde_json::json!({
            "metadata": {"uid": seen.metadata.uid, "resourceVersion": seen.metadata.resource_version},
            "spec": {"control": control},
        });
        let params = PatchParams {
            dry_run,
            field_manager: Some(FIELD_MANAGER.to_owned()),
            field_validation: Some(ValidationDirective::Strict),
            ..PatchParams::default()
        };
        let what = format!("spec.control of LivepatchRollout {name}");
        answer(&what, async || {
            rollouts.patch(name, &params, &Patch::Merge(&patch)).await
        })
        .await
    }

    /// Follows objects of these kinds: one set and its rollouts, or all.
    pub fn follow(&self, name: Option<&SetName>, kinds: &[Kind]) -> Changes {
        Changes::start(&self.client, name, kinds)
    }

    async fn all<K>(&self, what: &str, params: &ListParams) -> Result<Vec<K>, ClusterError>
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::ClusterResourceScope>,
        K: Clone + DeserializeOwned + std::fmt::Debug,
    {
        self.paged(what, params, Some).await
    }

    async fn paged<K, G>(
        &self,
        what: &str,
        params: &ListParams,
        gist: impl Fn(K) -> Option<G>,
    ) -> Result<Vec<G>, ClusterError>
    where
        K: kube::Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
    {
        let api: Api<K> = Api::all(self.client.clone());
        let mut params = params.clone().limit(PAGE);
        let mut all = Vec::new();
        loop {
            let page = answer(what, async || api.list(&params).await).await?;
            all.extend(page.items.into_iter().filter_map(&gist));
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params.continue_token = Some(token),
                None => return Ok(all),
            }
        }
    }
}

/// Selects the rollouts of a set.
fn of_set(name: &SetName) -> ListParams {
    ListParams::default().labels(&format!("{SET_LABEL}={name}"))
}

async fn config(options: &ClusterOptions) -> Result<Config, ClusterError> {
    if options.kubeconfig.is_none() && options.context.is_none() {
        return Config::infer()
            .await
            .map_err(|source| ClusterError::NoConfiguration { source });
    }
    let unusable = |source| ClusterError::Kubeconfig { source };
    let of_context = KubeConfigOptions {
        context: options.context.clone(),
        ..KubeConfigOptions::default()
    };
    match &options.kubeconfig {
        Some(file) => {
            let kubeconfig = Kubeconfig::read_from(file).map_err(unusable)?;
            Config::from_custom_kubeconfig(kubeconfig, &of_context)
                .await
                .map_err(unusable)
        }
        None => Config::from_kubeconfig(&of_context).await.map_err(unusable),
    }
}

/// Nothing, where a right to read what is only useful is missing.
fn allowed<T>(answer: Result<T, ClusterError>) -> Result<Option<T>, ClusterError> {
    match answer {
        Err(ClusterError::Forbidden { .. }) => Ok(None),
        answer => answer.map(Some),
    }
}

/// The answer to one request, within a time. A request that the API server put off, as it does in its first moments and
/// when it has too much to do, was not carried out and is made again, as kubectl does.
async fn answer<T>(what: &str, mut request: impl AsyncFnMut() -> kube::Result<T>) -> Result<T, ClusterError> {
    let asked = async {
        loop {
            match request().await {
                Err(kube::Error::Api(status)) if status.code == TOO_MANY_REQUESTS => {
                    let wait = status.details.as_ref().map_or(1, |details| details.retry_after_seconds);
                    tokio::time::sleep(Duration::from_secs(u64::from(wait.max(1)))).await;
                }
                answer => return answer,
            }
        }
    };
    match tokio::time::timeout(ANSWER, asked).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(source)) => Err(ClusterError::of(what, source)),
        Err(_) => Err(ClusterError::NoAnswer {
            what: what.to_owned(),
            seconds: ANSWER.as_secs(),
        }),
    }
}
