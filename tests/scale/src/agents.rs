//! The agents of all nodes, with kernels in memory. Their code is that of a node; they share one process and one watch.

use std::collections::HashMap;
use std::path::Path;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures::TryStreamExt as _;
use futures::future::{BoxFuture, FutureExt as _};
use kube::Api;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event, watcher};
use livepatch_agent::health::Health;
use livepatch_agent::metrics::Metrics;
use livepatch_agent::source::{Module, ModuleSource, SourceError};
use livepatch_agent::stop::StopSwitches;
use livepatch_agent::watch::Desired;
use livepatch_agent::{Agent, Parts, Settings, Times};
use livepatch_crds::NodeLivepatch;
use livepatch_kernel::{BootId, BuildId, FakeKernel, FakeModule, Identity};
use livepatch_module::{InspectError, Inspection};
use livepatch_rig::install::NAMESPACE;
use livepatch_rig::progress;
use tempfile::TempDir;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

use crate::fleet::{AT_ONCE, FIRST_BOOT, Fleet, Livepatch, boot_id, eventually};
use crate::speaker;

/// After a load, until a reboot is no more than a reboot: ten minutes on a node.
const PROBATION: Duration = Duration::from_secs(1);

/// All agents.
pub struct Agents {
    fleet: Arc<Fleet>,
    reported: Arc<Reported>,
    leave: CancellationToken,
    disk: Arc<TempDir>,
    boot: usize,
}

/// What the shared watch showed last of each node in its present boot: the modules that are loaded.
type Reported = Mutex<HashMap<String, Vec<String>>>;

/// The modules, as all agents get them.
struct Source {
    livepatches: Vec<Livepatch>,
}

impl Agents {
    /// Starts one for each node, all in their first boot, some of which work at once: one machine does the work of all,
    /// and more would only wait for each other.
    pub fn start(fleet: Arc<Fleet>) -> Result<Self> {
        let disk = tempfile::Builder::new()
            .prefix("livepatch-scale-")
            .tempdir_in("/dev/shm")?;
        Self::boot(fleet, Arc::new(disk), FIRST_BOOT, AT_ONCE)
    }

    /// The same nodes after a power cut: their kernels are new, their disks are what they were, and all agents speak at
    /// once.
    pub fn after_power_cut(self) -> Result<Self> {
        self.leave.cancel();
        Self::boot(
            Arc::clone(&self.fleet),
            Arc::clone(&self.disk),
            self.boot + 1,
            Semaphore::MAX_PERMITS,
        )
    }

    fn boot(fleet: Arc<Fleet>, disk: Arc<TempDir>, boot: usize, at_once: usize) -> Result<Self> {
        progress::line(&format!("  … start {} agents", fleet.size()));
        let leave = CancellationToken::new();
        let reported = Arc::new(Reported::default());
        let source = Arc::new(Source {
            livepatches: fleet.livepatches.clone(),
        });
        let turn = Arc::new(Semaphore::new(at_once));
        let mut ears = HashMap::new();
        for (name, uid) in &fleet.nodes {
            let client = speaker::agent_of(&fleet.admin, name, uid)?;
            let state = disk.path().join(name);
            let kernel = kernel(&source, BootId(boot_id(name, boot)))?;
            let parts = parts(name, &state, kernel.clone(), client, Arc::clone(&source))?;
            let agent = Agent::new(parts, leave.clone()).context("start an agent")?;
            ears.insert(name.clone(), agent.sender());
            tokio::spawn(live(agent, kernel, Arc::clone(&turn), leave.clone()));
        }
        tokio::spawn(hear(
            Api::all(fleet.admin.clone()),
            ears,
            boot,
            Arc::clone(&reported),
            leave.clone(),
        ));
        Ok(Self {
            fleet,
            reported,
            leave,
            disk,
            boot,
        })
    }

    /// Waits until each has told of its present boot.
    pub async fn all_reported(&self) -> Result<()> {
        eventually("a report of each agent", async || {
            Ok(self.reported().len() == self.fleet.size())
        })
        .await
    }

    /// Waits until each reports the livepatch of a round, and no other.
    pub async fn all_run(&self, round: usize) -> Result<()> {
        let name = &self.fleet.livepatch(round).inspection.name;
        eventually("the livepatch on each node", async || {
            let reported = self.reported();
            Ok(reported.len() == self.fleet.size() && reported.values().all(|loaded| loaded[..] == [name.clone()]))
        })
        .await
    }

