//! The cluster that all chapters share, and the few things that each of them does.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use livepatch_rig::cluster::{Cluster, ClusterSpec};
use livepatch_rig::install::{Installation, NAMESPACE, Programs};
use livepatch_rig::kernels::{Kernel, Series};
use livepatch_rig::kubectl::Kubectl;
use livepatch_rig::modules;
use livepatch_rig::node_vm::NodeSpec;
use serde_json::Value;

/// The node of the canary wave.
pub const CANARY: &str = "canary";
/// For anything that is expected to happen.
pub const PATIENCE: Duration = Duration::from_mins(5);

/// A cluster with the project installed.
pub struct Stage {
    pub installation: Installation,
    pub cluster: Cluster,
}

impl Stage {
    pub fn set() -> Result<Self> {
        for series in Series::ALL {
            modules::build(&Kernel::get(series)?)?;
        }
        let programs = Programs::build()?;
        let cluster = Cluster::start(ClusterSpec::new([
            NodeSpec::new(CANARY, Series::Linux6_12).label("pool", "canary"),
            NodeSpec::new("bookworm", Series::Linux6_1),
            NodeSpec::new("backports", Series::Linux6_12),
        ]))?;
        let installation = Installation::install(&cluster, &programs);
        if installation.is_err() {
            cluster.keep();
        }
        Ok(Self {
            installation: installation?,
            cluster,
        })
    }

    pub fn keep(&self) {
        self.cluster.keep();
    }

    pub fn kubectl(&self) -> &Kubectl {
        self.cluster.kubectl()
    }

    /// What a person sees who runs the plugin, which must end with `code`.
    pub fn plugin(&self, code: i32, arguments: &[&str]) -> Result<String> {
        let output = self
            .installation
            .plugin(arguments)
            .output()
            .context("start the plugin")?;
        let said = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        ensure!(
            output.status.code() == Some(code),
            "{arguments:?} ended with {}: {said}",
            output.status
        );
        Ok(said)
    }

    /// The module of that name for both kernels.
    pub fn modules(name: &str) -> Result<Vec<PathBuf>> {
        Series::ALL
            .into_iter()
            .map(|series| Ok(modules::build(&Kernel::get(series)?)?.join(format!("{name}.ko"))))
            .collect()
    }

    /// Pushes the module of that name for both kernels.
    pub fn push(&self, name: &str) -> Result<String> {
        self.installation.push(&name.replace('_', "-"), &Self::modules(name)?)
    }

    /// Applies a Cumulative set over all nodes, canary first.
    pub fn apply_set(&self, name: &str, reference: &str) -> Result<()> {
        self.apply_set_over(name, reference, "{}")
    }

    /// As [`Self::apply_set`], over some nodes.
    pub fn apply_set_over(&self, name: &str, reference: &str, selector: &str) -> Result<()> {
        self.apply_set_with(name, reference, selector, "", "maxConcurrent: 1, minReadySeconds: 2")
    }

    /// As [`Self::apply_set_over`], with more said of the canary wave and something else of the rollout.
    pub fn apply_set_with(&self, name: &str, reference: &str, selector: &str, wave: &str, rollout: &str) -> Result<()> {
        self.kubectl().apply(&format!(
            "{{apiVersion: livepatch.dev/v1alpha1, kind: LivepatchSet, metadata: {{name: {name}}}, spec: {{type: Cumulative, \
             nodeSelector: {selector}, template: {{source: {{oci: {{reference: '{reference}'}}}}}}, rollout: {{waves: [{{name: \
             canary, nodeSelector: {{matchLabels: {{pool: canary}}}}, soakSeconds: 2{wave}}}], {rollout}}}}}}}"
        ))?;
        Ok(())
    }

    pub fn complete(&self, set: &str) -> Result<Value> {
        self.kubectl()
            .wait_condition(&["lps", set], ("Complete", "True"), PATIENCE)
    }

    /// Waits until a set's condition Ready has a reason.
    pub fn ready_reason(&self, set: &str, reason: &str) -> Result<Value> {
        self.kubectl()
            .wait(&format!("{set} to say {reason}"), &["lps", set], PATIENCE, |value| {
                let ready = condition(value, "Ready");
                if ready["reason"] == reason {
                    Ok(())
                } else {
                    Err(ready.to_string())
                }
            })
    }

