//! Ordinary modules by the thousand: none of them may be taken for a livepatch. Reads files.

use std::fs;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use livepatch_module::{InspectError, MAX_MODULE_BYTES, decompress, inspect, kernel_spelling};

/// All module files below a folder, packed ones too, in the order of their paths.
pub fn modules_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            } else if entry.file_name().to_string_lossy().contains(".ko") {
                found.push(entry.path());
            }
        }
    }
    found.sort();
    found
}

/// Reads them all, on all processors; what was said of each that is not "an ordinary module of that name".
pub fn misread(files: &[PathBuf]) -> Vec<String> {
    let next = AtomicUsize::new(0);
    let processors = thread::available_parallelism().map_or(1, NonZero::get);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..processors)
            .map(|_| {
                scope.spawn(|| {
                    let mut wrong = Vec::new();
                    while let Some(file) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
                        wrong.extend(misread_one(file));
                    }
                    wrong
                })
            })
            .collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    })
}

fn misread_one(file: &Path) -> Option<String> {
    let text = file.file_name()?.to_string_lossy();
    let expected = kernel_spelling(text.split(".ko").next()?);
    let packed = fs::read(file).unwrap();
    let bytes = match decompress(&packed, MAX_MODULE_BYTES) {
        Ok(bytes) => bytes,
        Err(error) => return Some(format!("{text}: {error}")),
    };
    match inspect(&bytes) {
        Err(InspectError::NotALivepatch { name }) if name == expected => None,
        other => Some(format!("{text}: {other:?}")),
    }
}
