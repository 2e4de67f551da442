//! A livepatch's file, read and unpacked. Reads files.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use livepatch_agent::durable;
use livepatch_module::{DecompressError, InspectError, Inspection, MAX_MODULE_BYTES, decompress, inspect};
use thiserror::Error;

/// A livepatch's file.
#[derive(Debug, Clone)]
pub struct ModuleFile {
    /// Its content, unpacked.
    pub image: Arc<[u8]>,
    /// What it is.
    pub inspection: Inspection,
}

/// Why a file is not read as a livepatch.
#[derive(Debug, Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("cannot be read")]
    Read {
        /// Why not.
        source: io::Error,
    },
    /// It is a directory, a device or a pipe.
    #[error("is not a regular file")]
    NotAFile,
    /// It is larger than any livepatch.
    #[error("is larger than {MAX_MODULE_BYTES} bytes")]
    TooLarge,
    /// It is packed and cannot be unpacked.
    #[error("cannot be unpacked")]
    Unpack {
        /// Why not.
        source: DecompressError,
    },
    /// It is no livepatch that could be read.
    #[error("not read as a livepatch")]
    Inspect {
        /// Why not.
        source: InspectError,
    },
}

impl FileError {
    /// The reason code.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Read { .. } => "FileUnreadable",
            Self::NotAFile => "NotAFile",
            Self::TooLarge => "TooLarge",
            Self::Unpack { source } => source.reason(),
            Self::Inspect { source } => source.reason(),
        }
    }

    /// The error with its causes, in one line.
    pub fn told(&self, path: &Path) -> String {
        let mut told = format!("{}: {}: {self}", path.display(), self.reason());
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            told = format!("{told}: {error}");
            cause = error.source();
        }
        told
    }
}

impl ModuleFile {
    /// Reads a file and says what it is.
    pub fn read(path: &Path) -> Result<Self, FileError> {
        let failed = |source| FileError::Read { source };
        if !fs::metadata(path).map_err(failed)?.is_file() {
            return Err(FileError::NotAFile);
        }
        let packed = durable::read_at_most(path, MAX_MODULE_BYTES as u64)
            .map_err(failed)?
            .ok_or(FileError::TooLarge)?;
        let image = decompress(&packed, MAX_MODULE_BYTES).map_err(|source| FileError::Unpack { source })?;
        let inspection = inspect(&image).map_err(|source| FileError::Inspect { source })?;
        Ok(Self {
            image: image.into(),
            inspection,
        })
    }
}

/// A module name as a person writes it: `lp-fix`, `lp_fix`, or the path of its file.
pub fn module_name(text: &str) -> String {
    let file = PathBuf::from(text);
    let name = match file.file_name().and_then(|name| name.to_str()) {
        Some(name) if text.contains(".ko") => name.split(".ko").next().unwrap_or(name),
        _ => text,
    };
    livepatch_module::kernel_spelling(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_as_people_write_them() {
        for text in ["lp-fix", "lp_fix", "lp-fix.ko", "./a/lp-fix.ko.xz"] {
            assert_eq!(module_name(text), "lp_fix");
        }
        // A path that is no module file stays one, and no module has such a name.
        assert_eq!(module_name("../lp"), "../lp");
    }

    #[test]
    fn each_way_of_not_being_a_livepatch_has_a_reason() {
        let folder = tempfile::tempdir().unwrap();
        let reason = |name: &str| ModuleFile::read(&folder.path().join(name)).unwrap_err().reason();
        fs::write(folder.path().join("text"), "#!/bin/sh").unwrap();
        fs::write(folder.path().join("packed"), [0x1f, 0x8b, 8, 0]).unwrap();
        assert_eq!(reason("missing"), "FileUnreadable");
        assert_eq!(reason("."), "NotAFile");
        assert_eq!(reason("text"), "NotElf");
        assert_eq!(reason("packed"), "DamagedCompression");
    }
}
