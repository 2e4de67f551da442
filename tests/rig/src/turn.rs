//! Clusters take turns on a machine that cannot bear several.
//!
//! Does IO: file locks. On two processors a second cluster makes the first miss its deadlines, and both fail; one after
//! the other they are done in less time.

use std::fs::{self, File, TryLockError};
use std::num::NonZero;
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::{cache, progress};

/// Processors that a cluster with two or three nodes keeps busy.
const PROCESSORS: usize = 2;

/// Waits for a turn, which lasts as long as the returned file is open, or this process lives.
pub(crate) fn take() -> Result<File> {
    let processors = thread::available_parallelism().map_or(1, NonZero::get);
    let folder = cache::root()?.join("locks");
    fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    let places = (processors / PROCESSORS).max(1);
    match free(&folder, places)? {
        Some(place) => Ok(place),
        None => progress::step("wait for another cluster on this machine to end", || {
            loop {
                thread::sleep(Duration::from_millis(500));
                if let Some(place) = free(&folder, places)? {
                    return Ok(place);
                }
            }
        }),
    }
}

fn free(folder: &Path, places: usize) -> Result<Option<File>> {
    for place in 0..places {
        let path = folder.join(format!("cluster-{place}"));
        let file = File::create(&path).with_context(|| format!("open {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => return Ok(Some(file)),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(source)) => return Err(source).with_context(|| format!("lock {}", path.display())),
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_free_again_when_its_holder_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let first = free(folder.path(), 2).unwrap().unwrap();
        let _second = free(folder.path(), 2).unwrap().unwrap();
        assert!(free(folder.path(), 2).unwrap().is_none());
        drop(first);
        assert!(free(folder.path(), 2).unwrap().is_some());
    }
}
