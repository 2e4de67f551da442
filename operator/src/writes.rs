//! One request to the API server: bounded in time, counted, and its outcome told apart by what it means. Does IO.

use crate::api_error::words;
use crate::metrics::Metrics;
use crate::watch::world::Kind;
use kube::api::{PatchParams, PostParams};
use std::time::Duration;
use tokio::time::timeout;

/// The field manager of all writes.
pub const FIELD_MANAGER: &str = "livepatch-operator";
/// A request that was not answered by then is given up; the API server itself gives up after 60 s.
const REQUEST: Duration = Duration::from_secs(10);
/// Most writes under way at once. More only wait in the API server's queue: measured, the throughput is the same.
pub const CONCURRENCY: usize = 16;

/// A kind of request, as a metric label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verb {
    /// GET of one object.
    Get,
    /// POST of a new object.
    Create,
    /// PATCH of a spec.
    Patch,
    /// PATCH of a status.
    PatchStatus,
    /// DELETE.
    Delete,
}

impl Verb {
    /// The label.
    pub fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Create => "create",
            Self::Patch => "patch",
            Self::PatchStatus => "patch_status",
            Self::Delete => "delete",
        }
    }
}

/// Why a request did not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The object is another one by now (409): decide again when the watch has shown it.
    #[error("the {resource} changed in the meantime")]
    Conflict {
        /// The resource.
        resource: Kind,
    },
    /// There is one of that name already (409 on create).
    #[error("the {resource} is there already")]
    Exists {
        /// The resource.
        resource: Kind,
    },
    /// It is gone (404).
    #[error("the {resource} is gone")]
    Gone {
        /// The resource.
        resource: Kind,
    },
    /// The API server is too busy (429): certainly not done.
    #[error("the API server has too many requests")]
    Throttled,
    /// The API server refused it: certainly not done. The source's words are in the message.
    #[error("{verb} of {resource} refused: {}", words(source), verb = verb.name())]
    Refused {
        /// What was asked.
        verb: Verb,
        /// Of what.
        resource: Kind,
        /// The answer.
        source: kube::Error,
    },
    /// It is not known whether it was done.
    #[error("{verb} of {resource}: outcome unknown: {message}", verb = verb.name())]
    Unknown {
        /// What was asked.
        verb: Verb,
        /// Of what.
        resource: Kind,
        /// What was seen.
        message: String,
    },
}

impl WriteError {
    /// Reason code for log and metric.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Conflict { .. } => "Conflict",
            Self::Exists { .. } => "AlreadyExists",
            Self::Gone { .. } => "NotFound",
            Self::Throttled => "TooManyRequests",
            Self::Refused { .. } => "Refused",
            Self::Unknown { .. } => "Unknown",
        }
    }

    /// Whether the request may have been carried out, or may still be.
    pub fn is_unknown(&self) -> bool {
        matches!(self, Self::Unknown { .. })
    }

    fn of(verb: Verb, resource: Kind, error: kube::Error) -> Self {
        let kube::Error::Api(status) = &error else {
            let message = words(&error);
            return Self::Unknown {
                verb,
                resource,
                message,
            };
        };
        match status.code {
            409 if verb == Verb::Create => Self::Exists { resource },
            409 => Self::Conflict { resource },
            404 => Self::Gone { resource },
            429 => Self::Throttled,
            400..500 => Self::Refused {
                verb,
                resource,
                source: error,
            },
            // A timeout of the storage comes as 500 or 504 and says nothing of what the storage did.
            _ => {
                let message = format!("{} {}", status.code, status.message);
                Self::Unknown {
                    verb,
                    resource,
                    message,
                }
            }
        }
    }
}

/// Waits for one request.
pub async fn request<T>(
    metrics: &Metrics,
    verb: Verb,
    resource: Kind,
    call: impl Future<Output = kube::Result<T>>,
) -> Result<T, WriteError> {
    let result = match timeout(REQUEST, call).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(WriteError::of(verb, resource, error)),
        Err(_) => Err(WriteError::Unknown {
            verb,
            resource,
            message: format!("no answer within {} s", REQUEST.as_secs()),
        }),
    };
    metrics.count_request(verb, resource, result.as_ref().err().map_or("Done", WriteError::reason));
    result
}

/// Parameters of every patch.
pub fn patch_params() -> PatchParams {
    PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    }
    .validation_strict()
}

/// Parameters of every creation.
pub fn post_params() -> PostParams {
    PostParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    }
}
