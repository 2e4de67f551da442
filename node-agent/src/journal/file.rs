//! The journal's file: read, and replaced as a whole, durably. IO.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::record::{Journal, SCHEMA};
use crate::durable;

/// Largest journal that is read, in bytes: far above [`super::record::MAX_ENTRIES`] entries of the greatest length.
const MAX_BYTES: u64 = 4 << 20;

/// Why the journal could not be read or written.
#[derive(Debug, Error)]
pub enum JournalError {
    /// The file could not be read.
    #[error("cannot read journal {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file is not what this program writes.
    #[error("journal {path} is damaged")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where it stops making sense.
        source: serde_json::Error,
    },
    /// The file is too large to be a journal.
    #[error("journal {path} is larger than {MAX_BYTES} bytes")]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// Another version of this program wrote it.
    #[error("journal {path} has schema {schema}, this version knows {SCHEMA}")]
    UnknownSchema {
        /// The file.
        path: PathBuf,
        /// Its schema.
        schema: u64,
    },
    /// It could not be made durable.
    #[error("cannot write journal {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl JournalError {
    /// The reason code for status, events, metrics and logs.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Write { .. } => "JournalNotWritable",
            Self::Read { .. } | Self::Damaged { .. } | Self::TooLarge { .. } | Self::UnknownSchema { .. } => {
                "JournalUnreadable"
            }
        }
    }
}

/// Where the journal is.
#[derive(Debug, Clone)]
pub struct JournalFile {
    path: PathBuf,
}

impl JournalFile {
    /// The journal in a state directory.
    pub fn in_directory(state: &Path) -> Self {
        Self {
            path: state.join("journal.json"),
        }
    }

    /// What it holds; `None` if there is none.
    pub fn read(&self) -> Result<Option<Journal>, JournalError> {
        let failed = |source| JournalError::Read {
            path: self.path.clone(),
            source,
        };
        let bytes = match durable::read_at_most(&self.path, MAX_BYTES) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => {
                return Err(JournalError::TooLarge {
                    path: self.path.clone(),
                });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let damaged = |source| JournalError::Damaged {
            path: self.path.clone(),
            source,
        };
        let document: serde_json::Value = serde_json::from_slice(&bytes).map_err(damaged)?;
        // The version is judged first: a newer journal need not parse to be recognised as one.
        match document.get("schema").and_then(serde_json::Value::as_u64) {
            Some(schema) if schema != u64::from(SCHEMA) => Err(JournalError::UnknownSchema {
                path: self.path.clone(),
                schema,
            }),
            _ => serde_json::from_value(document).map(Some).map_err(damaged),
        }
    }

    /// Replaces it. After a return without error it survives a power cut; after one with an error, the old one or the
    /// new one does.
    pub fn write(&self, journal: &Journal) -> Result<(), JournalError> {
        let failed = |source| JournalError::Write {
            path: self.path.clone(),
            source,
        };
        let bytes = serde_json::to_vec(journal).map_err(|error| failed(io::Error::other(error)))?;
        durable::replace(&self.path, &bytes).map_err(failed)
    }
}
