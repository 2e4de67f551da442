//! What is known about one livepatch module. Plain data, no IO.
//!
//! [`Inspection`] is both the answer of `inspect` and the config blob of an artefact, so its JSON is a contract: keys
//! are only ever added.

use serde::{Deserialize, Serialize};
use strum::{Display, EnumString, IntoStaticStr};

/// Everything a livepatch module tells about itself, read from its ELF file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Inspection {
    /// Module name in the kernel's spelling (underscores), as `/sys/kernel/livepatch/<name>` shows it once loaded.
    pub name: String,
    /// Which tool's layout the function list was read from.
    pub format: Format,
    /// First word of the vermagic: what `uname -r` prints on a kernel that accepts the module.
    pub kernel_release: String,
    /// The whole vermagic, unchanged, with its trailing blank: the kernel compares it byte by byte.
    pub vermagic: String,
    /// Machine the module is built for.
    pub architecture: Architecture,
    /// GNU build id of the module in lower-case hex; null when it was built without one.
    #[serde(default)]
    pub build_id: Option<String>,
    /// SHA-256 over the uncompressed file, signature trailer included, in lower-case hex.
    pub sha256: String,
    /// Size of the uncompressed file in bytes.
    pub size: u64,
    /// The atomic replace flag and how it was found.
    pub replace: Replace,
    /// Patched objects, sorted by name; the kernel itself is `vmlinux`.
    pub objects: Vec<Object>,
    /// `klp_state` entries, sorted by id.
    #[serde(default)]
    pub states: Vec<State>,
    /// Whether the module imports the shadow variable API (`klp_shadow_*`).
    pub shadow_variables: bool,
    /// Modules that must be loaded before this one.
    #[serde(default)]
    pub depends: Vec<String>,
    /// The appended signature, described and not verified; null when there is none.
    #[serde(default)]
    pub signature: Option<Signature>,
    /// The licence the module declares; null when it declares none.
    #[serde(default)]
    pub license: Option<String>,
}

impl Inspection {
    /// Every patched function with its object.
    pub fn functions(&self) -> impl Iterator<Item = (&str, &Function)> {
        self.objects
            .iter()
            .flat_map(|object| object.functions.iter().map(move |f| (object.name.as_str(), f)))
    }

    /// Number of patched functions over all objects.
    pub fn function_count(&self) -> usize {
        self.objects.iter().map(|object| object.functions.len()).sum()
    }

    /// Whether any object registers a callback.
    pub fn has_callbacks(&self) -> bool {
        self.objects.iter().any(|object| !object.callbacks.is_empty())
    }

    /// Whether the livepatch keeps state beyond its functions: callbacks, `klp_state` or shadow variables.
    ///
    /// Such a livepatch cannot be stacked over or swept by an atomic replace without its own clean-up being lost.
    pub fn keeps_state(&self) -> bool {
        self.has_callbacks() || !self.states.is_empty() || self.shadow_variables
    }
}

/// Layout the livepatch was built in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Display, EnumString, IntoStaticStr)]
pub enum Format {
    /// A `struct klp_patch` in static data: hand-written, the kernel's samples and selftests, SUSE.
    Static,
    /// Made by kpatch-build: `.kpatch.funcs`.
    KpatchBuild,
    /// Made by the kernel's own klp-build: `.init.klp_objects`.
    KlpBuild,
}

/// Machine a module is built for, in the spelling of OCI images and Kubernetes nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Display, EnumString, IntoStaticStr)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum Architecture {
    /// x86-64, `x86_64` in uname.
    Amd64,
    /// 64-bit Arm, `aarch64` in uname. Layouts follow from LP64 arithmetic; no such livepatch kernel was available to
    /// check them on.
    Arm64,
}

impl Architecture {
    /// The spelling of `uname -m`.
    pub const fn uname(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64",
            Self::Arm64 => "aarch64",
        }
    }
}

/// The atomic replace flag of a livepatch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Replace {
    /// What the flag will be when the kernel sees it.
    pub value: ReplaceValue,
    /// Where in the file this was read, for a person to check.
    pub evidence: String,
}

/// Value of the atomic replace flag as far as the file proves it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Display, EnumString, IntoStaticStr)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum ReplaceValue {
    /// Loading it disables every other livepatch.
    True,
    /// Loading it leaves the others alone.
    False,
    /// Set when the module is loaded, from a parameter for example.
    Dynamic,
    /// The file does not prove it either way.
    Unknown,
}

/// One patched object: the kernel or a module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Object {
    /// `vmlinux` or a module name in the kernel's spelling.
    pub name: String,
    /// Patched functions, sorted by name and position. May be empty: some livepatches have callbacks only.
    pub functions: Vec<Function>,
    /// Callbacks registered for this object, in the order the kernel declares them.
    #[serde(default)]
    pub callbacks: Vec<Callback>,
}

/// One patched function.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Function {
    /// Symbol name of the function that is replaced.
    pub name: String,
    /// Which of several symbols of that name in the object, counted from 1. A module's 0 ("the only one") is given as
    /// 1, as sysfs does.
    pub position: u64,
}

/// A callback of `struct klp_callbacks`.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, Display, EnumString, IntoStaticStr,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Callback {
    /// Runs before the object is patched and may refuse the load.
    PrePatch,
    /// Runs after the object was patched.
    PostPatch,
    /// Runs before the object is unpatched.
    PreUnpatch,
    /// Runs after the object was unpatched.
    PostUnpatch,
}

impl Callback {
    /// All four in the order of `struct klp_callbacks` (include/linux/livepatch.h, 4.15-7.2).
    pub const ALL: [Self; 4] = [Self::PrePatch, Self::PostPatch, Self::PreUnpatch, Self::PostUnpatch];
}

/// One `struct klp_state`: a system state the livepatch modifies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// Identifier, never 0.
    pub id: u64,
    /// Version; the kernel refuses a livepatch that lowers it.
    pub version: u32,
}

/// The signature trailer of a module. Described, not verified: only the kernel has the keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Signature {
    /// Common name of the signer; null when the block does not tell.
    #[serde(default)]
    pub signer: Option<String>,
    /// Serial number or key identifier of the signing key in lower-case hex; null when the block does not tell.
    #[serde(default)]
    pub key_id: Option<String>,
    /// Digest algorithm, `sha512` for example; null when the block does not tell.
    #[serde(default)]
    pub hash: Option<String>,
}
