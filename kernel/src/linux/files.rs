//! Bounded reads of the small files that sysfs and procfs are made of. Reads files.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::error::KernelError;

/// A file's content, at most `limit` bytes of it; `None` if it is not there.
pub(super) fn read_bytes(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, KernelError> {
    match try_read(path, limit) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if is_gone(&error) => Ok(None),
        Err(source) => Err(KernelError::Read {
            path: path.to_owned(),
            source,
        }),
    }
}

/// A short text file without its line end; `None` if it is not there.
pub(super) fn read_text(path: &Path) -> Result<Option<String>, KernelError> {
    Ok(read_bytes(path, 4096)?.map(|bytes| String::from_utf8_lossy(&bytes).trim_end().to_owned()))
}

/// A file that holds `0` or `1` (or `N`, `Y`); `None` if it is not there.
pub(super) fn read_flag(path: &Path) -> Result<Option<bool>, KernelError> {
    match read_text(path)?.as_deref() {
        None => Ok(None),
        Some("0" | "N") => Ok(Some(false)),
        Some("1" | "Y") => Ok(Some(true)),
        Some(text) => Err(malformed(path, text)),
    }
}

/// A file that holds one number; `None` if it is not there.
pub(super) fn read_number<T: std::str::FromStr>(path: &Path) -> Result<Option<T>, KernelError> {
    read_text(path)?
        .map(|text| text.parse().map_err(|_| malformed(path, &text)))
        .transpose()
}

/// The error of a file whose content makes no sense.
pub(super) fn malformed(path: &Path, text: &str) -> KernelError {
    KernelError::Malformed {
        path: path.to_owned(),
        text: text.chars().take(80).collect(),
    }
}

/// Whether an error says that the file, or the kernel object behind it, is gone. Reading an attribute whose object was
/// removed after the open gives `ENODEV`, a task that ended gives `ESRCH`.
pub(super) fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
        || error
            .raw_os_error()
            .is_some_and(|n| n == nix::libc::ENODEV || n == nix::libc::ESRCH)
}

fn try_read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}
