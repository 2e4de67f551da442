//! Which build of a kernel a module is for, as the command line says. Reads copies of `/sys/kernel/notes`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read as _;

use super::Failure;

const BUILD_ID: &str = "--kernel-build-id";
const NOTES: &str = "--kernel-notes";
/// Largest file of notes in bytes; a kernel has a few hundred.
const MAX_NOTES_BYTES: u64 = 1 << 20;

/// Build ids by kernel release, or one for the only module.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Kernels {
    only: Option<(&'static str, String)>,
    by_release: BTreeMap<String, (&'static str, String)>,
}

impl Kernels {
    /// Reads the values of `--kernel-build-id` and `--kernel-notes`.
    pub(super) fn read(build_ids: &[String], notes: &[String]) -> Result<Self, Failure> {
        let mut kernels = Self::default();
        for value in build_ids {
            let (release, id) = split(value);
            kernels.add(BUILD_ID, release, checked(BUILD_ID, &id.to_ascii_lowercase())?)?;
        }
        for value in notes {
            let (release, path) = split(value);
            kernels.add(NOTES, release, from_notes(path)?)?;
        }
        if kernels.only.is_some() && !kernels.by_release.is_empty() {
            return Err(usage(BUILD_ID, "give RELEASE= with every one or with none"));
        }
        Ok(kernels)
    }

    fn add(&mut self, option: &'static str, release: Option<&str>, id: String) -> Result<(), Failure> {
        let former = match release {
            Some(release) => self.by_release.insert(release.to_owned(), (option, id)),
            None => self.only.replace((option, id)),
        };
        match former {
            Some(_) => Err(usage(
                option,
                "two build ids for one kernel; with several FILEs give RELEASE=",
            )),
            None => Ok(()),
        }
    }

    /// The build id for the kernel of a module.
    pub(super) fn build_id(&self, release: &str) -> Option<&str> {
        let named = self.by_release.get(release).or(self.only.as_ref());
        named.map(|(_, id)| id.as_str())
    }

    /// Checks that every build id is for a module that is given, and for one only.
    pub(super) fn check<'a>(&self, releases: impl IntoIterator<Item = &'a str>) -> Result<(), Failure> {
        let releases: BTreeSet<&str> = releases.into_iter().collect();
        if let Some((option, _)) = self.only.as_ref().filter(|_| releases.len() > 1) {
            return Err(usage(option, "the modules are for several kernels: give RELEASE="));
        }
        match self
            .by_release
            .iter()
            .find(|(release, _)| !releases.contains(release.as_str()))
        {
            Some((release, (option, _))) => {
                let given: Vec<&str> = releases.into_iter().collect();
                Err(usage(
                    option,
                    &format!(
                        "no module is for kernel {release}; the modules are for {}",
                        given.join(", ")
                    ),
                ))
            }
            None => Ok(()),
        }
    }
}

/// `RELEASE=VALUE`, where a release has no slash.
fn split(value: &str) -> (Option<&str>, &str) {
    match value.split_once('=') {
        Some((release, rest)) if !release.contains('/') => (Some(release), rest),
        _ => (None, value),
    }
}

fn checked(option: &'static str, id: &str) -> Result<String, Failure> {
    let hex = id.bytes().all(|b| b.is_ascii_hexdigit());
    if hex && id.len().is_multiple_of(2) && (8..=128).contains(&id.len()) {
        return Ok(id.to_owned());
    }
    Err(usage(
        option,
        "a build id is 4 to 64 bytes in hex, such as `file vmlinux` prints",
    ))
}

fn from_notes(path: &str) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_NOTES_BYTES).read_to_end(&mut bytes))
        .map_err(|error| usage(NOTES, &format!("{path}: {error}")))?;
    livepatch_module::gnu_build_id(&bytes).ok_or_else(|| {
        usage(
            NOTES,
            &format!("{path} holds no GNU build id; it must be a copy of /sys/kernel/notes"),
        )
    })
}

fn usage(option: &'static str, why: &str) -> Failure {
    Failure::Usage {
        option,
        why: why.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kernels(build_ids: &[&str]) -> Result<Kernels, Failure> {
        Kernels::read(&build_ids.iter().map(|&id| id.to_owned()).collect::<Vec<_>>(), &[])
    }

    #[test]
    fn a_bare_build_id_is_for_the_only_kernel() {
        let one = kernels(&["AABBCCDD"]).unwrap();
        assert_eq!(one.build_id("6.1"), Some("aabbccdd"));
        assert!(one.check(["6.1", "6.1"]).is_ok());
        assert!(one.check(["6.1", "6.12"]).is_err());
    }

    #[test]
    fn a_named_build_id_is_for_its_kernel_and_that_must_be_there() {
        let two = kernels(&["6.1=aabbccdd", "6.12=aabbccee"]).unwrap();
        assert_eq!(two.build_id("6.12"), Some("aabbccee"));
        assert_eq!(two.build_id("6.6"), None);
        assert!(two.check(["6.1", "6.12", "6.6"]).is_ok());
        assert!(two.check(["6.1"]).unwrap_err().to_string().contains("6.12"));
    }

    #[test]
    fn what_is_ambiguous_or_no_build_id_is_wrong_use() {
        for wrong in [
            &["aabbccdd", "aabbccee"][..],
            &["6.1=aabbccdd", "6.1=aabbccee"],
            &["6.1=aabbccdd", "aabbccee"],
            &["aabbcc"],
            &["aabbccddee1"],
            &["6.1=vmlinux"],
            &[""],
        ] {
            assert_eq!(kernels(wrong).unwrap_err().exit_code(), 2, "{wrong:?}");
        }
    }

    #[test]
    fn a_build_id_is_read_from_a_copy_of_the_notes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a=b");
        let note = |name: &[u8], kind: u32, content: &[u8]| {
            let mut bytes = Vec::new();
            for word in [
                u32::try_from(name.len()).unwrap(),
                u32::try_from(content.len()).unwrap(),
                kind,
            ] {
                bytes.extend(word.to_le_bytes());
            }
            [bytes.as_slice(), name, content].concat()
        };
        let notes = [note(b"Xen\0", 5, b"else"), note(b"GNU\0", 3, &[0xab; 20])].concat();
        std::fs::write(&path, &notes).unwrap();
        let text = path.to_str().unwrap();
        let read = |value: String| Kernels::read(&[], &[value]);
        assert_eq!(
            read(text.to_owned()).unwrap().build_id("6.1"),
            Some("ab".repeat(20).as_str())
        );
        assert_eq!(
            read(format!("6.1={text}")).unwrap().build_id("6.1"),
            Some("ab".repeat(20).as_str())
        );
        std::fs::write(&path, &notes[..30]).unwrap();
        assert!(
            read(text.to_owned())
                .unwrap_err()
                .to_string()
                .contains("/sys/kernel/notes")
        );
        assert!(read("absent".to_owned()).is_err());
    }
}
