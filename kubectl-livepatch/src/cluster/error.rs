//! What can go wrong between here and the API server. No IO.

use kube::config::{InferConfigError, KubeconfigError};

/// Why the cluster gave no answer, or not the one that was asked for.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// Neither a kubeconfig nor a pod's service account.
    #[error("no cluster is configured: set $KUBECONFIG or give --kubeconfig")]
    NoConfiguration { source: InferConfigError },
    /// A kubeconfig that cannot be used.
    #[error("the kubeconfig cannot be used")]
    Kubeconfig { source: KubeconfigError },
    /// A configuration from which no client can be made.
    #[error("cannot make a client from the kubeconfig")]
    Client { source: kube::Error },
    /// There is no such node.
    #[error(
        "there is no NodeLivepatch {name}: there is no such node, or it does not run Linux, or the operator has not seen it yet"
    )]
    NoSuchNode { name: String },
    /// There is no such set.
    #[error("there is no LivepatchSet {name}")]
    NoSuchSet { name: String },
    /// The cluster does not know the API.
    #[error("the cluster has no API livepatch.dev/v1alpha1: is livepatch-operator installed?")]
    NotInstalled,
    /// Somebody else wrote in between.
    #[error("{what} was changed by somebody else meanwhile: {message}")]
    Conflict { what: String, message: String },
    /// A right is missing.
    #[error("a right is missing for {what}: {message}")]
    Forbidden { what: String, message: String },
    /// The API server refuses.
    #[error("the API server refuses {what}: {message}")]
    Refused { what: String, message: String },
    /// No answer in time.
    #[error("no answer from the API server within {seconds} s on {what}")]
    NoAnswer { what: String, seconds: u64 },
    /// An object that this version cannot read.
    #[error("{what} cannot be read: the cluster may run a newer version than this plugin")]
    Unreadable { what: String, source: serde_json::Error },
    /// The API server cannot be reached, or anything else.
    #[error("cannot reach the API server for {what}: {message}")]
    Unreachable { what: String, message: String },
}

impl ClusterError {
    /// What kube said of a request for `what`.
    pub(super) fn of(what: &str, source: kube::Error) -> Self {
        let what = what.to_owned();
        match source {
            kube::Error::Api(status) => {
                let message = status.message.clone();
                match status.code {
                    // A path that is not served has no details; an object that is missing has.
                    404 if status.details.as_ref().is_none_or(|details| details.name.is_empty()) => Self::NotInstalled,
                    403 => Self::Forbidden { what, message },
                    409 => Self::Conflict { what, message },
                    _ => Self::Refused { what, message },
                }
            }
            kube::Error::SerdeError(source) => Self::Unreadable { what, source },
            // kube's errors print their causes themselves.
            other => Self::Unreachable {
                what,
                message: other.to_string(),
            },
        }
    }

    /// Whether it is worth while to read again and decide anew.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Conflict { .. })
    }
}
