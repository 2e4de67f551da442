//! What is known of a node, in words that need no node to be said. No IO.

use std::collections::BTreeMap;

use livepatch_crds::node::DesiredState;
use livepatch_crds::policy::GrantPolicy;
use livepatch_module::Inspection;
use livepatch_module::conflict::{FunctionRef, SetKind};
use serde::{Deserialize, Serialize};

/// Whose livepatch, and which: the kernel build is the node's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Key {
    /// UID of the set.
    pub set_uid: String,
    /// SHA-256 of the module file, hexadecimal.
    pub sha256: String,
}

/// Everything a plan rests on.
#[derive(Debug, Clone, Copy)]
pub struct Situation<'a> {
    /// The livepatches that the kernel shows.
    pub running: &'a [Running],
    /// Modules of livepatches that are no longer in use.
    pub leftovers: &'a [Leftover],
    /// Whether a transition was forced since the node booted; `None` if nobody can tell.
    pub forced: Option<bool>,
    /// Whether the kernel has `replace_set`, whose rules this version does not know.
    pub replace_set: bool,
    /// What is remembered of this kernel's livepatches, in the order of their first loads.
    pub records: &'a [Record],
    /// Modules that are on local disk and checked, by SHA-256; off a node, those whose description is known.
    pub known: &'a BTreeMap<String, Inspection>,
}

/// A livepatch that the kernel shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    /// Module name in the kernel's spelling.
    pub module: String,
    /// Build id of the module; `None` if it has none or it cannot be seen.
    pub build_id: Option<String>,
    /// The target state: false while it is being disabled.
    pub enabled: bool,
    /// Whether it is the one in transition.
    pub transition: bool,
    /// The replace flag, where the kernel shows it (6.11 and later).
    pub replace: Option<bool>,
    /// What it patches; `None` while that cannot be relied on.
    pub functions: Option<Vec<FunctionRef>>,
}

impl Running {
    /// Whether every task runs its functions.
    pub const fn is_effective(&self) -> bool {
        self.enabled && !self.transition
    }
}

/// A module of a livepatch that is no longer in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    /// Module name in the kernel's spelling.
    pub module: String,
    /// Whether it has kept a reference for too long: forced out, it stays until the next boot.
    pub pinned: bool,
}

/// A livepatch that this project put on the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Whose, and which.
    pub key: Key,
    /// Name of the set.
    pub set: String,
    /// Kind of the set.
    pub kind: SetKind,
    /// Module name.
    pub module: String,
    /// Build id of the module.
    pub build_id: String,
    /// What the node may do with it.
    pub policy: GrantPolicy,
    /// Where it stands.
    pub standing: Standing,
    /// Whether the set still wants it here, as far as is known.
    pub wanted: bool,
}

/// Where a remembered livepatch stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Standing {
    /// It is to be in the kernel, and is.
    InEffect,
    /// It is to be in the kernel, and is not: to be brought back.
    Away,
    /// Its successor is in effect; it is still there, to be disabled.
    Retiring,
    /// The cumulative livepatch contains it; it comes back when that one goes.
    Contained,
}

/// One livepatch that is to be on the node, or not to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// Whose, and which.
    pub key: Key,
    /// Name of the set.
    pub set: String,
    /// Kind of the set.
    pub kind: SetKind,
    /// Module name.
    pub module: String,
    /// Build id of the module.
    pub build_id: String,
    /// Loaded or absent.
    pub state: DesiredState,
    /// What the node may do on its own.
    pub policy: GrantPolicy,
    /// A further module to be on local disk beforehand.
    pub previous: Option<Key>,
    /// Whether this is a return to what was in effect before: what else is missing then does not hold it up.
    pub returning: bool,
    /// Whether a rollout is taken back: then a gap is better than the livepatch that is there.
    pub back: bool,
}

impl Situation<'_> {
    /// What the kernel shows of a module of this name and build.
    pub fn running(&self, module: &str, build_id: &str) -> Option<&Running> {
        self.running
            .iter()
            .find(|running| running.module == module && running.build_id.as_deref() == Some(build_id))
    }

    /// What is remembered of a livepatch that the kernel shows.
    pub fn record_of(&self, running: &Running) -> Option<&Record> {
        self.records.iter().find(|record| {
            record.module == running.module && running.build_id.as_deref() == Some(record.build_id.as_str())
        })
    }

    /// The file of a module, if it is on local disk and checked.
    pub fn known(&self, key: &Key) -> Option<&Inspection> {
        self.known.get(&key.sha256)
    }
}

/// Whether a policy says that a module of a set is contained in its own.
pub fn supersedes(policy: &GrantPolicy, set: &str, sha256: &str) -> bool {
    policy
        .supersedes
        .iter()
        .any(|superseded| superseded.set == set && superseded.module_sha256.iter().any(|one| one == sha256))
}
