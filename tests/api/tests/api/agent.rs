//! The agent, with the kernel in memory, and a real API server: under its own token and the chart's policies.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt as _};
use kube::config::{KubeConfigOptions, Kubeconfig};
use livepatch_agent::health::Health;
use livepatch_agent::metrics::Metrics;
use livepatch_agent::source::{Module, ModuleSource, SourceError};
use livepatch_agent::stop::StopSwitches;
use livepatch_agent::store::sha256_of;
use livepatch_agent::{Agent, Parts, Settings, Times};
use livepatch_artifact::{PullError, Repository};
use livepatch_kernel::{FakeKernel, FakeModule, Kernel as _};
use livepatch_module::{Architecture, Format, InspectError, Inspection, Replace, ReplaceValue};
use livepatch_rig::control_plane::{ControlPlane, Options};
use livepatch_rig::http::Method;
use livepatch_rig::kubectl::Kubectl;
use livepatch_rig::progress::{Waited, wait_for};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use crate::installed::{Installed, NAMESPACE, fresh, node_livepatch};

const LONG: Duration = Duration::from_mins(4);
const LEASE: &str = "livepatch-operator";

/// A registry with one module.
#[derive(Debug)]
struct Registry {
    bytes: Vec<u8>,
    inspection: Inspection,
    away: Mutex<bool>,
}

impl ModuleSource for Registry {
    fn allows(&self, _: &str) -> Result<(), SourceError> {
        Ok(())
    }

    fn pull<'a>(&'a self, repository: &'a str, _: &'a str) -> BoxFuture<'a, Result<Module, SourceError>> {
        let repository: Repository = repository.parse().unwrap();
        let message = "connection refused".to_owned();
        let answer = if *self.away.lock().unwrap() {
            Err(SourceError::Pull {
                source: PullError::RegistryUnavailable { repository, message },
            })
        } else {
            Ok(Module {
                bytes: self.bytes.clone(),
                inspection: self.inspection.clone(),
            })
        };
        async { answer }.boxed()
    }

    fn inspect(&self, bytes: &[u8]) -> Result<Inspection, InspectError> {
        if bytes == self.bytes {
            Ok(self.inspection.clone())
        } else {
            Err(InspectError::NotElf)
        }
    }
}

/// A node whose agent runs in this process.
struct Node {
    name: String,
    admin: Kubectl,
    kernel: FakeKernel,
    registry: Arc<Registry>,
    metrics: Metrics,
    leave: CancellationToken,
    runtime: Option<Runtime>,
    _disk: TempDir,
}

impl Node {
    /// Starts the agent with the rights of `client`.
    fn start(name: &str, admin: &Kubectl, client: &Kubectl) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let kernel = FakeKernel::new();
        let registry = Arc::new(registry(&kernel));
        let disk = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(disk.path().join("proc")).unwrap();
        std::fs::write(disk.path().join("proc/cmdline"), "quiet\n").unwrap();
        let (metrics, leave) = (Metrics::default(), CancellationToken::new());
        let runtime = Runtime::new().unwrap();
        let settings = Settings {
            node: name.to_owned(),
            lease_namespace: NAMESPACE.to_owned(),
            lease_name: LEASE.to_owned(),
            state: disk.path().to_owned(),
            stop: StopSwitches {
                config: disk.path().join("etc"),
                proc: disk.path().join("proc"),
            },
            times: Times::default(),
        };
        let kubeconfig = client.kubeconfig().to_owned();
        let (parts_kernel, parts_registry) = (kernel.clone(), Arc::clone(&registry));
        let (parts_metrics, agent_leave) = (metrics.clone(), leave.clone());
        runtime.spawn(async move {
            let parts = Parts {
                settings,
                client: kube_client(&kubeconfig).await,
                kernel: Arc::new(parts_kernel),
                source: parts_registry,
                metrics: parts_metrics,
                health: Health::default(),
            };
            Agent::new(parts, agent_leave).unwrap().run().await;
        });
        Self {
            name: name.to_owned(),
            admin: admin.clone(),
            kernel,
            registry,
            metrics,
            leave,
            runtime: Some(runtime),
            _disk: disk,
        }
    }

    /// A node of the shared cluster, with the token that its agent's pod would have.
    fn shared(name: &str) -> Self {
        let cluster = Installed::shared();
        lease(cluster.plane());
        let name = fresh(name);
        cluster.node(&name);
        let plane = cluster.plane();
        let token = plane
            .token(NAMESPACE, "livepatch-agent", Some(&format!("livepatch-agent-{name}")))
            .unwrap();
        let client = plane.with_token(&name, &token).unwrap();
        Self::start(&name, plane.admin(), &client)
    }

    fn grant(&self, epoch: &str) -> Value {
        let inspection = &self.registry.inspection;
        json!({
            "set": {"name": "fix", "uid": "set-uid"}, "rollout": "fix-0123456789", "wave": "canary",
            "epoch": epoch, "attempt": 1, "state": "Loaded", "type": "OffBand",
            "module": {
                "name": inspection.name, "repository": "registry.example.com/livepatches/fix",
                "digest": format!("sha256:{}", "a".repeat(64)), "sha256": inspection.sha256,
                "buildID": inspection.build_id, "kernelBuildID": self.kernel.identity().unwrap().build_id,
            },
            "bootID": self.kernel.boot_id().unwrap().0, "kernelTaints": "", "transitionTimeoutSeconds": 60,
        })
    }

    /// The operator writes the spec.
    fn write(&self, spec: &Value) {
        let path = format!("nodelivepatches/{}", self.name);
        Installed::shared()
            .operator()
            .accepted(Method::PATCH, &path, &json!({ "spec": spec }));
    }

    fn wait(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        wait_for(what, LONG, || {
            let object = self.admin.get(&["nodelivepatch", &self.name])?;
            Ok(if holds(&object) {
                Waited::Ready(object)
            } else {
                Waited::NotYet(object["status"].to_string())
            })
        })
        .unwrap()
    }

    /// Waits until the agent says this of its one grant.
    fn told(&self, result: &str, reason: &str) -> Value {
        self.wait(&format!("{result}/{reason}"), |object| {
            let grant = &object["status"]["livepatches"][0];
            grant["result"] == result && grant["reason"] == reason
        })
    }

    /// Waits until the agent has seen the object.
    fn ready(&self) {
        self.wait("the first status", |object| ready_is(object, "True", "UpToDate"));
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.leave.cancel();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(5));
        }
    }
}

