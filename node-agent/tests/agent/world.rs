//! A node with its kernel, disk, registry and API server, all in memory but the disk.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, patch};
use axum::{Json, Router};
use futures::future::{BoxFuture, FutureExt as _};
use kube::Client;
use livepatch_agent::health::Health;
use livepatch_agent::journal::{Entry, Journal, JournalFile};
use livepatch_agent::metrics::Metrics;
use livepatch_agent::source::{Module, ModuleSource, SourceError};
use livepatch_agent::stop::StopSwitches;
use livepatch_agent::store::sha256_of;
use livepatch_agent::watch::Desired;
use livepatch_agent::{Agent, Parts, Settings, Times};
use livepatch_artifact::{PullError, Repository};
use livepatch_crds::node::{DesiredState, Grant, GrantStatus, ModuleReference, SetReference};
use livepatch_crds::policy::GrantPolicy;
use livepatch_crds::{LivepatchType, NodeLivepatch, NodeLivepatchSpec, NodeLivepatchStatus};
use livepatch_kernel::{BootId, FakeKernel, FakeModule, Kernel};
use livepatch_module::{Architecture, Format, Function, InspectError, Inspection, Object, Replace, ReplaceValue};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

pub const EPOCH: &str = "lease-uid/3";
pub const REPOSITORY: &str = "registry.example.com/livepatches/fix";

/// A module of the registry.
#[derive(Debug, Clone)]
pub struct Shelved {
    pub bytes: Vec<u8>,
    pub inspection: Inspection,
}

/// The registry.
#[derive(Debug, Default)]
pub struct Shelf {
    pub modules: Mutex<BTreeMap<String, Shelved>>,
    pub away: Mutex<bool>,
    /// It takes the question and never answers.
    pub silent: Mutex<bool>,
}

impl ModuleSource for Shelf {
    fn allows(&self, repository: &str) -> Result<(), SourceError> {
        let repository: Repository = repository.parse().unwrap();
        if repository.registry() == "registry.example.com" {
            return Ok(());
        }
        Err(SourceError::Pull {
            source: PullError::RepositoryNotAllowed { repository },
        })
    }

    fn pull<'a>(&'a self, repository: &'a str, digest: &'a str) -> BoxFuture<'a, Result<Module, SourceError>> {
        let found = self.modules.lock().unwrap().get(digest).cloned();
        if *self.silent.lock().unwrap() {
            return futures::future::pending().boxed();
        }
        let repository: Repository = repository.parse().unwrap();
        let source = if *self.away.lock().unwrap() {
            PullError::RegistryUnavailable {
                repository,
                message: "connection refused".to_owned(),
            }
        } else if let Some(Shelved { bytes, inspection }) = found {
            return async { Ok(Module { bytes, inspection }) }.boxed();
        } else {
            let digest = digest.parse().unwrap();
            PullError::DigestUnknown {
                repository,
                what: "manifest",
                digest,
                message: String::new(),
            }
        };
        async { Err(SourceError::Pull { source }) }.boxed()
    }

    fn inspect(&self, bytes: &[u8]) -> Result<Inspection, InspectError> {
        let modules = self.modules.lock().unwrap();
        let found = modules.values().find(|module| module.bytes == bytes);
        found
            .map(|module| module.inspection.clone())
            .ok_or(InspectError::NotElf)
    }
}

/// What the API server holds.
#[derive(Debug)]
pub struct Server {
    pub object: Value,
    pub transitions: i32,
    pub away: bool,
    pub status_writes: usize,
    pub reads: usize,
}

type Shared = Arc<Mutex<Server>>;

fn router(server: Shared) -> Router {
    async fn object(State(server): State<Shared>) -> Result<Json<Value>, StatusCode> {
        let mut server = server.lock().unwrap();
        server.reads += 1;
        if server.away {
            Err(StatusCode::SERVICE_UNAVAILABLE)
        } else {
            Ok(Json(server.object.clone()))
        }
    }
    async fn lease(State(server): State<Shared>) -> Result<Json<Value>, StatusCode> {
        let server = server.lock().unwrap();
        if server.away {
            return Err(StatusCode::SERVICE_UNAVAILABLE);
        }
        Ok(Json(json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": "livepatch-operator", "uid": "lease-uid"},
            "spec": {"leaseTransitions": server.transitions},
        })))
    }
    async fn status(State(server): State<Shared>, Json(patch): Json<Value>) -> Result<Json<Value>, StatusCode> {
        let mut server = server.lock().unwrap();
        if server.away {
            return Err(StatusCode::SERVICE_UNAVAILABLE);
        }
        server.status_writes += 1;
        let version: u64 = server.object["metadata"]["resourceVersion"]
            .as_str()
            .unwrap()
            .parse()
            .unwrap();
        server.object["metadata"]["resourceVersion"] = json!((version + 1).to_string());
        server.object["status"] = patch["status"].clone();
        Ok(Json(server.object.clone()))
    }
    let node = "/apis/livepatch.dev/v1alpha1/nodelivepatches/{name}";
    Router::new()
        .route(node, get(object))
        .route(&format!("{node}/status"), patch(status))
        .route(
            "/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{name}",
            get(lease),
        )
        .with_state(server)
}

