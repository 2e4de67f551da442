//! Livepatches and modules as the kernel shows them. No IO.

use serde::{Deserialize, Serialize};

use crate::identity::BuildId;
use crate::seen::Seen;

/// `enabled` and `transition` of one livepatch, read together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Standing {
    /// The target state: true from the load on, also while still in transition.
    pub enabled: bool,
    /// Whether this livepatch is the one in transition.
    pub transition: bool,
}

impl Standing {
    /// Enabled and no longer in transition: every task runs the patched functions.
    pub const fn is_effective(self) -> bool {
        self.enabled && !self.transition
    }
}

/// One entry of `/sys/kernel/livepatch`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Livepatch {
    /// Name of its module, in kernel spelling (underscores).
    pub name: String,
    /// Target state and transition.
    #[serde(flatten)]
    pub standing: Standing,
    /// The replace flag; `None` where the kernel does not show it (before 6.11).
    pub replace: Option<bool>,
    /// 1-based position in load order, the highest wins a shared function; `None` before 6.14.
    pub stack_order: Option<u32>,
    /// Patched objects. While `functions_reliable` is false this may list functions of livepatches being replaced.
    pub objects: Vec<PatchedObject>,
    /// False while this livepatch is in transition: a replacing load then lists the functions it takes away from others
    /// as if they were its own.
    pub functions_reliable: bool,
    /// Build id of the loaded module; `Known(None)` if it was linked without one.
    pub build_id: Seen<Option<BuildId>>,
    /// Reference count of the module. A livepatch holds one on itself until it is disabled or replaced.
    pub refcount: Seen<u32>,
}

impl Livepatch {
    /// Number of functions listed, over all objects.
    pub fn function_count(&self) -> usize {
        self.objects.iter().map(|object| object.functions.len()).sum()
    }

    /// Whether it is loaded, enabled and out of transition, and is this very build.
    pub fn is_effective_build(&self, build_id: &BuildId) -> bool {
        self.standing.is_effective() && self.build_id.known().is_some_and(|id| id.as_ref() == Some(build_id))
    }
}

/// An object (vmlinux or a module) with functions that a livepatch patches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PatchedObject {
    /// `vmlinux` or a module name.
    pub name: String,
    /// Whether it is patched now: false is normal for a module that is not loaded. `None` before 6.1.
    pub patched: Option<bool>,
    /// Its patched functions.
    pub functions: Vec<Function>,
}

/// A patched function.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Function {
    /// Symbol name.
    pub name: String,
    /// Which of several symbols of that name, counted from 1 (sysfs prints 1 where the module said 0).
    pub position: u64,
}

/// Where a module is in its life (`/proc/modules`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ModuleState {
    /// Loaded.
    Live,
    /// Its init function has not returned yet.
    Loading,
    /// Being unloaded.
    Unloading,
}

/// One loaded module, as far as livepatching is concerned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LoadedModule {
    /// Name in kernel spelling.
    pub name: String,
    /// Where it is in its life.
    pub state: ModuleState,
    /// Reference count, without those of modules that depend on it being listed.
    pub refcount: u32,
    /// Whether it is a livepatch (its own taint flags hold `K`).
    pub livepatch: Seen<bool>,
    /// Its build id; `Known(None)` if it was linked without one.
    pub build_id: Seen<Option<BuildId>>,
}
