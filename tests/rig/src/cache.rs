//! Folders that take long to make, kept in the user's cache directory under a hash of what they were made from.
//!
//! Does IO. An entry is built in a temporary sibling and renamed when it is whole, so an entry that exists is complete;
//! a file lock keeps two processes from building the same one at the same time.

use std::env;
use std::fmt::Write as _;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};

use crate::progress;

/// An entry of the same name but another key that nobody has used for this long is removed when a new one is built.
const KEEP_UNUSED: Duration = Duration::from_hours(30 * 24);

/// What went into an entry. Two entries of one name and equal keys are the same entry.
#[derive(Debug, Clone, Default)]
pub struct Key {
    inputs: String,
}

impl Key {
    /// A key that nothing went into yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a named value, such as a version or a list of flags.
    #[must_use]
    pub fn text(mut self, name: &str, value: &str) -> Self {
        let _ = writeln!(self.inputs, "{name}={value:?}");
        self
    }

    /// Adds the content of a file; its path does not count, so clones of the project share their entries.
    pub fn file(self, name: &str, path: &Path) -> Result<Self> {
        let content = fs::read(path).with_context(|| format!("read {}", path.display()))?;
        Ok(self.text(name, &hex(&Sha256::digest(&content))))
    }

    /// Adds the names and contents of all files below a folder.
    pub fn folder(mut self, name: &str, folder: &Path) -> Result<Self> {
        let mut entries = fs::read_dir(folder)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .with_context(|| format!("read {}", folder.display()))?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let name = format!("{name}/{}", entry.file_name().to_string_lossy());
            self = if entry.path().is_dir() {
                self.folder(&name, &entry.path())?
            } else {
                self.file(&name, &entry.path())?
            };
        }
        Ok(self)
    }

    /// First 16 hex digits of the SHA-256 over all inputs.
    pub fn digest(&self) -> String {
        let mut digest = hex(&Sha256::digest(self.inputs.as_bytes()));
        digest.truncate(16);
        digest
    }
}

/// Lower-case hex digits of some bytes.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The project's folder in the user's cache directory: below `$LIVEPATCH_CACHE_DIR`, `$XDG_CACHE_HOME` or `~/.cache`.
pub fn root() -> Result<PathBuf> {
    let base = [env::var_os("LIVEPATCH_CACHE_DIR"), env::var_os("XDG_CACHE_HOME")]
        .into_iter()
        .flatten()
        .map(PathBuf::from)
        .find(|path| path.is_absolute())
        .or_else(|| env::home_dir().map(|home| home.join(".cache")))
        .context("none of LIVEPATCH_CACHE_DIR, XDG_CACHE_HOME and HOME is set")?;
    let root = base.join("livepatch-operator");
    fs::create_dir_all(&root).with_context(|| format!("create {}", root.display()))?;
    Ok(root)
}

/// The folder of the entry `name` made from `key`, built by `build` into the folder it is given if it does not exist.
pub fn entry(name: &str, key: &Key, build: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    entry_in(&root()?, name, key, build)
}

fn entry_in(root: &Path, name: &str, key: &Key, build: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    ensure!(
        !name.is_empty()
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_.+".contains(&byte)),
        "{name:?} is no name for a cache entry"
    );
    let id = format!("{name}-{}", key.digest());
    let path = root.join(&id);
    let inputs = root.join(format!("{id}.inputs"));
    if path.is_dir() {
        mark_used(&inputs);
        return Ok(path);
    }
    let _lock = lock(root, &id)?;
    if path.is_dir() {
        mark_used(&inputs);
        return Ok(path);
    }
    remove_unused(root, name);
    let building = root.join(format!("{id}.building"));
    // A process that was killed may have left a half-built folder; holding the lock, it is ours to remove.
    if building.exists() {
        fs::remove_dir_all(&building).with_context(|| format!("remove {}", building.display()))?;
    }
    fs::create_dir(&building).with_context(|| format!("create {}", building.display()))?;
    progress::step_with(&format!("build {name}"), || {
        let outcome = build(&building).with_context(|| format!("build {name}"));
        if outcome.is_err() {
            let _ = fs::remove_dir_all(&building);
        }
        outcome?;
        let size = megabytes(folder_size(&building));
        fs::write(&inputs, &key.inputs).with_context(|| format!("write {}", inputs.display()))?;
        fs::rename(&building, &path).with_context(|| format!("rename {} to {id}", building.display()))?;
        Ok(((), size))
    })?;
    Ok(path)
}

