//! Reads bundles and modules from registries. Does IO.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::{StreamExt as _, TryStreamExt as _};
use livepatch_module::Inspection;

use crate::allowed::AllowedRepositories;
use crate::bundle::{Bundle, InvalidBundle};
use crate::config::{ConfigError, RegistryConfig};
use crate::digest::Digest;
use crate::error::PullError;
use crate::fetch::{self, Kind, Wanted};
use crate::format::{Descriptor, MAX_INDEX_BYTES, MAX_MANIFEST_BYTES};
use crate::http::Client;
use crate::module::PulledModule;
use crate::read;
use crate::reference::{Reference, Repository};

/// How many descriptions of one bundle are read at once.
const CONCURRENT: usize = 4;
/// How long a place that could not be reached is asked last.
const AVOID: Duration = Duration::from_secs(30);

/// Reads bundles and modules from the allowed repositories, by digest. Share it behind an `Arc`: it keeps tokens, and
/// remembers which mirror is away.
#[derive(Debug)]
pub struct Puller {
    allowed: AllowedRepositories,
    folder: Option<PathBuf>,
    current: Mutex<Arc<Current>>,
    avoided: Mutex<HashMap<String, Instant>>,
}

/// A configuration and the client made from it.
#[derive(Debug)]
struct Current {
    config: RegistryConfig,
    client: Client,
}

impl Current {
    fn new(config: RegistryConfig) -> Result<Arc<Self>, ConfigError> {
        let client = Client::new(&config)?;
        Ok(Arc::new(Self { config, client }))
    }
}

impl Puller {
    /// A puller with a fixed configuration.
    ///
    /// # Errors
    /// A configuration that cannot be used, such as a CA bundle without a certificate.
    pub fn new(config: RegistryConfig, allowed: AllowedRepositories) -> Result<Self, ConfigError> {
        Ok(Self {
            allowed,
            folder: None,
            current: Mutex::new(Current::new(config)?),
            avoided: Mutex::default(),
        })
    }

    /// A puller that reads its configuration from a folder (see [`RegistryConfig::load`]), again before every pull:
    /// Kubernetes replaces mounted Secrets while the program runs.
    ///
    /// # Errors
    /// A configuration that cannot be used.
    pub fn from_folder(folder: &Path, allowed: AllowedRepositories) -> Result<Self, ConfigError> {
        let puller = Self::new(RegistryConfig::load(folder)?, allowed)?;
        Ok(Self {
            folder: Some(folder.to_owned()),
            ..puller
        })
    }

    /// The repositories this reads from.
    pub fn allowed(&self) -> &AllowedRepositories {
        &self.allowed
    }

    /// Reads an index and the descriptions of its modules, not the modules.
    ///
    /// # Errors
    /// See [`PullError`].
    pub async fn bundle(&self, reference: &Reference) -> Result<Bundle, PullError> {
        let (repository, digest) = (reference.repository(), reference.digest());
        let current = self.open(repository)?;
        let pull = Pull {
            puller: self,
            current: &current,
            repository,
        };
        let wanted = Wanted::new(Kind::Manifest, "index", digest, MAX_INDEX_BYTES);
        let index = read::index(&pull.fetch(&wanted).await?).map_err(invalid(repository, digest))?;
        let described = index.manifests.iter().map(|descriptor| {
            let pull = &pull;
            async move {
                let (inspection, _) = pull.description(&descriptor.digest, size(descriptor)).await?;
                read::entry(descriptor, inspection).map_err(invalid(repository, &descriptor.digest))
            }
        });
        // Collected first: a stream over the borrowing iterator itself is not provably Send.
        let described: Vec<_> = described.collect();
        let entries = futures::stream::iter(described)
            .buffered(CONCURRENT)
            .try_collect()
            .await?;
        read::bundle(digest.clone(), &index, entries).map_err(invalid(repository, digest))
    }

    /// Reads one module by the digest of its manifest. What it holds is checked by [`PulledModule::inspect`].
    ///
    /// # Errors
    /// See [`PullError`].
    pub async fn module(&self, repository: &Repository, manifest: &Digest) -> Result<PulledModule, PullError> {
        let current = self.open(repository)?;
        let pull = Pull {
            puller: self,
            current: &current,
            repository,
        };
        let (claimed, layer) = pull.description(manifest, MAX_MANIFEST_BYTES).await?;
        let wanted = Wanted::new(Kind::Module, "module", &layer.digest, size(&layer));
        Ok(PulledModule {
            bytes: pull.fetch(&wanted).await?,
            claimed,
        })
    }

    /// Checks that the repository may be read and returns the configuration to read it with.
    fn open(&self, repository: &Repository) -> Result<Arc<Current>, PullError> {
        self.allowed.check(repository)?;
        let loaded = match &self.folder {
            // Three small files in memory: not worth a thread.
            Some(folder) => Some(RegistryConfig::load(folder)?),
            None => None,
        };
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(config) = loaded.filter(|config| *config != current.config) {
            *current = Current::new(config)?;
        }
        Ok(Arc::clone(&current))
    }

    fn is_avoided(&self, registry: &str) -> bool {
        let avoided = self.avoided.lock().unwrap_or_else(PoisonError::into_inner);
        avoided.get(registry).is_some_and(|since| since.elapsed() < AVOID)
    }

    fn note(&self, registry: &str, reached: bool) {
        let mut avoided = self.avoided.lock().unwrap_or_else(PoisonError::into_inner);
        if reached {
            avoided.remove(registry);
        } else {
            // Bounded by the hosts of mirrors and allowed repositories.
            avoided.insert(registry.to_owned(), Instant::now());
        }
    }
}

/// What is read from one repository in one go.
struct Pull<'a> {
    puller: &'a Puller,
    current: &'a Current,
    repository: &'a Repository,
}

impl Pull<'_> {
    /// Reads a manifest and its config blob, and tells where the module is.
    async fn description(&self, manifest: &Digest, limit: usize) -> Result<(Inspection, Descriptor), PullError> {
        let wanted = Wanted::new(Kind::Manifest, "manifest", manifest, limit);
        let (document, layer) =
            read::manifest(&self.fetch(&wanted).await?).map_err(invalid(self.repository, manifest))?;
        let config = document.config;
        let wanted = Wanted::new(Kind::Blob, "description", &config.digest, size(&config));
        let inspection =
            read::inspection(&self.fetch(&wanted).await?, &layer).map_err(invalid(self.repository, manifest))?;
        Ok((inspection, layer))
    }

    async fn fetch(&self, wanted: &Wanted<'_>) -> Result<Vec<u8>, PullError> {
        let mut places = self.current.config.places(self.repository);
        if places.is_empty() {
            return Err(ConfigError::no_place(self.repository).into());
        }
        places.sort_by_key(|place| self.puller.is_avoided(&place.registry));
        let note = |registry: &str, reached| self.puller.note(registry, reached);
        fetch::fetch(&self.current.client, &places, wanted, &note)
            .await
            .map_err(|misses| misses.into_error(self.repository, wanted))
    }
}

/// Sizes of descriptors are bounded when they are read.
fn size(descriptor: &Descriptor) -> usize {
    usize::try_from(descriptor.size).unwrap_or(usize::MAX)
}

fn invalid(repository: &Repository, digest: &Digest) -> impl FnOnce(InvalidBundle) -> PullError {
    let (repository, digest) = (repository.clone(), digest.clone());
    move |source| PullError::BundleInvalid {
        repository,
        digest,
        source: Box::new(source),
    }
}
