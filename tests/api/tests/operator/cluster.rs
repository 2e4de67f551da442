//! A control plane with the chart installed, nodes that exist as objects only, and the operator in this process with the
//! token of its own service account. Does IO.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{Method, Uri};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use livepatch_crds::conditions;
use livepatch_crds::{LivepatchRollout, LivepatchSet, NodeLivepatch};
use livepatch_operator::bundles::BundleSource;
use livepatch_operator::clients::Clients;
use livepatch_operator::lease::evaluate::Timing;
use livepatch_operator::{Operator, Settings};
use livepatch_rig::control_plane::{ControlPlane, Options};
use livepatch_rig::helm::Helm;
use livepatch_rig::kubectl::Kubectl;
use serde_json::{Value, json};

use crate::artefacts::Artefacts;
use crate::way::{Fate, Way};

/// Where the chart is installed.
pub const NAMESPACE: &str = "livepatch-system";

/// Far more than anything takes on an idle machine.
pub const LONG: Duration = Duration::from_mins(4);
/// Times of the lease that a test can wait for, and that hold on a machine on which an API server is starved for seconds.
pub const QUICK: Timing = Timing {
    duration: Duration::from_secs(12),
    deadline: Duration::from_secs(10),
    renewal: Duration::from_secs(1),
    look: Duration::from_millis(250),
};

/// One test's cluster.
pub struct Cluster {
    plane: ControlPlane,
    pub admin: Client,
}

impl Cluster {
    /// With the chart.
    pub async fn start(test: &str) -> Self {
        let cluster = Self::bare(test).await;
        cluster.install();
        cluster
    }

