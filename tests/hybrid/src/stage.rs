//! What the nodes of a test process share: a control plane with the chart installed, a registry, the programs. IO.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use livepatch_rig::control_plane::{ControlPlane, Options};
use livepatch_rig::helm::Helm;
use livepatch_rig::http::{self, Method};
use livepatch_rig::install;
use livepatch_rig::kernels::{Kernel, Series};
use livepatch_rig::registry::{self, Registry};
use livepatch_rig::{modules, payload, progress};
use serde_json::{Value, json};

/// Namespace of the release.
pub const NAMESPACE: &str = install::NAMESPACE;
/// Name of the operator's Lease and of its service account.
pub const OPERATOR: &str = "livepatch-operator";
/// What the modules' repositories are called; the nodes are told of a mirror.
pub const REPOSITORY: &str = install::REPOSITORY;

const GROUP: &str = "/apis/livepatch.dev/v1alpha1";

/// A control plane with the chart installed, a registry, and the programs.
#[derive(Debug)]
pub struct Stage {
    plane: ControlPlane,
    registry: Registry,
    programs: &'static Programs,
    operator: http::Client,
    epoch: String,
    pushed: Mutex<BTreeMap<PathBuf, Module>>,
}

/// The programs that run in guests, and the plugin that pushes.
#[derive(Debug)]
pub struct Programs {
    /// The agent.
    pub agent: PathBuf,
    /// What the tests need in a guest.
    pub guest: PathBuf,
    plugin: PathBuf,
    _folder: tempfile::TempDir,
}

/// A module in the registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Module {
    /// Name in the kernel's spelling.
    pub name: String,
    /// Repository, by the name that sets use.
    pub repository: String,
    /// Digest of its manifest.
    pub digest: String,
    /// SHA-256 of its file.
    pub sha256: String,
    /// Its build id.
    pub build_id: String,
}

impl Programs {
    /// Builds them, once in a process; without what only a debugger reads, since they travel in initial ram disks.
    fn get() -> Result<&'static Self> {
        static PROGRAMS: LazyLock<Result<Programs, String>> =
            LazyLock::new(|| Programs::build().map_err(|error| format!("{error:#}")));
        PROGRAMS
            .as_ref()
            .map_err(|error| anyhow!("build the programs: {error}"))
    }

    fn build() -> Result<Self> {
        let folder = tempfile::tempdir().context("create a folder for programs")?;
        let stripped = |program: &Path, name: &str| -> Result<PathBuf> {
            let small = folder.path().join(name);
            progress::run(Command::new("strip").arg("-o").arg(&small).arg(program))?;
            Ok(small)
        };
        // Those that the cluster's tests need too: built once for both.
        let programs = install::Programs::build()?;
        Ok(Self {
            agent: stripped(programs.agent(), "livepatch-agent")?,
            guest: stripped(
                &payload::program("livepatch-tests-hybrid", "hybrid-guest")?,
                "hybrid-guest",
            )?,
            plugin: programs.plugin().to_owned(),
            _folder: folder,
        })
    }
}

