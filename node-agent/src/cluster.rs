//! The agent's calls to the API server, each under a time limit. IO.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Patch, PatchParams, ValidationDirective};
use kube::{Api, Client};
use livepatch_crds::{NodeLivepatch, NodeLivepatchStatus};
use serde_json::json;
use thiserror::Error;

use crate::metrics::{Metrics, RequestLabels};
use crate::settings::Settings;

/// Field manager of the agents, and their product name in `User-Agent`.
pub const MANAGER: &str = "livepatch-agent";

/// Why the API server gave no answer that can be used.
#[derive(Debug, Error)]
pub enum ClusterError {
    /// No answer in time.
    #[error("no answer from the API server to {call} within {} s", limit.as_secs())]
    Timeout {
        /// The call.
        call: &'static str,
        /// The limit.
        limit: Duration,
    },
    /// An error, from the API server or on the way to it.
    #[error("{call} failed")]
    Call {
        /// The call.
        call: &'static str,
        /// The error.
        source: Box<kube::Error>,
    },
}

impl ClusterError {
    /// The reason code for status, events, metrics and logs.
    pub fn reason(&self) -> &'static str {
        match self.status() {
            Some(401 | 403) => "ApiServerRefused",
            _ => "ApiServerUnavailable",
        }
    }

    /// The HTTP status, if the API server answered.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Call { source, .. } => match source.as_ref() {
                kube::Error::Api(status) => Some(status.code),
                _ => None,
            },
            Self::Timeout { .. } => None,
        }
    }
}

/// The API server, as far as an agent may see it.
#[derive(Clone)]
pub struct Cluster {
    nodes: Api<NodeLivepatch>,
    leases: Api<Lease>,
    node: String,
    lease: String,
    limit: Duration,
    metrics: Metrics,
}

/// One kind of call.
#[derive(Clone, Copy)]
struct Call {
    /// As an error tells it.
    what: &'static str,
    verb: &'static str,
    resource: &'static str,
}

const READ_NODE: Call = Call {
    what: "reading the NodeLivepatch",
    verb: "get",
    resource: "nodelivepatches",
};
const READ_LEASE: Call = Call {
    what: "reading the operator's Lease",
    verb: "get",
    resource: "leases",
};
const WRITE_STATUS: Call = Call {
    what: "writing the status",
    verb: "patch_status",
    resource: "nodelivepatches",
};

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster")
            .field("node", &self.node)
            .finish_non_exhaustive()
    }
}

impl Cluster {
    /// The API server behind a client, which should not retry by itself: whoever calls here decides that.
    pub fn new(client: Client, settings: &Settings, metrics: Metrics) -> Self {
        Self {
            nodes: Api::all(client.clone()),
            leases: Api::namespaced(client, &settings.lease_namespace),
            node: settings.node.clone(),
            lease: settings.lease_name.clone(),
            limit: settings.times.call,
            metrics,
        }
    }

    /// The node's object as it is now: a quorum read, never one from a cache.
    pub async fn node(&self) -> Result<Option<NodeLivepatch>, ClusterError> {
        self.call(READ_NODE, self.nodes.get_opt(&self.node)).await
    }

    /// The present leadership of the operator, as a grant spells it; `None` if there is no Lease.
    pub async fn epoch(&self) -> Result<Option<String>, ClusterError> {
        let lease = self.call(READ_LEASE, self.leases.get_opt(&self.lease)).await?;
        Ok(lease.and_then(|lease| {
            let transitions = lease.spec.and_then(|spec| spec.lease_transitions).unwrap_or(0);
            Some(format!("{}/{transitions}", lease.metadata.uid?))
        }))
    }

    /// Writes the status of the object with this uid, and gives back its resource version.
    pub async fn write_status(&self, uid: &str, status: &NodeLivepatchStatus) -> Result<Option<String>, ClusterError> {
        // The uid is a precondition: a node made anew under the same name has another object.
        let patch = Patch::Merge(json!({ "metadata": { "uid": uid }, "status": status }));
        let parameters = PatchParams {
            field_manager: Some(MANAGER.to_owned()),
            field_validation: Some(ValidationDirective::Strict),
            ..PatchParams::default()
        };
        let written = self
            .call(WRITE_STATUS, self.nodes.patch_status(&self.node, &parameters, &patch))
            .await?;
        Ok(written.metadata.resource_version)
    }

    async fn call<T>(
        &self,
        call: Call,
        request: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, ClusterError> {
        let Call { what, verb, resource } = call;
        let answer = match tokio::time::timeout(self.limit, request).await {
            Err(_) => Err(ClusterError::Timeout {
                call: what,
                limit: self.limit,
            }),
            Ok(Err(source)) => Err(ClusterError::Call {
                call: what,
                source: Box::new(source),
            }),
            Ok(Ok(answer)) => Ok(answer),
        };
        let outcome = answer.as_ref().map_or_else(ClusterError::reason, |_| "Done");
        let labels = RequestLabels {
            verb,
            resource,
            outcome,
        };
        self.metrics.requests.get_or_create(&labels).inc();
        answer
    }
}
