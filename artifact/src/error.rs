//! Why something was not pulled. No IO.

use strum::IntoStaticStr;

use crate::bundle::InvalidBundle;
use crate::config::ConfigError;
use crate::digest::Digest;
use crate::reference::Repository;

/// Why a bundle or a module was not pulled.
#[derive(Debug, thiserror::Error, IntoStaticStr)]
#[non_exhaustive]
pub enum PullError {
    /// Every place that may have it was asked and does not have it.
    #[error("{repository} has no {what} {digest}: {message}")]
    DigestUnknown {
        /// The repository that was asked.
        repository: Repository,
        /// `manifest` or `blob`.
        what: &'static str,
        /// What was asked for.
        digest: Digest,
        /// The registry's own words, bounded and printable.
        message: String,
    },
    /// A registry did not answer in time, refused the connection, or answered that it cannot serve now.
    #[error("registry of {repository} is not available: {message}")]
    RegistryUnavailable {
        /// The repository that was asked.
        repository: Repository,
        /// What was seen, for each endpoint that was tried; bounded and printable.
        message: String,
    },
    /// The registry wants other credentials.
    #[error("registry refuses access to {repository}: {message}")]
    Unauthorized {
        /// The repository that was asked.
        repository: Repository,
        /// The registry's own words and which credentials were used; bounded and printable.
        message: String,
    },
    /// The repository lies below none of the allowed prefixes.
    #[error("{repository} is not among the allowed repositories")]
    RepositoryNotAllowed {
        /// The repository that was asked for.
        repository: Repository,
    },
    /// What was pulled is not a bundle as `kubectl livepatch push` makes it.
    #[error("{repository}@{digest} is not a valid livepatch bundle")]
    BundleInvalid {
        /// The repository it came from.
        repository: Repository,
        /// The part that is invalid: the index or one manifest.
        digest: Digest,
        /// What is wrong with it.
        source: Box<InvalidBundle>,
    },
    /// More bytes than any bundle has.
    #[error("{what} {digest} of {repository} is larger than {limit} bytes")]
    TooLarge {
        /// The repository it came from.
        repository: Repository,
        /// What is too large.
        what: &'static str,
        /// Its digest.
        digest: Digest,
        /// The most that is read.
        limit: usize,
    },
    /// The registry sent other bytes than those asked for.
    #[error("{repository} sent {actual} for {what} {expected}")]
    DigestMismatch {
        /// The repository it came from.
        repository: Repository,
        /// What was asked for.
        what: &'static str,
        /// The digest asked for.
        expected: Digest,
        /// The digest of what came.
        actual: Digest,
    },
    /// The registry configuration mounted into the program cannot be used.
    #[error("registry configuration cannot be used")]
    RegistryConfigInvalid {
        /// What is wrong with it.
        #[from]
        source: ConfigError,
    },
}

impl PullError {
    /// Stable reason code for status, events, metrics and logs.
    pub fn reason(&self) -> &'static str {
        self.into()
    }

    /// Whether the same request may succeed later although the artefact stays the same. What is not retryable is a
    /// verdict on the artefact or on what is allowed.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::RegistryUnavailable { .. } | Self::Unauthorized { .. } | Self::RegistryConfigInvalid { .. } => true,
            Self::DigestUnknown { .. }
            | Self::RepositoryNotAllowed { .. }
            | Self::BundleInvalid { .. }
            | Self::TooLarge { .. }
            | Self::DigestMismatch { .. } => false,
        }
    }
}