impl Stage {
    /// The one that the tests of this process share.
    pub fn shared() -> Result<&'static Self> {
        static STAGE: LazyLock<Result<Stage, String>> =
            LazyLock::new(|| Stage::start("hybrid").map_err(|error| format!("{error:#}")));
        STAGE.as_ref().map_err(|error| anyhow!("set the stage: {error}"))
    }

    /// One of a test's own, for a test that stops the API server.
    pub fn start(name: &str) -> Result<Self> {
        let programs = Programs::get()?;
        for series in Series::ALL {
            modules_for(&Kernel::get(series)?)?;
        }
        let registry = Registry::start(registry::Options::default())?;
        let plane = ControlPlane::start(Options {
            name: name.to_owned(),
            ..Options::api_only()
        })?;
        Helm::new(plane.admin())?.upgrade_install(
            install::RELEASE,
            &install::chart(),
            NAMESPACE,
            &values().to_string(),
            None,
        )?;
        let operator = http::Client::new(Some(plane.authority().pem()), Duration::from_mins(1))?
            .with_token(&plane.token(NAMESPACE, OPERATOR, None)?);
        let lease = json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": OPERATOR, "namespace": NAMESPACE}, "spec": {"leaseTransitions": 1},
        });
        plane.admin().create(&lease.to_string())?;
        let lease = plane.admin().get(&["lease", OPERATOR, "--namespace", NAMESPACE])?;
        let uid = lease["metadata"]["uid"].as_str().context("a Lease without uid")?;
        Ok(Self {
            epoch: format!("{uid}/1"),
            plane,
            registry,
            programs,
            operator,
            pushed: Mutex::default(),
        })
    }

    /// The control plane.
    pub fn plane(&self) -> &ControlPlane {
        &self.plane
    }

    /// The registry.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The programs for guests.
    pub fn programs(&self) -> &Programs {
        self.programs
    }

    /// The present leadership.
    pub fn epoch(&self) -> &str {
        &self.epoch
    }

    /// A module of `tests/modules/hybrid` for a kernel, pushed.
    pub fn module(&self, kernel: &Kernel, name: &str) -> Result<Module> {
        self.push(&modules_for(kernel)?.join(format!("{name}.ko")))
    }

    /// Pushes a module file, once.
    pub fn push(&self, file: &Path) -> Result<Module> {
        let mut pushed = self.pushed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(module) = pushed.get(file) {
            return Ok(module.clone());
        }
        let stem = file.file_stem().context("a module without a name")?.to_string_lossy();
        let path = format!("livepatches/{}", stem.replace('_', "-"));
        let mut push = Command::new(&self.programs.plugin);
        push.args(["push", "--plain-http", "--quiet", "--output", "json"])
            .arg(format!("{}/{path}", self.registry.host()))
            .arg(file)
            .env("DOCKER_CONFIG", "/nonexistent");
        let told: Value = serde_json::from_str(&progress::output(&mut push)?).context("read what push tells")?;
        let text = |field: &str| -> Result<String> {
            let value = told["modules"][0][field].as_str();
            Ok(value
                .with_context(|| format!("push tells no {field}: {told}"))?
                .to_owned())
        };
        let module = Module {
            name: text("name")?,
            repository: REPOSITORY.replace("livepatches", &path),
            digest: text("manifest")?,
            sha256: text("sha256")?,
            build_id: text("buildID")?,
        };
        pushed.insert(file.to_owned(), module.clone());
        Ok(module)
    }

    /// Makes a node, the pod of its agent and its `NodeLivepatch`; returns a kubeconfig for the agent.
    pub fn register(&self, node: &str) -> Result<String> {
        let admin = self.plane.admin();
        admin.create(&json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": node}}).to_string())?;
        let uid = admin.get(&["node", node])?["metadata"]["uid"].clone();
        let pod = format!("livepatch-agent-{node}");
        admin.create(&agent_pod(&pod, node).to_string())?;
        let object = json!({
            "apiVersion": "livepatch.dev/v1alpha1", "kind": "NodeLivepatch",
            "metadata": {"name": node}, "spec": {"nodeUID": uid},
        });
        self.send(Method::POST, "nodelivepatches", &object)?;
        let token = self.plane.token(NAMESPACE, "livepatch-agent", Some(&pod))?;
        Ok(self.plane.token_kubeconfig(&token))
    }

    /// A request of the operator about the project's own objects; what it does not know the API server refuses.
    pub fn send(&self, method: Method, path: &str, body: &Value) -> Result<Value> {
        let url = format!("{}{GROUP}/{path}?fieldValidation=Strict", self.plane.url());
        let (media_type, bytes) = match (&method, body) {
            (_, Value::Null) => ("", Vec::new()),
            (&Method::PATCH, body) => ("application/merge-patch+json", body.to_string().into_bytes()),
            (_, body) => ("application/json", body.to_string().into_bytes()),
        };
        let answer = self.operator.send(method, &url, media_type, &bytes)?;
        let told: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        ensure!(
            (200..300).contains(&answer.status),
            "{path}: {} {}\n{body}",
            answer.status,
            told["message"]
        );
        Ok(told)
    }
}

/// The modules of `tests/modules/hybrid`, built for a kernel.
pub fn modules_for(kernel: &Kernel) -> Result<PathBuf> {
    modules::build_from(kernel, &Path::new(env!("CARGO_MANIFEST_DIR")).join("../modules/hybrid"))
}

/// A copy of a module that is another build: the same name and functions, another build id and so another SHA-256.
pub fn rebuilt(file: &Path, folder: &Path) -> Result<PathBuf> {
    let mut bytes = fs::read(file).with_context(|| format!("read {}", file.display()))?;
    // elf.h: a note of type 3 (NT_GNU_BUILD_ID) and owner "GNU\0", after the lengths of owner and content.
    let mark = [4, 0, 0, 0, 20, 0, 0, 0, 3, 0, 0, 0, b'G', b'N', b'U', 0];
    let Some(place) = bytes.windows(mark.len()).position(|window| window == mark) else {
        bail!("{} has no build id", file.display())
    };
    bytes[place + mark.len()] ^= 0xff;
    let copy = folder.join(file.file_name().context("a module without a name")?);
    fs::write(&copy, bytes).with_context(|| format!("write {}", copy.display()))?;
    Ok(copy)
}

/// The least that has to be said to install the chart; nothing of it is started, there are no controllers.
fn values() -> Value {
    let digest = format!("sha256:{}", "a".repeat(64));
    let image = |name: &str| json!({"repository": format!("registry.example.com/{name}"), "digest": digest});
    json!({
        "allowedRepositories": [REPOSITORY],
        "operator": {"image": image("livepatch-operator")},
        "agent": {"image": image("livepatch-agent")},
    })
}

fn agent_pod(name: &str, node: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "nodeName": node,
            "serviceAccountName": "livepatch-agent",
            "automountServiceAccountToken": false,
            "containers": [{"name": "agent", "image": "registry.example.com/agent"}],
        },
    })
}