    fn reported(&self) -> std::sync::MutexGuard<'_, HashMap<String, Vec<String>>> {
        self.reported.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Agents {
    fn drop(&mut self) {
        self.leave.cancel();
    }
}

/// The kernel of a node, in its present boot.
fn kernel(source: &Source, boot: BootId) -> Result<FakeKernel> {
    let kernel = FakeKernel::new();
    for livepatch in &source.livepatches {
        kernel.provide(&livepatch.bytes, FakeModule::of(&livepatch.inspection, true));
    }
    let release = source
        .livepatches
        .first()
        .map(|one| one.inspection.kernel_release.clone());
    let identity = Identity {
        release: release.context("a livepatch")?,
        version: "#1 SMP".to_owned(),
        architecture: "x86_64".to_owned(),
        build_id: Some(BuildId::from_bytes(&[0xab; 20])?),
    };
    kernel.set_identity(identity, boot);
    Ok(kernel)
}

fn parts(name: &str, state: &Path, kernel: FakeKernel, client: kube::Client, source: Arc<Source>) -> Result<Parts> {
    let proc = state.join("proc");
    std::fs::create_dir_all(&proc).context("make the folder of an agent")?;
    std::fs::write(proc.join("cmdline"), "quiet\n").context("write a command line")?;
    Ok(Parts {
        settings: Settings {
            node: name.to_owned(),
            lease_namespace: NAMESPACE.to_owned(),
            lease_name: "livepatch-operator".to_owned(),
            state: state.to_owned(),
            stop: StopSwitches {
                config: state.join("etc"),
                proc,
            },
            times: Times {
                settle: PROBATION,
                ..Times::default()
            },
        },
        client,
        kernel: Arc::new(kernel),
        source,
        metrics: Metrics::default(),
        health: Health::default(),
    })
}

/// One agent, as it runs on a node.
async fn live(mut agent: Agent, kernel: FakeKernel, turn: Arc<Semaphore>, leave: CancellationToken) {
    // What it has to do begins with what it hears.
    let mut pause = Duration::MAX;
    while !leave.is_cancelled() {
        let began = Instant::now();
        agent.rest(pause).await;
        // Its kernel's clock stands still otherwise.
        kernel.advance(began.elapsed());
        let Ok(_turn) = turn.acquire().await else { return };
        pause = agent.pass().await;
    }
}

/// The one watch. Each agent hears of its own object only.
async fn hear(
    api: Api<NodeLivepatch>,
    ears: HashMap<String, watch::Sender<Desired>>,
    boot: usize,
    reported: Arc<Reported>,
    leave: CancellationToken,
) {
    let mut events = pin!(watcher(api, watcher::Config::default()).default_backoff());
    loop {
        let event = tokio::select! {
            event = events.try_next() => event,
            () = leave.cancelled() => return,
        };
        let object = match event {
            Ok(Some(Event::Apply(object) | Event::InitApply(object))) => object,
            Ok(Some(_)) | Err(_) => continue,
            Ok(None) => return,
        };
        let Some(ear) = object.metadata.name.as_ref().and_then(|name| ears.get(name)) else {
            continue;
        };
        note(&object, boot, &reported);
        ear.send_replace(Desired::Object(Arc::new(object)));
    }
}

fn note(object: &NodeLivepatch, boot: usize, reported: &Reported) {
    let (Some(name), Some(status)) = (&object.metadata.name, &object.status) else {
        return;
    };
    if status.boot_id != boot_id(name, boot) {
        return;
    }
    let settled = |module: &&livepatch_crds::node::LoadedLivepatch| module.enabled && !module.transition;
    let loaded = status.loaded.iter().filter(settled).map(|module| module.module.clone());
    let mut reported = reported.lock().unwrap_or_else(PoisonError::into_inner);
    reported.insert(name.clone(), loaded.collect());
}

impl ModuleSource for Source {
    fn allows(&self, _: &str) -> Result<(), SourceError> {
        Ok(())
    }

    fn pull<'a>(&'a self, repository: &'a str, _: &'a str) -> BoxFuture<'a, Result<Module, SourceError>> {
        let found = self
            .livepatches
            .iter()
            .find(|one| one.reference.starts_with(&format!("{repository}@")));
        let answer = found
            .map(|one| Module {
                bytes: one.bytes.clone(),
                inspection: one.inspection.clone(),
            })
            .ok_or(SourceError::Malformed { what: "repository" });
        async { answer }.boxed()
    }

    fn inspect(&self, bytes: &[u8]) -> Result<Inspection, InspectError> {
        livepatch_module::inspect(bytes)
    }
}
