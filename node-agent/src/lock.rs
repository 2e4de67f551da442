//! One agent per host. IO.
//!
//! During an upgrade two agent pods can run on one node for a while; the second waits here before it looks at anything.
//! Commands that change the host take the same lock, and before it one of their own: whoever holds the first while a
//! command holds the second is an agent.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Name of the lock of the host.
const LOCK: &str = "lock";

/// Name of the lock of commands.
const COMMAND_LOCK: &str = "command.lock";

/// Held for as long as the value lives; the kernel lets go of it when the process ends in whatever way.
#[derive(Debug)]
pub struct HostLock {
    _file: File,
}

impl HostLock {
    /// Takes the lock of a state directory; `None` while another agent holds it.
    pub fn try_take(state: &Path) -> io::Result<Option<Self>> {
        Self::try_lock(&Self::file(state))
    }

    /// Takes the lock of commands; `None` while another command holds it.
    pub fn try_take_for_command(state: &Path) -> io::Result<Option<Self>> {
        Self::try_lock(&Self::command_file(state))
    }

    /// The file that an agent locks.
    pub fn file(state: &Path) -> PathBuf {
        state.join(LOCK)
    }

    /// The file that a command locks.
    pub fn command_file(state: &Path) -> PathBuf {
        state.join(COMMAND_LOCK)
    }

    /// Whether the lock of a state directory is held. Asks by sharing it for an instant, and makes no file.
    pub fn is_held(state: &Path) -> io::Result<bool> {
        let file = match File::open(Self::file(state)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        match file.try_lock_shared() {
            Ok(()) => Ok(false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn try_lock(path: &Path) -> io::Result<Option<Self>> {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self { _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_held_lock_is_seen_and_not_taken() {
        let state = tempfile::tempdir().unwrap();
        assert!(!HostLock::is_held(state.path()).unwrap());
        assert!(!HostLock::file(state.path()).exists());
        let held = HostLock::try_take(state.path()).unwrap().unwrap();
        assert!(HostLock::is_held(state.path()).unwrap());
        assert!(HostLock::try_take(state.path()).unwrap().is_none());
        assert!(HostLock::try_take_for_command(state.path()).unwrap().is_some());
        drop(held);
        assert!(!HostLock::is_held(state.path()).unwrap());
        assert!(HostLock::try_take(state.path()).unwrap().is_some());
    }
}