/// One node.
pub struct World {
    pub kernel: FakeKernel,
    pub shelf: Arc<Shelf>,
    pub server: Shared,
    pub disk: TempDir,
}

impl World {
    pub fn new() -> Self {
        let disk = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(disk.path().join("proc")).unwrap();
        std::fs::create_dir_all(disk.path().join("state")).unwrap();
        std::fs::write(disk.path().join("proc/cmdline"), "quiet\n").unwrap();
        let object = json!({
            "apiVersion": "livepatch.dev/v1alpha1", "kind": "NodeLivepatch",
            "metadata": {"name": "n1", "uid": "object-uid", "generation": 1, "resourceVersion": "1"},
            "spec": {"nodeUID": "node-uid"},
        });
        let server = Server {
            object,
            transitions: 3,
            away: false,
            status_writes: 0,
            reads: 0,
        };
        let kernel = FakeKernel::new();
        // Each look at a transition is a place to die at: a few of them tell as much as hundreds.
        kernel.transition_takes(Duration::from_millis(50));
        Self {
            kernel,
            shelf: Arc::default(),
            server: Arc::new(Mutex::new(server)),
            disk,
        }
    }

    /// Puts a livepatch into the registry, makes the kernel know its image, and gives the grant for it.
    pub fn publish(&self, set: &str, name: &str, functions: &[&str], replace: ReplaceValue) -> Grant {
        self.publish_as(set, FakeModule::new(name, functions), replace)
    }

    pub fn publish_as(&self, set: &str, mut module: FakeModule, replace: ReplaceValue) -> Grant {
        module.replace = replace != ReplaceValue::False;
        let build_id = module.build_id.clone().map(|id| id.to_string());
        let name = module.name.clone();
        let object = &module.objects[0];
        let objects = vec![Object {
            name: object.name.clone(),
            functions: object
                .functions
                .iter()
                .map(|function| Function {
                    name: function.name.clone(),
                    position: 1,
                })
                .collect(),
            callbacks: Vec::new(),
        }];
        let states = module.states.iter().map(|(id, version)| livepatch_module::State {
            id: *id,
            version: *version,
        });
        let states = states.collect();
        let bytes = self.kernel.image(module).to_vec();
        let sha256 = sha256_of(&bytes);
        let inspection = Inspection {
            name: name.clone(),
            format: Format::Static,
            kernel_release: "6.12.0-fake".to_owned(),
            vermagic: "6.12.0-fake SMP ".to_owned(),
            architecture: Architecture::Amd64,
            build_id: build_id.clone(),
            sha256: sha256.clone(),
            size: bytes.len() as u64,
            replace: Replace {
                value: replace,
                evidence: "made up".to_owned(),
            },
            objects,
            states,
            shadow_variables: false,
            depends: Vec::new(),
            signature: None,
            license: Some("GPL".to_owned()),
        };
        let digest = format!("sha256:{}", sha256_of(format!("manifest of {name}").as_bytes()));
        self.shelf
            .modules
            .lock()
            .unwrap()
            .insert(digest.clone(), Shelved { bytes, inspection });
        let livepatch_type = if set.starts_with("cumulative") {
            LivepatchType::Cumulative
        } else {
            LivepatchType::OffBand
        };
        Grant {
            set: SetReference {
                name: set.to_owned(),
                uid: format!("uid-of-{set}"),
            },
            rollout: format!("{set}-1"),
            wave: "canary".to_owned(),
            epoch: EPOCH.to_owned(),
            attempt: 1,
            boot_id: self.kernel.boot_id().unwrap().0,
            kernel_taints: String::new(),
            state: DesiredState::Loaded,
            livepatch_type,
            module: ModuleReference {
                name,
                repository: REPOSITORY.to_owned(),
                digest,
                sha256,
                build_id: build_id.unwrap_or_default(),
                kernel_build_id: self.kernel_build_id(),
            },
            transition_timeout_seconds: 60,
            start: 1,
            failed: None,
            back: false,
            previous: None,
            policy: GrantPolicy::default(),
        }
    }

    /// The same livepatch, described differently.
    pub fn describe(&self, grant: &Grant, change: impl FnOnce(&mut Inspection)) {
        let mut modules = self.shelf.modules.lock().unwrap();
        change(&mut modules.get_mut(&grant.module.digest).unwrap().inspection);
    }

    /// Passes until nothing is done for a minute of them.
    pub async fn rest(&self, agent: &mut Agent, passes: usize) {
        for _ in 0..passes {
            self.pass(agent).await;
        }
    }

