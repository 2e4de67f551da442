//! Verified module files on the node's own disk, so that undo and re-apply need no registry. IO.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::durable;

/// Why a module could not be kept or fetched.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The file could not be read.
    #[error("cannot read stored module {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file could not be written.
    #[error("cannot store module {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl StoreError {
    /// The reason code for status, events, metrics and logs.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Read { .. } => "StoreUnreadable",
            Self::Write { .. } => "StoreNotWritable",
        }
    }
}

/// The modules of one node, by their SHA-256.
#[derive(Debug, Clone)]
pub struct Store {
    directory: PathBuf,
}

impl Store {
    /// The store in a state directory, made if it is not there.
    pub fn in_directory(state: &Path) -> Result<Self, StoreError> {
        let directory = state.join("store");
        durable::directory(&directory).map_err(|source| StoreError::Write {
            path: directory.clone(),
            source,
        })?;
        Ok(Self { directory })
    }

    /// A module whose bytes have this SHA-256; `None` if there is none, or what is there was damaged.
    pub fn read(&self, sha256: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let path = self.path(sha256);
        let bytes = match durable::read_at_most(&path, livepatch_module::MAX_MODULE_BYTES as u64) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(StoreError::Read { path, source }),
        };
        Ok((sha256_of(&bytes) == sha256).then_some(bytes))
    }

    /// Keeps a module. The caller has checked that `sha256` is its hash.
    pub fn write(&self, sha256: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let path = self.path(sha256);
        durable::replace(&path, bytes).map_err(|source| StoreError::Write { path, source })
    }

    /// Removes the files that are not needed any more. What cannot be removed stays: it does no harm.
    pub fn retain(&self, needed: impl Fn(&str) -> bool) {
        let Ok(files) = fs::read_dir(&self.directory) else {
            return;
        };
        for file in files.flatten() {
            let path = file.path();
            let sha256 = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
            if !(path.extension().is_some_and(|extension| extension == "ko") && needed(sha256)) {
                let _ = fs::remove_file(path);
            }
        }
    }

    fn path(&self, sha256: &str) -> PathBuf {
        self.directory.join(format!("{sha256}.ko"))
    }
}

/// SHA-256 in lower-case hexadecimal.
pub fn sha256_of(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    Sha256::digest(bytes)
        .iter()
        .fold(String::with_capacity(64), |mut text, byte| {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}
