//! One node's agent: wakes, passes over everything, sleeps. Holds what is remembered between two passes.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use livepatch_crds::NodeLivepatchStatus;
use livepatch_crds::node::Blocker;
use livepatch_kernel::Kernel;
use livepatch_module::Inspection;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::cluster::Cluster;
use crate::conclude::chain;
use crate::decide::{IDLE, JournalState, Step, decide};
use crate::health::Health;
use crate::journal::{Failure, JournalError, JournalFile};
use crate::metrics::{Metrics, StepLabel};
use crate::references::References;
use crate::retry::Retries;
use crate::settings::Settings;
use crate::source::ModuleSource;
use crate::store::{Store, StoreError};
use crate::watch::{Desired, run as run_watch};

/// Most steps in one pass; more are taken in the next.
const MAX_STEPS: usize = 256;

/// What an agent is made of.
pub struct Parts {
    /// What its flags say.
    pub settings: Settings,
    /// The API server, by a client that does not retry.
    pub client: Client,
    /// The kernel.
    pub kernel: Arc<dyn Kernel>,
    /// Where modules come from.
    pub source: Arc<dyn ModuleSource>,
    /// What it counts.
    pub metrics: Metrics,
    /// Its sign of life.
    pub health: Health,
}

/// One node's agent. The caller holds the [host lock](crate::lock::HostLock) while it lives.
pub struct Agent {
    pub(crate) settings: Settings,
    pub(crate) cluster: Cluster,
    client: Client,
    pub(crate) kernel: Arc<dyn Kernel>,
    pub(crate) source: Arc<dyn ModuleSource>,
    pub(crate) metrics: Metrics,
    pub(crate) health: Health,
    pub(crate) file: JournalFile,
    pub(crate) store: Store,
    pub(crate) memory: Memory,
    pub(crate) desired: watch::Receiver<Desired>,
    sender: watch::Sender<Desired>,
    pub(crate) leave: CancellationToken,
}

/// What is remembered between two passes. All of it can be lost: what must not be is in the journal.
pub(crate) struct Memory {
    pub journal: JournalState,
    /// Modules in the local store, verified in this process.
    pub prepared: BTreeMap<String, Inspection>,
    pub retries: Retries,
    /// Tasks in the way of the transition that runs.
    pub blockers: Vec<Blocker>,
    /// Modules whose `finit_module` has not returned.
    pub unreturned: BTreeSet<String>,
    /// Modules no longer in use that are referenced.
    pub references: References,
    pub reported: Option<Reported>,
    /// Whether the store was gone through since the start.
    pub tidied: bool,
}

/// The last status that was written.
pub(crate) struct Reported {
    pub uid: String,
    pub version: Option<String>,
    pub status: NodeLivepatchStatus,
}

impl Agent {
    /// An agent with what its journal says. A journal that cannot be read is not an error: the agent then reports that
    /// and changes nothing.
    pub fn new(parts: Parts, leave: CancellationToken) -> Result<Self, StoreError> {
        let Parts {
            settings,
            client,
            kernel,
            source,
            metrics,
            health,
        } = parts;
        let store = Store::in_directory(&settings.state)?;
        let file = JournalFile::in_directory(&settings.state);
        let journal = state_of(file.read());
        let (sender, desired) = watch::channel(Desired::Unknown);
        Ok(Self {
            cluster: Cluster::new(client.clone(), &settings, metrics.clone()),
            settings,
            client,
            kernel,
            source,
            metrics,
            health,
            file,
            store,
            memory: Memory {
                journal,
                prepared: BTreeMap::new(),
                retries: Retries::default(),
                blockers: Vec::new(),
                unreturned: BTreeSet::new(),
                references: References::default(),
                reported: None,
                tidied: false,
            },
            desired,
            sender,
            leave,
        })
    }

    /// Says in place of the watch what the object is, for those who call [`Self::pass`] themselves.
    pub fn tell(&self, desired: Desired) {
        self.sender.send_replace(desired);
    }

