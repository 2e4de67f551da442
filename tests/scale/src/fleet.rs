//! A control plane with the chart installed, and the nodes, which are objects only. Does IO.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::core::v1::Node;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use livepatch_crds::NodeLivepatch;
use livepatch_module::Inspection;
use livepatch_rig::control_plane::{ControlPlane, Options};
use livepatch_rig::helm::Helm;
use livepatch_rig::install::{NAMESPACE, Programs, RELEASE, chart};
use livepatch_rig::kernels::{Kernel, Series};
use livepatch_rig::kubectl::Kubectl;
use livepatch_rig::registry::{Options as RegistryOptions, Registry};
use livepatch_rig::{modules, progress};
use serde_json::{Value, json};

/// Requests at once: more only queue.
pub const AT_ONCE: usize = 64;
/// For an API server to serve each kind of object.
const STARTING: Duration = Duration::from_mins(3);
/// Number of the boot that nodes are in at first.
pub const FIRST_BOOT: usize = 1;
/// For anything to come about.
pub const PATIENCE: Duration = Duration::from_mins(30);
/// The set that is rolled out.
pub const SET: &str = "fix";

/// A livepatch of the kernel that all nodes are said to run, and where it is.
#[derive(Debug, Clone)]
pub struct Livepatch {
    pub bytes: Vec<u8>,
    pub inspection: Inspection,
    pub reference: String,
}

/// How large an object is, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    pub status: usize,
    pub whole: usize,
}

/// The cluster.
pub struct Fleet {
    pub plane: ControlPlane,
    pub admin: Client,
    /// Cumulative livepatches, one for each round in turn.
    pub livepatches: Vec<Livepatch>,
    /// Name and UID of each node.
    pub nodes: Vec<(String, String)>,
    registry: Registry,
}

impl Fleet {
    /// Starts it, with nodes that are ready.
    pub async fn start(nodes: usize, programs: &Programs) -> Result<Self> {
        let registry = Registry::start(RegistryOptions::default())?;
        let livepatches = push(programs, &registry)?;
        let (plane, admin) = plane("scale", &registry.host()).await?;
        let nodes = make_nodes(&admin, nodes).await?;
        Ok(Self {
            plane,
            admin,
            livepatches,
            nodes,
            registry,
        })
    }

    pub fn size(&self) -> usize {
        self.nodes.len()
    }

    /// Repositories that are allowed.
    pub fn repositories(&self) -> String {
        format!("{}/livepatches", self.registry.host())
    }

    /// What is loaded in a round.
    pub fn livepatch(&self, round: usize) -> &Livepatch {
        &self.livepatches[round % self.livepatches.len()]
    }

    /// Applies the set: one wave, with so many nodes at once.
    pub fn ask_for(&self, round: usize, at_once: &Value) -> Result<()> {
        let spec = json!({
            "type": "Cumulative", "nodeSelector": {},
            "template": {"source": {"oci": {"reference": self.livepatch(round).reference}}},
            "rollout": {"minReadySeconds": 0, "maxConcurrent": at_once},
        });
        let set = json!({"apiVersion": "livepatch.dev/v1alpha1", "kind": "LivepatchSet", "metadata": {"name": SET}, "spec": spec});
        self.plane.admin().apply(&set.to_string())?;
        Ok(())
    }

    /// Waits until the operator calls it complete.
    pub fn complete(&self) -> Result<()> {
        self.plane
            .admin()
            .wait_condition(&["lps", SET], ("Complete", "True"), PATIENCE)?;
        Ok(())
    }

    /// Lets the nodes say that they are in another boot, as their kubelets do.
    pub async fn reboot(&self, boot: usize) -> Result<()> {
        progress::line(&format!("  … reboot {} nodes", self.size()));
        let api: Api<Node> = Api::all(self.admin.clone());
        let api = &api;
        let written = stream::iter(&self.nodes).map(|(name, _)| async move {
            let status = json!({"status": {"nodeInfo": {"bootID": boot_id(name, boot)}}});
            api.patch_status(name, &PatchParams::default(), &Patch::Merge(&status))
                .await
        });
        written.buffer_unordered(AT_ONCE).try_collect::<Vec<_>>().await?;
        Ok(())
    }

    /// Bytes of the JSON of an object's status, and of the whole object.
    pub fn sizes(&self, object: &[&str]) -> Result<Sizes> {
        let object = self.plane.admin().get(object)?;
        Ok(Sizes {
            status: object["status"].to_string().len(),
            whole: object.to_string().len(),
        })
    }

    /// The rollout that the set is on, and its status.
    pub fn rollout(&self) -> Result<String> {
        let set = self.plane.admin().get(&["lps", SET])?;
        let name = set["status"]["rollout"].as_str().context("a rollout")?;
        Ok(name.to_owned())
    }

    /// Waits until each node has its object.
    pub async fn objects_made(&self) -> Result<()> {
        let objects: Api<NodeLivepatch> = Api::all(self.admin.clone());
        eventually("an object for each node", async || {
            let page = patiently(async || objects.list_metadata(&ListParams::default()).await).await?;
            Ok(page.items.len() >= self.nodes.len())
        })
        .await
    }

