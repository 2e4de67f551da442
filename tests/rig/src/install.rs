//! This project on a cluster of the rig: its images built and pushed, its chart installed, its plugin at hand.
//!
//! Does IO. The demo and the cluster tests install in the same way a person does, with Helm.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;

use crate::cluster::Cluster;
use crate::helm::Helm;
use crate::image::{Contents, Image};
use crate::{payload, progress};

/// Namespace of the release.
pub const NAMESPACE: &str = "livepatch-system";
/// Name of the release.
pub const RELEASE: &str = "livepatch-operator";
/// What livepatches are called by on these clusters. No such registry exists: operator and agents are told of a mirror,
/// as they would be in a company.
pub const REPOSITORY: &str = "registry.livepatch.example/livepatches";

/// For the pods of the release to become ready on emulated nodes, image pulls included.
const INSTALLED: Duration = Duration::from_mins(5);

/// The project's programs, built.
#[derive(Debug, Clone)]
pub struct Programs {
    operator: PathBuf,
    agent: PathBuf,
    plugin: PathBuf,
}

impl Programs {
    /// Builds them. Done before virtual machines run, so that neither slows the other down.
    pub fn build() -> Result<Self> {
        let [operator, agent, plugin] =
            payload::releases(["livepatch-operator", "livepatch-agent", "kubectl-livepatch"])?;
        Ok(Self {
            operator,
            agent,
            plugin,
        })
    }

    /// The operator's program.
    pub fn operator(&self) -> &Path {
        &self.operator
    }

    /// The agent's program, which is a command line of its own.
    pub fn agent(&self) -> &Path {
        &self.agent
    }

    /// The plugin's program; kubectl finds it if its folder is in `PATH`.
    pub fn plugin(&self) -> &Path {
        &self.plugin
    }
}

/// The project, installed.
#[derive(Debug)]
pub struct Installation {
    registry: String,
    kubeconfig: PathBuf,
    /// What the plugin is told of registries.
    registry_config: PathBuf,
    programs: Programs,
    helm: Helm,
    values: serde_json::Value,
}

impl Installation {
    /// Pushes the images of operator and agent and installs the chart; returns when its pods are ready.
    pub fn install(cluster: &Cluster, programs: &Programs) -> Result<Self> {
        let registry = cluster.registry();
        let push = |name: &str, program: &Path| -> Result<serde_json::Value> {
            let image = Image::assemble(&Contents::of_program(name, program)?)?;
            registry.push(&image, name, "test")?;
            let digest = &image.manifest().digest;
            Ok(json!({"repository": format!("{}/{name}", registry.host_seen_from_vm()), "digest": digest}))
        };
        let values = json!({
            "allowedRepositories": [REPOSITORY],
            "registry": {"mirrors": [{
                "prefix": REPOSITORY.split('/').next(),
                "endpoint": format!("http://{}", registry.host_seen_from_vm()),
                "only": true,
            }]},
            "operator": {"image": push("livepatch-operator", &programs.operator)?, "dnsPolicy": "Default"},
            "agent": {"image": push("livepatch-agent", &programs.agent)?, "dnsPolicy": "Default"},
        });
        let installation = Self {
            registry: registry.host(),
            kubeconfig: cluster.kubeconfig().to_owned(),
            registry_config: registry_config(cluster)?,
            programs: programs.clone(),
            helm: Helm::new(cluster.kubectl())?,
            values,
        };
        installation.upgrade(&json!({}))?;
        Ok(installation)
    }

    /// `helm upgrade --install --wait`, with these values over those of the installation. What Helm printed.
    pub fn upgrade(&self, over: &serde_json::Value) -> Result<String> {
        let mut values = self.values.clone();
        overlay(&mut values, over);
        self.helm
            .upgrade_install(RELEASE, &chart(), NAMESPACE, &values.to_string(), Some(INSTALLED))
    }

    /// `helm uninstall --wait`. What Helm printed.
    pub fn uninstall(&self) -> Result<String> {
        self.helm.uninstall(RELEASE, NAMESPACE)
    }

    /// Pushes a bundle of modules as a person does. The reference by digest that a set names.
    pub fn push(&self, name: &str, modules: &[PathBuf]) -> Result<String> {
        progress::step(&format!("kubectl livepatch push {name}"), || {
            let target = format!("{}/livepatches/{name}", self.registry);
            let printed = progress::output(self.plugin(&["push", "--plain-http", &target]).args(modules))?;
            let digest = printed.split('@').nth(1).context("push printed no digest")?.trim();
            Ok(format!("{REPOSITORY}/{name}@{digest}"))
        })
    }

    /// The plugin as cluster administrator.
    pub fn plugin(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.programs.plugin);
        command
            .args(arguments)
            .env("KUBECONFIG", &self.kubeconfig)
            .env("DOCKER_CONFIG", &self.registry_config);
        command
    }
}

/// A folder that names the mirror to somebody on this machine, as the chart does to operator and agents.
fn registry_config(cluster: &Cluster) -> Result<PathBuf> {
    let folder = cluster.kubeconfig().with_file_name("registries");
    let mirrors = json!([{
        "prefix": REPOSITORY.split('/').next(),
        "endpoint": format!("http://{}", cluster.registry().host()),
        "only": true,
    }]);
    fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    let file = folder.join("mirrors.yaml");
    fs::write(&file, mirrors.to_string()).with_context(|| format!("write {}", file.display()))?;
    Ok(folder)
}

/// The folder of the chart.
pub fn chart() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../charts/livepatch-operator")
}

/// `over` laid over `values`, object by object.
fn overlay(values: &mut serde_json::Value, over: &serde_json::Value) {
    match (values, over) {
        (serde_json::Value::Object(values), serde_json::Value::Object(over)) => {
            for (key, value) in over {
                overlay(values.entry(key).or_insert(serde_json::Value::Null), value);
            }
        }
        (value, over) => *value = over.clone(),
    }
}