    /// The line that the effective livepatch adds to /proc/version, on every node.
    pub fn effective(&self) -> Result<BTreeMap<String, String>> {
        self.shown_in("/proc/version")
    }

    /// The line that a livepatch adds to a file of /proc, on every node; empty where there is none.
    pub fn shown_in(&self, file: &str) -> Result<BTreeMap<String, String>> {
        let lines = self.cluster.on_each_node(|node| {
            let line = node.shell(&format!("grep ^livepatch: {file} || true"))?;
            Ok((
                node.name().to_owned(),
                line.trim().trim_start_matches("livepatch: ").to_owned(),
            ))
        })?;
        Ok(lines.into_iter().collect())
    }

    /// Fails unless every node shows this marker.
    pub fn all_effective(&self, marker: &str) -> Result<()> {
        let effective = self.effective()?;
        ensure!(
            effective.values().all(|seen| seen == marker),
            "expected {marker} everywhere: {effective:?}"
        );
        Ok(())
    }

    /// Names of the nodes with a grant of a set's current rollout.
    pub fn granted(&self, rollout: &str) -> Result<Vec<String>> {
        let objects = self.kubectl().get(&["nlp"])?;
        let items = objects["items"].as_array().context("a list of NodeLivepatches")?;
        let has = |item: &&Value| {
            item["spec"]["livepatches"]
                .as_array()
                .is_some_and(|entries| entries.iter().any(|e| e["rollout"] == rollout))
        };
        Ok(items
            .iter()
            .filter(has)
            .filter_map(|item| item["metadata"]["name"].as_str())
            .map(str::to_owned)
            .collect())
    }

    /// The name of the rollout of a set's current revision, once it is there.
    pub fn rollout(&self, set: &str) -> Result<String> {
        let value = self
            .kubectl()
            .wait("the rollout to be made", &["lps", set], PATIENCE, |value| {
                let current = value["metadata"]["generation"] == value["status"]["observedGeneration"];
                let made = value["status"]["rollout"].is_string();
                if current && made {
                    Ok(())
                } else {
                    Err(value["status"].to_string())
                }
            })?;
        Ok(value["status"]["rollout"].as_str().context("a name")?.to_owned())
    }

    /// The pods of a component, by the node they run on.
    pub fn pods(&self, component: &str) -> Result<BTreeMap<String, Value>> {
        let namespace = format!("--namespace={NAMESPACE}");
        let selector = format!("--selector=app.kubernetes.io/name=livepatch-{component}");
        let pods = self.kubectl().get(&[&namespace, "pods", &selector])?;
        let items = pods["items"].as_array().context("a list of pods")?;
        Ok(items
            .iter()
            .filter(|pod| pod["metadata"]["deletionTimestamp"].is_null())
            .map(|pod| {
                (
                    pod["spec"]["nodeName"].as_str().unwrap_or_default().to_owned(),
                    pod.clone(),
                )
            })
            .collect())
    }

    /// The metrics of every operator, read on the nodes they run on, as one text.
    pub fn operator_metrics(&self) -> Result<String> {
        let namespace = format!("--namespace={NAMESPACE}");
        let pods = self.kubectl().get(&[
            &namespace,
            "pods",
            "--selector=app.kubernetes.io/name=livepatch-operator",
        ])?;
        let mut text = String::new();
        for pod in pods["items"].as_array().context("a list of pods")? {
            let (node, address) = (pod["spec"]["nodeName"].as_str(), pod["status"]["podIP"].as_str());
            let (Some(node), Some(address)) = (node, address) else {
                continue;
            };
            let get = format!("busybox wget -q -O - http://{address}:8080/metrics");
            text.push_str(&self.cluster.node(node)?.shell(&get)?);
        }
        Ok(text)
    }

    /// Looks again and again until `holds` is true or time is up.
    pub fn eventually(what: &str, holds: impl Fn() -> Result<bool>) -> Result<()> {
        let started = Instant::now();
        while started.elapsed() < PATIENCE {
            if holds()? {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(500));
        }
        bail!("{what} did not happen within {} s", PATIENCE.as_secs())
    }
}

/// A condition of an object; null if it has none of that type.
pub fn condition<'a>(object: &'a Value, kind: &str) -> &'a Value {
    static NONE: Value = Value::Null;
    object["status"]["conditions"]
        .as_array()
        .and_then(|conditions| conditions.iter().find(|condition| condition["type"] == kind))
        .unwrap_or(&NONE)
}
