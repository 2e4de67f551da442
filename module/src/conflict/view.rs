//! What the rules are asked about: livepatches that are loaded, and one that is wanted. No IO.

use super::functions::FunctionRef;
use crate::inspection::{Inspection, ReplaceValue, State};

/// Which of the two kinds of set a livepatch belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SetKind {
    /// At most one per node; each new one replaces everything.
    Cumulative,
    /// Loaded next to the cumulative one.
    OffBand,
}

/// Who wants a loaded livepatch to be there.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Owner {
    /// A set.
    Set {
        /// Its name.
        name: String,
        /// Its kind.
        kind: SetKind,
    },
    /// A set that selects the node no longer, or is gone; the livepatch was left in place.
    Retained {
        /// The kind the set had.
        kind: SetKind,
    },
    /// Nobody known here.
    Foreign,
}

/// One loaded livepatch, or one that will be: whatever is `None` is not known, and never taken as "none".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadedView {
    /// Module name in the kernel's spelling.
    pub module: String,
    /// SHA-256 of the module file in lower-case hex, if the file is known.
    pub sha256: Option<String>,
    /// Who wants it.
    pub owner: Owner,
    /// The replace flag; kernels before 6.11 do not show it.
    pub replace: Option<bool>,
    /// Patched functions. `None` while a replace transition runs, when sysfs lists other livepatches' functions too.
    pub functions: Option<Vec<FunctionRef>>,
    /// `klp_state` entries; never shown by a kernel, known only from the file.
    pub states: Option<Vec<State>>,
    /// Whether it has callbacks; known only from the file.
    pub callbacks: Option<bool>,
    /// Whether it uses shadow variables; known only from the file.
    pub shadow_variables: Option<bool>,
}

impl LoadedView {
    /// The view of a livepatch whose file is known.
    pub fn of(inspection: &Inspection, owner: Owner) -> Self {
        Self {
            module: inspection.name.clone(),
            sha256: Some(inspection.sha256.clone()),
            owner,
            replace: match inspection.replace.value {
                ReplaceValue::True => Some(true),
                ReplaceValue::False => Some(false),
                ReplaceValue::Dynamic | ReplaceValue::Unknown => None,
            },
            functions: Some(FunctionRef::all_of(inspection)),
            states: Some(inspection.states.clone()),
            callbacks: Some(inspection.has_callbacks()),
            shadow_variables: Some(inspection.shadow_variables),
        }
    }

    /// Name of the set it belongs to.
    pub fn set(&self) -> Option<&str> {
        match &self.owner {
            Owner::Set { name, .. } => Some(name),
            Owner::Retained { .. } | Owner::Foreign => None,
        }
    }
}

/// Off-band modules that a cumulative livepatch contains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Supersedes {
    /// The off-band set.
    pub set: String,
    /// SHA-256 of the set's modules that are contained, in lower-case hex. Another module of the set is not.
    pub module_sha256: Vec<String>,
}

/// A livepatch that somebody wants loaded.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// The set that wants it.
    pub set: &'a str,
    /// The set's kind.
    pub kind: SetKind,
    /// The module.
    pub inspection: &'a Inspection,
    /// What it supersedes; empty for off-band sets.
    pub supersedes: &'a [Supersedes],
    /// Whether foreign livepatches may be thrown out by an atomic replace (`foreignPolicy: Replace`).
    pub replace_foreign: bool,
}

impl Wanted<'_> {
    /// Whether loading it may disable every other livepatch: the flag is set, or nothing proves that it is not.
    pub fn may_replace(&self) -> bool {
        self.inspection.replace.value != ReplaceValue::False
    }

    /// Whether this revision says that it contains a loaded module.
    pub fn supersedes(&self, loaded: &LoadedView) -> bool {
        let (Some(set), Some(sha256)) = (loaded.set(), &loaded.sha256) else {
            return false;
        };
        self.kind == SetKind::Cumulative
            && self
                .supersedes
                .iter()
                .any(|entry| entry.set == set && entry.module_sha256.contains(sha256))
    }
}