    /// Without anything.
    pub async fn bare(test: &str) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        livepatch_operator::logging::start(livepatch_operator::logging::Format::Text);
        let plane = ControlPlane::start(Options {
            name: format!("operator-{test}"),
            ..Options::api_only()
        })
        .unwrap();
        let admin = Client::try_from(config(plane.admin()).await).unwrap();
        Self { plane, admin }
    }

    /// Installs the chart. The policies are in force when the operator has seen nodes and artefacts.
    pub fn install(&self) {
        let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../charts/livepatch-operator");
        let image = |name: &str| json!({"repository": format!("registry.example.com/{name}"), "digest": format!("sha256:{}", "a".repeat(64))});
        let values = json!({
            "allowedRepositories": ["registry.example.com/livepatches"],
            "operator": {"image": image("livepatch-operator")},
            "agent": {"image": image("livepatch-agent")},
        });
        let helm = Helm::new(self.plane.admin()).unwrap();
        helm.upgrade_install("livepatch-operator", &chart, NAMESPACE, &values.to_string(), None)
            .unwrap();
    }

    pub fn plane(&self) -> &ControlPlane {
        &self.plane
    }

    /// Starts an operator.
    pub async fn operator(&self, name: &str, artefacts: &Artefacts) -> Operator {
        self.operator_with(name, Arc::new(artefacts.clone())).await
    }

    /// Starts an operator that reads artefacts from `source`.
    pub async fn operator_with(&self, name: &str, source: Arc<dyn BundleSource>) -> Operator {
        let token = self.plane.token(NAMESPACE, "livepatch-operator", None).unwrap();
        let kubectl = self.plane.with_token(name, &token).unwrap();
        Self::operator_as(name, config(&kubectl).await, source)
    }

    /// Starts an operator with every right: before the chart there is no account for it.
    pub async fn operator_as_admin(&self, name: &str, artefacts: &Artefacts) -> Operator {
        Self::operator_as(name, config(self.plane.admin()).await, Arc::new(artefacts.clone()))
    }

    /// Starts an operator whose requests, but those for the lease, have the fates of `plan`.
    pub async fn operator_on(
        &self,
        name: &str,
        artefacts: &Artefacts,
        plan: impl FnMut(&Method, &Uri) -> Fate + Send + 'static,
    ) -> Operator {
        let token = self.plane.token(NAMESPACE, "livepatch-operator", None).unwrap();
        let kubectl = self.plane.with_token(name, &token).unwrap();
        let mut clients = Clients::new(config(&kubectl).await).unwrap();
        clients.main = Way::through(clients.main, plan);
        Self::start_operator(name, clients, Arc::new(artefacts.clone()))
    }

    /// Takes the lease away, so that the next operator need not wait.
    pub async fn delete_lease(&self) {
        let leases: Api<Lease> = Api::namespaced(self.admin.clone(), NAMESPACE);
        let _ = leases.delete("livepatch-operator", &DeleteParams::default()).await;
    }

    fn operator_as(name: &str, config: Config, source: Arc<dyn BundleSource>) -> Operator {
        Self::start_operator(name, Clients::new(config).unwrap(), source)
    }

    fn start_operator(name: &str, clients: Clients, source: Arc<dyn BundleSource>) -> Operator {
        Operator::start(Settings {
            clients,
            namespace: NAMESPACE.to_owned(),
            lease_name: "livepatch-operator".to_owned(),
            identity: name.to_owned(),
            timing: QUICK,
            source,
            limits: None,
        })
    }

    /// Makes a Linux node that is ready, in its first boot.
    pub async fn node(&self, name: &str, labels: Value) {
        let mut labels = labels;
        labels["kubernetes.io/os"] = json!("linux");
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}});
        let nodes: Api<Node> = Api::all(self.admin.clone());
        nodes
            .create(&PostParams::default(), &serde_json::from_value(node).unwrap())
            .await
            .unwrap();
        // An admission plugin gives every new node the taint not-ready; a controller would take it away.
        let untainted = json!({"spec": {"taints": null}});
        nodes
            .patch(name, &PatchParams::default(), &Patch::Merge(&untainted))
            .await
            .unwrap();
        self.set_node(name, "boot-1", true).await;
    }

    /// What the kubelet would say of a node.
    pub async fn set_node(&self, name: &str, boot_id: &str, ready: bool) {
        let status = json!({"status": {
            "nodeInfo": {
                "architecture": "amd64", "bootID": boot_id, "containerRuntimeVersion": "", "kernelVersion": "",
                "kubeProxyVersion": "", "kubeletVersion": "v1.36.3", "machineID": "", "operatingSystem": "linux",
                "osImage": "", "systemUUID": "",
            },
            "conditions": [{"type": "Ready", "status": if ready { "True" } else { "Unknown" }, "reason": "Test"}],
        }});
        let nodes: Api<Node> = Api::all(self.admin.clone());
        nodes
            .patch_status(name, &PatchParams::default(), &Patch::Merge(&status))
            .await
            .unwrap();
    }

    /// Labels a node.
    pub async fn label_node(&self, name: &str, labels: Value) {
        let patch = json!({"metadata": {"labels": labels}});
        let nodes: Api<Node> = Api::all(self.admin.clone());
        nodes
            .patch(name, &PatchParams::default(), &Patch::Merge(&patch))
            .await
            .unwrap();
    }

    pub async fn delete_node(&self, name: &str) {
        let nodes: Api<Node> = Api::all(self.admin.clone());
        nodes.delete(name, &DeleteParams::default()).await.unwrap();
    }

    /// Applies a set: `spec` is laid over a least one for that artefact.
    pub async fn set(&self, name: &str, reference: &str, spec: Value) -> LivepatchSet {
        let mut set = json!({
            "apiVersion": "livepatch.dev/v1alpha1", "kind": "LivepatchSet", "metadata": {"name": name},
            "spec": {
                "type": "OffBand", "nodeSelector": {}, "template": {"source": {"oci": {"reference": reference}}},
                "rollout": {"minReadySeconds": 0, "maxConcurrent": 2},
            },
        });
        lay_over(&mut set["spec"], spec);
        let sets: Api<LivepatchSet> = Api::all(self.admin.clone());
        let params = PatchParams::apply("test").force();
        sets.patch(name, &params, &Patch::Apply(&set)).await.unwrap()
    }

    /// Writes `spec.control` of the set's current rollout, as a person does.
    pub async fn control(&self, set: &str, control: Value) {
        let set = self.get_set(set).await;
        let rollout = set.status.unwrap().rollout.unwrap();
        let rollouts: Api<LivepatchRollout> = Api::all(self.admin.clone());
        let patch = json!({"spec": {"control": control}});
        rollouts
            .patch(&rollout, &PatchParams::default(), &Patch::Merge(&patch))
            .await
            .unwrap();
    }

    pub async fn get_set(&self, name: &str) -> LivepatchSet {
        Api::all(self.admin.clone()).get(name).await.unwrap()
    }

    pub async fn rollouts(&self) -> Vec<LivepatchRollout> {
        let rollouts: Api<LivepatchRollout> = Api::all(self.admin.clone());
        rollouts.list(&ListParams::default()).await.unwrap().items
    }

    pub async fn node_object(&self, name: &str) -> Option<NodeLivepatch> {
        Api::all(self.admin.clone()).get_opt(name).await.unwrap()
    }

    pub async fn node_objects(&self) -> Vec<NodeLivepatch> {
        let objects: Api<NodeLivepatch> = Api::all(self.admin.clone());
        objects.list(&ListParams::default()).await.unwrap().items
    }

    /// Names of the nodes that hold a grant of the set.
    pub async fn granted(&self, set: &str) -> Vec<String> {
        let objects = self.node_objects().await;
        let holds = |object: &&NodeLivepatch| object.spec.livepatches.iter().any(|grant| grant.set.name == set);
        objects
            .iter()
            .filter(holds)
            .filter_map(|object| object.metadata.name.clone())
            .collect()
    }

    /// Waits until a set says `status` of `kind`, for that reason if one is given.
    pub async fn wait(&self, set: &str, kind: &str, status: &str, reason: Option<&str>) -> LivepatchSet {
        let began = Instant::now();
        loop {
            // The API server may be away.
            let found: Option<LivepatchSet> = Api::all(self.admin.clone()).get_opt(set).await.ok().flatten();
            let said = found.as_ref().and_then(|set| set.status.as_ref());
            let condition = said.and_then(|status| conditions::find(&status.conditions, kind));
            let current =
                said.is_some_and(|said| Some(said.observed_generation) == found.as_ref().unwrap().metadata.generation);
            if current
                && condition.is_some_and(|c| c.status == status && reason.is_none_or(|reason| c.reason == reason))
            {
                return found.unwrap();
            }
            assert!(
                began.elapsed() < LONG,
                "{set} does not become {kind}={status} ({reason:?}): {}",
                serde_json::to_string_pretty(&said).unwrap()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub async fn wait_complete(&self, set: &str) -> LivepatchSet {
        self.wait(set, conditions::COMPLETE, "True", None).await
    }
}

/// The configuration of a kubectl.
async fn config(kubectl: &Kubectl) -> Config {
    let kubeconfig = Kubeconfig::read_from(kubectl.kubeconfig()).unwrap();
    Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .unwrap()
}

fn lay_over(under: &mut Value, over: Value) {
    match (under, over) {
        (Value::Object(under), Value::Object(over)) => {
            for (key, value) in over {
                lay_over(under.entry(key).or_insert(Value::Null), value);
            }
        }
        (under, over) => *under = over,
    }
}

/// Waits until `holds`.
pub async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !holds().await {
        assert!(began.elapsed() < LONG, "{what} does not come about");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
