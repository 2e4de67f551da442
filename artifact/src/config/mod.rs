//! How registries are reached: credentials, trusted certificates, mirrors. Reads files in [`RegistryConfig::load`] only.

mod docker;
mod mirror;

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

pub use docker::{Credentials, DockerConfig};
pub(crate) use mirror::Place;
pub use mirror::{Endpoint, Mirror};

use crate::reference::Repository;

/// Docker's credentials, as `docker login` writes them and a Secret of type kubernetes.io/dockerconfigjson holds them.
const DOCKER_CONFIG: &str = "config.json";
/// Certificates to trust besides those of the system, PEM.
const CA_BUNDLE: &str = "ca.crt";
/// A list of [`Mirror`].
const MIRRORS: &str = "mirrors.yaml";
/// Largest of these files in bytes; a Secret holds no more.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// How registries are reached. The default is anonymous access over TLS with the system's certificates.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RegistryConfig {
    /// Credentials per registry.
    pub docker: DockerConfig,
    /// Certificates in PEM that are trusted besides those of the system.
    pub ca_bundle: Option<String>,
    /// Other places to read from.
    pub mirrors: Vec<Mirror>,
    /// Talk plain HTTP to the registry that a reference names. Mirrors say it in their endpoint.
    pub plain_http: bool,
}

/// A registry configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A file is there and cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file is larger than any such file.
    #[error("{} is larger than {MAX_FILE_BYTES} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// A file does not have the form it must have. The content is not repeated: it may hold passwords.
    #[error("{what} is malformed: {why}")]
    Malformed {
        /// `config.json`, `ca.crt` or `mirrors.yaml`.
        what: &'static str,
        /// What is wrong and where.
        why: String,
    },
    /// The TLS or HTTP library refuses the configuration.
    #[error("cannot set up an HTTPS client: {why}")]
    Client {
        /// The library's words.
        why: String,
    },
}

impl ConfigError {
    /// Stable reason code for status, events, metrics and logs.
    pub fn reason(&self) -> &'static str {
        "RegistryConfigInvalid"
    }

    pub(crate) fn no_place(repository: &Repository) -> Self {
        Self::Malformed {
            what: MIRRORS,
            why: format!("its only mirror leaves no path for {repository}"),
        }
    }
}

impl RegistryConfig {
    /// Reads the optional files `config.json`, `ca.crt` and `mirrors.yaml` of a folder; a folder that is not there is
    /// as an empty one.
    ///
    /// # Errors
    /// A file that is there and cannot be used.
    pub fn load(folder: &Path) -> Result<Self, ConfigError> {
        let docker = read(folder, DOCKER_CONFIG)?;
        let mirrors = read(folder, MIRRORS)?;
        Ok(Self {
            docker: docker.map_or_else(|| Ok(DockerConfig::default()), |text| DockerConfig::parse(&text))?,
            ca_bundle: read(folder, CA_BUNDLE)?,
            mirrors: mirrors.map_or_else(|| Ok(Vec::new()), |text| mirror::parse(&text))?,
            plain_http: false,
        })
    }
}

fn read(folder: &Path, name: &'static str) -> Result<Option<String>, ConfigError> {
    let path = folder.join(name);
    let mut file = match File::open(&path) {
        Ok(file) => file.take(MAX_FILE_BYTES + 1),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(ConfigError::Read { path, source }),
    };
    let mut text = String::new();
    match file.read_to_string(&mut text) {
        Ok(_) if text.len() as u64 > MAX_FILE_BYTES => Err(ConfigError::TooLarge { path }),
        Ok(_) => Ok(Some(text)),
        Err(source) => Err(ConfigError::Read { path, source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_may_lack_any_file() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(RegistryConfig::load(folder.path()).unwrap(), RegistryConfig::default());
        assert_eq!(
            RegistryConfig::load(&folder.path().join("absent")).unwrap(),
            RegistryConfig::default()
        );
        std::fs::write(
            folder.path().join(MIRRORS),
            "- {prefix: r.io, endpoint: \"http://10.0.2.2:5000\"}\n",
        )
        .unwrap();
        std::fs::write(folder.path().join(CA_BUNDLE), "pem").unwrap();
        let config = RegistryConfig::load(folder.path()).unwrap();
        assert_eq!(config.mirrors.len(), 1);
        assert_eq!(config.ca_bundle.as_deref(), Some("pem"));
    }

    #[test]
    fn a_file_that_is_there_must_be_usable() {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in [(DOCKER_CONFIG, "{"), (MIRRORS, "prefix: r.io"), (CA_BUNDLE, "")] {
            let path = folder.path().join(name);
            if content.is_empty() {
                std::fs::create_dir(&path).unwrap();
            } else {
                std::fs::write(&path, content).unwrap();
            }
            let error = RegistryConfig::load(folder.path()).unwrap_err();
            assert_eq!(error.reason(), "RegistryConfigInvalid");
            assert!(error.to_string().contains(name), "{error}");
            let _ = std::fs::remove_file(&path);
        }
    }

    #[test]
    fn a_file_is_bounded() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(CA_BUNDLE), vec![b'x'; 2 << 20]).unwrap();
        let error = RegistryConfig::load(folder.path()).unwrap_err();
        assert!(matches!(error, ConfigError::TooLarge { .. }), "{error}");
    }
}