    /// What the status says of a set's grant.
    pub fn told(&self, set: &str) -> GrantStatus {
        self.status()
            .livepatches
            .into_iter()
            .find(|told| told.set == set)
            .unwrap()
    }

    /// The condition Degraded, as reason and message.
    pub fn degraded(&self) -> (String, String) {
        let status = self.status();
        let degraded = status
            .conditions
            .into_iter()
            .find(|condition| condition.type_ == "Degraded")
            .unwrap();
        (degraded.reason, degraded.message)
    }

    pub fn kernel_build_id(&self) -> String {
        self.kernel.identity().unwrap().build_id.unwrap().to_string()
    }

    /// The operator writes the spec.
    pub fn grant(&self, grants: &[Grant]) {
        self.change_spec(|spec| spec.livepatches = grants.to_vec());
    }

    pub fn change_spec(&self, change: impl FnOnce(&mut NodeLivepatchSpec)) {
        let mut server = self.server.lock().unwrap();
        let mut object: NodeLivepatch = serde_json::from_value(server.object.clone()).unwrap();
        change(&mut object.spec);
        *object.metadata.generation.as_mut().unwrap() += 1;
        let version: u64 = object.metadata.resource_version.unwrap().parse().unwrap();
        object.metadata.resource_version = Some((version + 1).to_string());
        server.object = serde_json::to_value(object).unwrap();
    }

    pub fn object(&self) -> NodeLivepatch {
        serde_json::from_value(self.server.lock().unwrap().object.clone()).unwrap()
    }

    pub fn status(&self) -> NodeLivepatchStatus {
        self.object().status.unwrap_or_default()
    }

    /// What the status says of the grants: result and reason.
    pub fn results(&self) -> Vec<(String, String)> {
        let told = |grant: &GrantStatus| (format!("{:?}", grant.result), grant.reason.clone());
        self.status().livepatches.iter().map(told).collect()
    }

    pub fn ready(&self) -> String {
        let status = self.status();
        let ready = status
            .conditions
            .iter()
            .find(|condition| condition.type_ == "Ready")
            .unwrap();
        format!("{}/{}", ready.status, ready.reason)
    }

    pub fn parts(&self, kernel: Arc<dyn Kernel>) -> Parts {
        let settings = Settings {
            node: "n1".to_owned(),
            lease_namespace: "livepatch-system".to_owned(),
            lease_name: "livepatch-operator".to_owned(),
            state: self.disk.path().join("state"),
            stop: StopSwitches {
                config: self.disk.path().join("etc"),
                proc: self.disk.path().join("proc"),
            },
            times: Times::default(),
        };
        Parts {
            settings,
            client: Client::new(router(Arc::clone(&self.server)), "default"),
            kernel,
            source: Arc::clone(&self.shelf) as Arc<dyn ModuleSource>,
            metrics: Metrics::default(),
            health: Health::default(),
        }
    }

    pub fn agent(&self) -> Agent {
        self.agent_on(Arc::new(self.kernel.clone()))
    }

    pub fn agent_on(&self, kernel: Arc<dyn Kernel>) -> Agent {
        self.agent_until(kernel, CancellationToken::new())
    }

    pub fn agent_until(&self, kernel: Arc<dyn Kernel>, leave: CancellationToken) -> Agent {
        Agent::new(self.parts(kernel), leave).unwrap()
    }

    /// One pass with what the API server holds; the time until the next one passes.
    pub async fn pass(&self, agent: &mut Agent) -> Duration {
        if !self.server.lock().unwrap().away {
            agent.tell(Desired::Object(Arc::new(self.object())));
        }
        let recheck = agent.pass().await;
        self.kernel.advance(recheck);
        recheck
    }

    /// A new agent and so many passes of it.
    pub async fn live(&self, passes: usize) -> Agent {
        let mut agent = self.agent();
        for _ in 0..passes {
            self.pass(&mut agent).await;
        }
        agent
    }

    pub fn reboot(&self, boot: u8) {
        self.kernel
            .reboot(BootId(format!("00000000-0000-4000-8000-0000000000{boot:02}")));
    }

    pub fn loaded(&self) -> Vec<String> {
        let livepatches = self.kernel.livepatches().unwrap();
        livepatches
            .iter()
            .filter(|one| one.standing.is_effective())
            .map(|one| one.name.clone())
            .collect()
    }

    /// How often the kernel was asked to load something.
    pub fn loads(&self, name: &str) -> usize {
        let call = format!("finit_module {name}");
        self.kernel.calls().iter().filter(|made| **made == call).count()
    }

    pub fn journal_file(&self) -> JournalFile {
        JournalFile::in_directory(&self.disk.path().join("state"))
    }

    pub fn journal(&self) -> Journal {
        self.journal_file().read().unwrap().unwrap()
    }

    pub fn entry(&self, grant: &Grant) -> Option<Entry> {
        self.journal().entry_for(grant).cloned()
    }
}