    /// What says so with every change, for those who watch in its place.
    pub fn sender(&self) -> watch::Sender<Desired> {
        self.sender.clone()
    }

    /// Works until it is told to leave. A transition that runs then is left to the next agent.
    pub async fn run(mut self) {
        let watching = tokio::spawn({
            let (client, node) = (self.client.clone(), self.settings.node.clone());
            let (sender, leave) = (self.sender.clone(), self.leave.clone());
            async move { run_watch(client, &node, sender, leave).await }
        });
        let leave = self.leave.clone();
        while !leave.is_cancelled() {
            let recheck = self.pass().await;
            self.rest(recheck).await;
        }
        watching.abort();
        self.leave();
    }

    /// Notes that this agent was told to leave: a boot that ends now ended cleanly.
    pub fn leave(&mut self) {
        let JournalState::Known(journal) = &mut self.memory.journal else {
            return;
        };
        journal.boots.left = true;
        if let Err(error) = self.file.write(journal) {
            tracing::warn!(reason = error.reason(), "cannot note the end: {}", chain(&error));
        }
    }

    /// Until something changed, or it is time to look again.
    pub async fn rest(&mut self, recheck: Duration) {
        tokio::select! {
            () = self.leave.cancelled() => return,
            () = tokio::time::sleep(recheck) => return,
            () = changed(&mut self.desired, self.memory.reported.as_ref()) => {}
        }
        tokio::time::sleep(self.settings.times.debounce).await;
    }

    /// One pass: steps until nothing more is to be done. Gives back when to look again at the latest.
    pub async fn pass(&mut self) -> Duration {
        self.metrics.passes.inc();
        for _ in 0..MAX_STEPS {
            if self.leave.is_cancelled() {
                return IDLE;
            }
            let seen = match self.fetch().await {
                Ok(seen) => seen,
                Err(error) => return self.report_blind(&Failure::new(error.reason(), &chain(&error))).await,
            };
            let decision = decide(&seen.snapshot(&self.memory, self.settings.times.settle));
            let mut recheck = decision.recheck;
            if matches!(decision.step, Step::Nothing | Step::RemoveLeftover(_)) {
                recheck = recheck.min(self.report(&seen, &decision).await);
            }
            if decision.step == Step::Nothing {
                self.tidy(&seen);
                return recheck;
            }
            self.metrics
                .steps
                .get_or_create(&StepLabel {
                    step: name(&decision.step),
                })
                .inc();
            self.apply(decision.step, &seen).await;
        }
        Duration::from_secs(1)
    }

    /// A random number in 0..1.
    #[expect(clippy::cast_precision_loss, reason = "a random number loses nothing by it")]
    pub(crate) fn jitter() -> f64 {
        (RandomState::new().build_hasher().finish() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// The journal as the decisions see it.
pub(crate) fn state_of(read: Result<Option<crate::journal::Journal>, JournalError>) -> JournalState {
    match read {
        Ok(None) => JournalState::Missing,
        Ok(Some(journal)) => JournalState::Known(journal),
        Err(error) => JournalState::Unreadable(Failure::new(error.reason(), &chain(&error))),
    }
}

/// Until the watch says something other than what this agent wrote itself.
async fn changed(desired: &mut watch::Receiver<Desired>, reported: Option<&Reported>) {
    loop {
        if desired.changed().await.is_err() {
            // The sender lives as long as the agent.
            return std::future::pending().await;
        }
        let desired = desired.borrow_and_update();
        let own = desired.object().zip(reported).is_some_and(|(object, reported)| {
            reported.version.is_some() && object.metadata.resource_version == reported.version
        });
        if !own {
            return;
        }
    }
}

fn name(step: &Step) -> &'static str {
    match step {
        Step::Nothing => "nothing",
        Step::Write(_) => "write",
        Step::Prepare(_) => "prepare",
        Step::Load(_) => "load",
        Step::Disable(_) => "disable",
        Step::Follow(_) => "follow",
        Step::RemoveLeftover(_) => "remove-leftover",
    }
}
