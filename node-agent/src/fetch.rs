//! What is known at the beginning of a step, and the two live reads before something new is begun. IO.

use std::sync::Arc;
use std::time::Duration;

use livepatch_crds::NodeLivepatch;
use livepatch_crds::node::Grant;
use livepatch_kernel::KernelError;

use crate::agent::{Agent, Memory};
use crate::conclude::chain;
use crate::confirm;
use crate::decide::Snapshot;
use crate::journal::Failure;
use crate::truth::Truth;

/// What is known at the beginning of a step.
pub(crate) struct Seen {
    pub object: Option<Arc<NodeLivepatch>>,
    pub truth: Truth,
    pub stop: Option<String>,
}

impl Seen {
    pub fn snapshot<'a>(&'a self, memory: &'a Memory, settle: Duration) -> Snapshot<'a> {
        Snapshot {
            spec: self.object.as_ref().map(|object| &object.spec),
            truth: &self.truth,
            journal: &memory.journal,
            stop: self.stop.as_deref(),
            prepared: &memory.prepared,
            retries: &memory.retries,
            blockers: &memory.blockers,
            settle,
        }
    }
}

impl Agent {
    /// Reads the kernel and the stop switches, and takes what the watch last said.
    pub(crate) async fn fetch(&mut self) -> Result<Seen, KernelError> {
        self.health.beat();
        let object = self.desired.borrow_and_update().object().cloned();
        let names = self.memory.journal.modules_under_way();
        let (kernel, switches) = (Arc::clone(&self.kernel), self.settings.stop.clone());
        let read = move || (Truth::read(kernel.as_ref(), &names), switches.read());
        let (truth, stop) = self.blocking(read).await;
        let mut truth = truth?;
        self.memory.unreturned.retain(|name| truth.livepatch(name).is_none());
        truth.coming_or_going.extend(self.memory.unreturned.iter().cloned());
        truth.pinned = self.memory.references.pinned(&truth);
        self.metrics
            .loaded
            .set(i64::try_from(truth.livepatches.len()).unwrap_or(i64::MAX));
        Ok(Seen { object, truth, stop })
    }

    /// Whether a grant still stands: the object and the Lease, read from the API server itself, right before the load.
    pub(crate) async fn confirm(&self, grant: &Grant) -> Result<(), Failure> {
        let unavailable = |error: crate::cluster::ClusterError| Failure::new(error.reason(), &chain(&error));
        let (object, epoch) = tokio::join!(self.cluster.node(), self.cluster.epoch());
        let object = object.map_err(unavailable)?;
        let known = self.desired.borrow().object().map(|known| known.metadata.uid.clone());
        let read = object
            .as_ref()
            .map(|object| (object.metadata.uid.as_deref(), &object.spec));
        confirm::by_object(grant, known.flatten().as_deref(), read)?;
        confirm::by_lease(grant, epoch.map_err(unavailable)?.as_deref())
    }
}
