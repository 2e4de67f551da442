//! Writing the status, when it changed. IO.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use livepatch_crds::{NodeLivepatch, NodeLivepatchStatus};

use crate::agent::{Agent, Reported};
use crate::conclude::chain;
use crate::decide::{Decision, IDLE};
use crate::fetch::Seen;
use crate::journal::Failure;
use crate::retry::Subject;
use crate::status;

/// Wait before a kernel that could not be read is read again.
const BLIND: Duration = Duration::from_secs(30);

impl Agent {
    /// Writes what was seen and decided. Gives back when to try again if it could not.
    pub(crate) async fn report(&mut self, seen: &Seen, decision: &Decision) -> Duration {
        let Some(object) = seen.object.clone() else { return IDLE };
        let before = self.standing_status(&object);
        let status = status::status(
            &object,
            &seen.truth,
            &self.memory.journal,
            decision,
            &before,
            Timestamp::now(),
        );
        self.write(&object, &before, status).await
    }

    /// Writes that the kernel cannot be read. Gives back when to read it again.
    pub(crate) async fn report_blind(&mut self, why: &Failure) -> Duration {
        tracing::error!(reason = %why.reason, "{}", why.message);
        self.metrics.failed(&why.reason);
        let object = self.desired.borrow().object().cloned();
        if let Some(object) = object {
            let before = self.standing_status(&object);
            let status = status::blind(&object, why, &before, Timestamp::now());
            self.write(&object, &before, status).await;
        }
        BLIND
    }

    /// The status that the API server has: what this agent wrote last, unless the watch has seen a later one.
    fn standing_status(&self, object: &NodeLivepatch) -> NodeLivepatchStatus {
        let number = |version: &Option<String>| version.as_deref().and_then(|text| text.parse::<u64>().ok());
        match &self.memory.reported {
            Some(reported)
                if object.metadata.uid.as_ref() == Some(&reported.uid)
                    && number(&object.metadata.resource_version) <= number(&reported.version) =>
            {
                reported.status.clone()
            }
            _ => object.status.clone().unwrap_or_default(),
        }
    }

    async fn write(
        &mut self,
        object: &Arc<NodeLivepatch>,
        before: &NodeLivepatchStatus,
        status: NodeLivepatchStatus,
    ) -> Duration {
        let Some(uid) = object.metadata.uid.clone() else {
            return IDLE;
        };
        let has_one = object.status.is_some() || self.memory.reported.as_ref().is_some_and(|told| told.uid == uid);
        if has_one && status == *before {
            return IDLE;
        }
        let now = self.kernel.now();
        if let Some(waiting) = self.memory.retries.waiting(&Subject::Report, now) {
            return waiting.until.since(now);
        }
        match self.cluster.write_status(&uid, &status).await {
            Ok(version) => {
                self.metrics.status_writes.inc();
                self.memory.retries.forget(&Subject::Report);
                self.memory.reported = Some(Reported { uid, version, status });
                IDLE
            }
            Err(error) => {
                let failure = Failure::new(error.reason(), &chain(&error));
                tracing::warn!(reason = error.reason(), "cannot write the status: {}", failure.message);
                self.metrics.failed(error.reason());
                self.memory
                    .retries
                    .failed(Subject::Report, failure, now, Self::jitter());
                self.memory
                    .retries
                    .last(&Subject::Report)
                    .map_or(IDLE, |waiting| waiting.until.since(now))
            }
        }
    }
}