fn ready_is(object: &Value, status: &str, reason: &str) -> bool {
    let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
    conditions
        .iter()
        .any(|one| one["type"] == "Ready" && one["status"] == status && one["reason"] == reason)
}

/// Makes the operator's Lease if it is not there, and gives its leadership.
fn lease(plane: &ControlPlane) -> String {
    let object = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": LEASE, "namespace": NAMESPACE}, "spec": {"leaseTransitions": 7},
    });
    // Several tests make it at once.
    let _ = plane.admin().create(&object.to_string());
    let lease = plane.admin().get(&["lease", LEASE, "--namespace", NAMESPACE]).unwrap();
    format!(
        "{}/{}",
        lease["metadata"]["uid"].as_str().unwrap(),
        lease["spec"]["leaseTransitions"]
    )
}

fn registry(kernel: &FakeKernel) -> Registry {
    let module = FakeModule::new("lp_fix", &["cmdline_proc_show"]);
    let build_id = module.build_id.clone().map(|id| id.to_string());
    let bytes = kernel.image(module).to_vec();
    let inspection = Inspection {
        name: "lp_fix".to_owned(),
        format: Format::Static,
        kernel_release: kernel.identity().unwrap().release,
        vermagic: "6.12.0-fake SMP ".to_owned(),
        architecture: Architecture::Amd64,
        build_id,
        sha256: sha256_of(&bytes),
        size: bytes.len() as u64,
        replace: Replace {
            value: ReplaceValue::False,
            evidence: "made up".to_owned(),
        },
        objects: Vec::new(),
        states: Vec::new(),
        shadow_variables: false,
        depends: Vec::new(),
        signature: None,
        license: None,
    };
    Registry {
        bytes,
        inspection,
        away: Mutex::new(false),
    }
}

async fn kube_client(kubeconfig: &Path) -> kube::Client {
    let kubeconfig = Kubeconfig::read_from(kubeconfig).unwrap();
    let mut config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .unwrap();
    config.default_retry = false;
    kube::Client::try_from(config).unwrap()
}

#[test]
fn a_grant_becomes_loaded_in_one_write_under_the_agents_own_token() {
    let node = Node::shared("agent-grant");
    node.ready();
    let epoch = lease(Installed::shared().plane());
    let before = node.metrics.status_writes.get();
    node.write(&json!({"livepatches": [node.grant(&epoch)]}));
    let object = node.told("Loaded", "Effective");
    assert_eq!(node.metrics.status_writes.get(), before + 1);
    let status = &object["status"];
    assert_eq!(status["observedGeneration"], object["metadata"]["generation"]);
    assert_eq!(status["loadedCount"], 1);
    assert_eq!(status["loaded"][0]["owner"], "Set");
    assert_eq!(status["loaded"][0]["set"], "fix");
    assert_eq!(status["kernel"]["release"], "6.12.0-fake");
    assert!(ready_is(&object, "True", "UpToDate"));
    assert_eq!(node.kernel.calls(), ["finit_module lp_fix"]);
    std::thread::sleep(Duration::from_secs(3));
    let later = node.admin.get(&["nodelivepatch", &node.name]).unwrap();
    assert_eq!(
        later["metadata"]["resourceVersion"], object["metadata"]["resourceVersion"],
        "its own write does not make it write again"
    );
}

