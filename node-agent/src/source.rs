//! Where modules come from. The registry's implementation does IO.

use std::sync::Arc;

use futures::future::{BoxFuture, FutureExt as _};
use livepatch_artifact::{Digest, ModuleError, PullError, Puller, Repository};
use livepatch_module::{InspectError, Inspection};
use thiserror::Error;

/// A module whose file agrees with its description.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Module {
    /// The uncompressed file.
    pub bytes: Vec<u8>,
    /// What the file says, read here.
    pub inspection: Inspection,
}

/// Why a module could not be had.
#[derive(Debug, Error)]
pub enum SourceError {
    /// The grant does not name a module in a registry.
    #[error("the grant does not name a module in a registry: {what} is malformed")]
    Malformed {
        /// The malformed part.
        what: &'static str,
    },
    /// It was not pulled.
    #[error("cannot pull the module")]
    Pull {
        /// Why not.
        source: PullError,
    },
    /// What was pulled contradicts itself.
    #[error("the module is not what its artefact says")]
    Contradiction {
        /// How.
        source: ModuleError,
    },
}

impl SourceError {
    /// The reason code for status, events, metrics and logs.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Malformed { .. } => "GrantInvalid",
            Self::Pull { source } => source.reason(),
            Self::Contradiction { source } => source.reason(),
        }
    }

    /// Whether the same request may succeed later.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Pull { source } => source.is_retryable(),
            Self::Malformed { .. } | Self::Contradiction { .. } => false,
        }
    }
}

/// Where modules come from: a registry, or what stands in for one where thousands of agents run in one process.
pub trait ModuleSource: Send + Sync {
    /// Whether modules of this repository may be loaded here at all.
    fn allows(&self, repository: &str) -> Result<(), SourceError>;

    /// The module with this manifest, read and compared with its description.
    fn pull<'a>(&'a self, repository: &'a str, digest: &'a str) -> BoxFuture<'a, Result<Module, SourceError>>;

    /// Reads a module file.
    fn inspect(&self, bytes: &[u8]) -> Result<Inspection, InspectError>;
}

/// Modules from the allowed repositories.
#[derive(Debug, Clone)]
pub struct Registry {
    puller: Arc<Puller>,
}

impl Registry {
    /// Modules that `puller` may read.
    pub fn new(puller: Arc<Puller>) -> Self {
        Self { puller }
    }
}

impl ModuleSource for Registry {
    fn allows(&self, repository: &str) -> Result<(), SourceError> {
        let repository: Repository = repository
            .parse()
            .map_err(|_| SourceError::Malformed { what: "repository" })?;
        self.puller
            .allowed()
            .check(&repository)
            .map_err(|source| SourceError::Pull { source })
    }

    fn pull<'a>(&'a self, repository: &'a str, digest: &'a str) -> BoxFuture<'a, Result<Module, SourceError>> {
        async move {
            let repository: Repository = repository
                .parse()
                .map_err(|_| SourceError::Malformed { what: "repository" })?;
            let digest: Digest = digest.parse().map_err(|_| SourceError::Malformed { what: "digest" })?;
            let pulled = self
                .puller
                .module(&repository, &digest)
                .await
                .map_err(|source| SourceError::Pull { source })?;
            let inspection = pulled
                .inspect()
                .map_err(|source| SourceError::Contradiction { source })?;
            Ok(Module {
                bytes: pulled.bytes,
                inspection,
            })
        }
        .boxed()
    }

    fn inspect(&self, bytes: &[u8]) -> Result<Inspection, InspectError> {
        livepatch_module::inspect(bytes)
    }
}