    /// A configuration file with the token of a service account of the chart.
    pub fn kubeconfig_of(&self, account: &str, name: &str) -> Result<PathBuf> {
        let token = self.plane.token(NAMESPACE, account, None)?;
        let kubectl = self.plane.with_token(name, &token)?;
        Ok(kubectl.kubeconfig().to_owned())
    }
}

/// A control plane with the chart installed; its pods never run.
pub async fn plane(name: &str, repository: &str) -> Result<(ControlPlane, Client)> {
    let plane = ControlPlane::start(Options {
        name: name.to_owned(),
        ..Options::api_only()
    })?;
    let image = |name: &str| json!({"repository": format!("registry.example.com/{name}"), "digest": format!("sha256:{}", "a".repeat(64))});
    let values = json!({
        "allowedRepositories": [repository],
        "operator": {"image": image("livepatch-operator")},
        "agent": {"image": image("livepatch-agent")},
    });
    Helm::new(plane.admin())?.upgrade_install(RELEASE, &chart(), NAMESPACE, &values.to_string(), None)?;
    let admin = client(plane.admin()).await?;
    Ok((plane, admin))
}

/// A client that does not retry, as those of operator and agents.
async fn client(kubectl: &Kubectl) -> Result<Client> {
    let kubeconfig = Kubeconfig::read_from(kubectl.kubeconfig())?;
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    config.default_retry = false;
    Ok(Client::try_from(config)?)
}

/// Pushes the cumulative livepatches of the tests as a person does.
fn push(programs: &Programs, registry: &Registry) -> Result<Vec<Livepatch>> {
    let built = modules::build(&Kernel::get(Series::Linux6_12)?)?;
    ["lp_cumulative_v1", "lp_cumulative_v2"]
        .into_iter()
        .map(|name| {
            let file = built.join(format!("{name}.ko"));
            let repository = format!("{}/livepatches/{}", registry.host(), name.replace('_', "-"));
            let mut push = Command::new(programs.plugin());
            push.args(["push", "--plain-http", &repository]).arg(&file);
            let reference = progress::output(&mut push)?.trim().to_owned();
            Ok(Livepatch {
                inspection: inspect(&file)?,
                bytes: fs::read(&file)?,
                reference,
            })
        })
        .collect()
}

fn inspect(file: &Path) -> Result<Inspection> {
    let bytes = fs::read(file).with_context(|| format!("read {}", file.display()))?;
    Ok(livepatch_module::inspect(&bytes)?)
}

/// Makes Linux nodes that are ready, in their first boot.
async fn make_nodes(admin: &Client, number: usize) -> Result<Vec<(String, String)>> {
    progress::line(&format!("  … make {number} nodes"));
    let api: Api<Node> = Api::all(admin.clone());
    let api = &api;
    let made = stream::iter((0..number).map(|index| format!("node-{index:05}"))).map(|name| async move {
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": {"kubernetes.io/os": "linux"}}});
        let node = serde_json::from_value(node)?;
        let node = patiently(async || api.create(&PostParams::default(), &node).await).await?;
        // An admission plugin gives every new node the taint not-ready; a controller would take it away.
        let untainted = json!({"spec": {"taints": null}});
        patiently(async || api.patch(&name, &PatchParams::default(), &Patch::Merge(&untainted)).await).await?;
        let status = json!({"status": {
            "nodeInfo": {
                "architecture": "amd64", "bootID": boot_id(&name, FIRST_BOOT), "containerRuntimeVersion": "", "kernelVersion": "",
                "kubeProxyVersion": "", "kubeletVersion": "v1.36.3", "machineID": "", "operatingSystem": "linux",
                "osImage": "", "systemUUID": "",
            },
            "conditions": [{"type": "Ready", "status": "True", "reason": "Bench"}],
        }});
        patiently(async || api.patch_status(&name, &PatchParams::default(), &Patch::Merge(&status)).await).await?;
        anyhow::Ok((name, node.metadata.uid.context("a uid")?))
    });
    made.buffer_unordered(AT_ONCE).try_collect().await
}

/// Asks again while an API server that has just started says that it is not there yet.
pub async fn patiently<T>(ask: impl AsyncFn() -> kube::Result<T>) -> Result<T> {
    let began = Instant::now();
    loop {
        match ask().await {
            Err(kube::Error::Api(status)) if status.code == 429 && began.elapsed() < STARTING => {
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            answer => return Ok(answer?),
        }
    }
}

/// A boot of a node.
pub fn boot_id(node: &str, boot: usize) -> String {
    format!("boot-{boot}-of-{node}")
}

/// Looks again and again.
pub async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    let began = Instant::now();
    while !holds().await? {
        if began.elapsed() > PATIENCE {
            bail!("{what} did not come about in {} minutes", PATIENCE.as_secs() / 60);
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    Ok(())
}