/// The modification time of the inputs file tells when the entry was last used; a read-only cache only loses that.
fn mark_used(inputs: &Path) {
    if let Ok(file) = File::options().write(true).open(inputs) {
        let _ = file.set_modified(SystemTime::now());
    }
}

/// Takes the lock `id` for as long as the returned file lives, saying so when it has to wait.
pub(crate) fn lock(root: &Path, id: &str) -> Result<File> {
    let folder = root.join("locks");
    fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    let path = folder.join(id);
    let file = File::create(&path).with_context(|| format!("open {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            progress::step(&format!("wait for others at work on {id}"), || {
                file.lock().with_context(|| format!("lock {}", path.display()))
            })?;
            Ok(file)
        }
        Err(TryLockError::Error(source)) => Err(source).with_context(|| format!("lock {}", path.display())),
    }
}

/// Best effort: what cannot be read or removed stays.
fn remove_unused(root: &Path, name: &str) {
    let Ok(entries) = fs::read_dir(root) else { return };
    for entry in entries.flatten() {
        let inputs = entry.path();
        let Some(id) = inputs
            .file_name()
            .and_then(|file| file.to_str()?.strip_suffix(".inputs"))
        else {
            continue;
        };
        let same_name = id.rsplit_once('-').is_some_and(|(other, _)| other == name);
        let unused = entry
            .metadata()
            .and_then(|metadata| metadata.modified())
            .is_ok_and(|used| used.elapsed().is_ok_and(|age| age > KEEP_UNUSED));
        if same_name && unused {
            let _ = fs::remove_file(&inputs);
            let _ = fs::remove_dir_all(root.join(id));
        }
    }
}

/// Bytes of all regular files below a folder; what cannot be read counts nothing.
fn folder_size(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => folder_size(&entry.path()),
            Ok(metadata) if metadata.is_file() => metadata.len(),
            _ => 0,
        })
        .sum()
}

fn megabytes(bytes: u64) -> String {
    format!("{}.{} MB", bytes / 1_000_000, bytes % 1_000_000 / 100_000)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    use anyhow::bail;

    use super::*;

    #[test]
    fn an_entry_is_built_once_for_equal_keys_and_again_for_another() {
        let root = tempfile::tempdir().unwrap();
        let count = AtomicUsize::new(0);
        let build = |folder: &Path| {
            thread::sleep(Duration::from_millis(50));
            fs::write(folder.join("file"), "content")?;
            count.fetch_add(1, Ordering::Relaxed);
            Ok(())
        };
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let path = entry_in(root.path(), "thing", &Key::new().text("version", "1"), build).unwrap();
                    assert_eq!(fs::read_to_string(path.join("file")).unwrap(), "content");
                });
            }
        });
        assert_eq!(count.load(Ordering::Relaxed), 1);
        entry_in(root.path(), "thing", &Key::new().text("version", "2"), build).unwrap();
        assert_eq!(count.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn a_build_that_failed_leaves_no_entry() {
        let root = tempfile::tempdir().unwrap();
        let key = Key::new();
        let failed = entry_in(root.path(), "thing", &key, |folder| {
            fs::write(folder.join("half"), "")?;
            bail!("no luck")
        });
        assert!(failed.is_err());
        let path = entry_in(root.path(), "thing", &key, |_| Ok(())).unwrap();
        assert_eq!(fs::read_dir(path).unwrap().count(), 0);
    }

    #[test]
    fn a_key_tells_names_from_values() {
        assert_ne!(
            Key::new().text("a", "b=c").digest(),
            Key::new().text("a=b", "c").digest()
        );
        assert_ne!(
            Key::new().text("a", "1\nb=2").digest(),
            Key::new().text("a", "1").text("b", "2").digest()
        );
    }
}
