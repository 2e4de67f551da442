//! A bundle as it is read: which module is for which kernel. Checks everything a registry may have sent. No IO.

use livepatch_module::{Architecture, Inspection, InvalidInspection};

use crate::digest::Digest;

/// A livepatch for several kernel builds: what an index and its config blobs tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    /// Digest of the index.
    pub digest: Digest,
    /// One entry per module, in the order of the index.
    pub entries: Vec<BundleEntry>,
    /// CVE ids, as the person who pushed gave them.
    pub cves: Vec<String>,
}

/// One module of a bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BundleEntry {
    /// Digest of the module's manifest: what an agent pulls.
    pub manifest: Digest,
    /// What `uname -r` prints on the kernel the module is for.
    pub kernel_release: String,
    /// GNU build id of the one vmlinux the module is for, in lower-case hex; without it every kernel of that release.
    pub kernel_build_id: Option<String>,
    /// Machine the module is for.
    pub architecture: Architecture,
    /// The module.
    pub module: ModuleIdentity,
    /// Everything the artefact claims about the module. The agent compares it with the file itself.
    pub inspection: Inspection,
}

/// What tells one module from another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModuleIdentity {
    /// Name in the kernel's spelling.
    pub name: String,
    /// SHA-256 of the uncompressed file in lower-case hex.
    pub sha256: String,
    /// GNU build id in lower-case hex: what a loaded module is recognised by.
    pub build_id: String,
}

/// What makes an index, a manifest or a config blob not that of a livepatch bundle.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidBundle {
    /// Not the JSON document it should be.
    #[error("{what} is not a JSON document of its kind: {why}")]
    Json {
        /// `index`, `manifest` or `config`.
        what: &'static str,
        /// The parser's words, bounded and printable.
        why: String,
    },
    /// Some other artefact: a container image, a chart.
    #[error("{what} is not of a livepatch bundle: {field} is {actual:?}, expected {expected:?}")]
    OtherKind {
        /// `index`, `manifest`, `descriptor` or `config`.
        what: &'static str,
        /// JSON name of the field.
        field: &'static str,
        /// What it says, bounded and printable.
        actual: String,
        /// What it should say.
        expected: &'static str,
    },
    /// Two statements of the artefact exclude each other.
    #[error("{field} differs between {one} and {other}")]
    Contradiction {
        /// What differs.
        field: &'static str,
        /// Where it is said.
        one: &'static str,
        /// Where it is said otherwise.
        other: &'static str,
    },
    /// A value out of its bounds.
    #[error("{field} {why}")]
    Value {
        /// JSON name or annotation.
        field: &'static str,
        /// What is wrong with it, without repeating it.
        why: String,
    },
    /// The description of a module is out of bounds.
    #[error("description of a module is invalid")]
    Inspection {
        /// What is wrong with it.
        source: InvalidInspection,
    },
    /// Two modules could both be meant for one kernel.
    #[error("modules {one} and {other} are both for kernel {kernel}")]
    Overlap {
        /// Name of a module.
        one: String,
        /// Name of the other.
        other: String,
        /// Release of the kernel.
        kernel: String,
    },
}

impl InvalidBundle {
    /// Stable reason code for status, events, metrics and logs.
    pub fn reason(&self) -> &'static str {
        "BundleInvalid"
    }
}

impl Bundle {
    /// The module for a kernel, if the bundle covers it.
    ///
    /// An entry with a kernel build id is for that build alone; where the running kernel's build id is not known
    /// (`None` or empty) such an entry is for no one. `architecture` is spelt as OCI and Kubernetes do.
    pub fn entry_for(&self, release: &str, kernel_build_id: Option<&str>, architecture: &str) -> Option<&BundleEntry> {
        let running = kernel_build_id.filter(|id| !id.is_empty());
        let architecture: Architecture = architecture.parse().ok()?;
        self.entries.iter().find(|entry| {
            entry.kernel_release == release
                && entry.architecture == architecture
                && entry.kernel_build_id.as_deref().is_none_or(|id| Some(id) == running)
        })
    }
}