#[test]
fn a_grant_of_a_former_leadership_is_not_acted_on() {
    let node = Node::shared("agent-epoch");
    let epoch = lease(Installed::shared().plane());
    let (uid, _) = epoch.split_once('/').unwrap();
    node.write(&json!({"livepatches": [node.grant(&format!("{uid}/6"))]}));
    node.told("Pending", "EpochStale");
    assert!(node.kernel.calls().is_empty());
    node.write(&json!({"livepatches": [node.grant(&epoch)]}));
    node.told("Loaded", "Effective");
}

#[test]
fn a_registry_that_is_away_is_waited_for() {
    let node = Node::shared("agent-registry");
    let epoch = lease(Installed::shared().plane());
    *node.registry.away.lock().unwrap() = true;
    node.write(&json!({"livepatches": [node.grant(&epoch)]}));
    let object = node.told("Pending", "RegistryUnavailable");
    assert!(ready_is(&object, "False", "Working"));
    *node.registry.away.lock().unwrap() = false;
    // The kernel's clock is the clock of all waiting, and it stands still in memory.
    wait_for("the load", LONG, || {
        node.kernel.advance(Duration::from_mins(5));
        node.write(&json!({"hold": format!("{:?}", std::time::Instant::now())}));
        node.write(&json!({"hold": ""}));
        std::thread::sleep(Duration::from_millis(500));
        let calls = node.kernel.calls();
        Ok(if calls.is_empty() {
            Waited::NotYet("not yet loaded".to_owned())
        } else {
            Waited::Ready(())
        })
    })
    .unwrap();
    node.told("Loaded", "Effective");
}

#[test]
fn a_node_that_is_held_gets_nothing_until_it_is_let_go() {
    let node = Node::shared("agent-hold");
    let epoch = lease(Installed::shared().plane());
    node.write(&json!({"hold": "label livepatch.dev/skip", "livepatches": [node.grant(&epoch)]}));
    let object = node.told("Pending", "Held");
    assert!(ready_is(&object, "False", "Held"));
    assert!(node.kernel.calls().is_empty());
    node.write(&json!({"hold": ""}));
    node.told("Loaded", "Effective");
}

#[test]
fn an_object_made_anew_gets_a_status_of_its_own() {
    let node = Node::shared("agent-anew");
    node.ready();
    let before = node.admin.get(&["nodelivepatch", &node.name]).unwrap();
    node.admin.run(&["delete", "nodelivepatch", &node.name]).unwrap();
    let uid = before["spec"]["nodeUID"].as_str().unwrap();
    let mut anew = node_livepatch(&node.name, uid);
    anew["metadata"]["ownerReferences"] = before["metadata"]["ownerReferences"].clone();
    Installed::shared()
        .operator()
        .accepted(Method::POST, "nodelivepatches", &anew);
    node.ready();
    let after = node.admin.get(&["nodelivepatch", &node.name]).unwrap();
    assert_ne!(after["metadata"]["uid"], before["metadata"]["uid"]);
}

#[test]
fn an_api_server_that_goes_away_is_found_again() {
    let plane = ControlPlane::start(Options {
        name: "agent-away".to_owned(),
        ..Options::api_only()
    })
    .unwrap();
    let admin = plane.admin();
    let crds = crate::installed::chart().join("templates/crds/nodelivepatches.yaml");
    let crd = std::fs::read_to_string(crds).unwrap();
    // Helm's conditions around it are lines of their own.
    let plain: Vec<&str> = crd.lines().filter(|line| !line.contains("{{")).collect();
    admin.apply(&plain.join("\n")).unwrap();
    admin
        .run(&[
            "wait",
            "--for=condition=Established",
            "crd/nodelivepatches.livepatch.dev",
            "--timeout=60s",
        ])
        .unwrap();
    admin.run(&["create", "namespace", NAMESPACE]).unwrap();
    admin.create(&node_livepatch("away", "node-uid").to_string()).unwrap();
    let epoch = lease(&plane);
    let node = Node::start("away", admin, admin);
    node.ready();
    plane.stop_apiserver(Duration::from_secs(5)).unwrap();
    std::thread::sleep(Duration::from_secs(5));
    plane.start_apiserver().unwrap();
    let grant = json!({"spec": {"livepatches": [node.grant(&epoch)]}});
    admin.patch(&["nodelivepatch", "away"], &grant).unwrap();
    node.told("Loaded", "Effective");
    assert_eq!(node.kernel.calls(), ["finit_module lp_fix"]);
}
