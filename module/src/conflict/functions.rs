//! Comparing patched functions. No IO.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::inspection::Inspection;

/// A patched function as it is known of a loaded livepatch.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FunctionRef {
    /// `vmlinux` or a module name.
    pub object: String,
    /// Symbol name.
    pub name: String,
    /// Position among symbols of that name, from 1; `None` if it is not known. 0 counts as 1, as in the kernel
    /// (`klp_find_func()`, kernel/livepatch/core.c since 6.19 and in stable 6.1 and 6.12).
    pub position: Option<u64>,
}

impl FunctionRef {
    /// A function at a known position.
    pub fn new(object: impl Into<String>, name: impl Into<String>, position: u64) -> Self {
        Self {
            object: object.into(),
            name: name.into(),
            position: Some(position),
        }
    }

    /// All functions that a module patches.
    pub fn all_of(inspection: &Inspection) -> Vec<Self> {
        inspection
            .functions()
            .map(|(object, function)| Self::new(object, &function.name, function.position))
            .collect()
    }

    fn symbol(&self) -> (&str, &str) {
        (&self.object, &self.name)
    }

    /// The position with 0 read as 1.
    fn place(&self) -> Option<u64> {
        self.position.map(|position| position.max(1))
    }
}

impl fmt::Display for FunctionRef {
    /// As sysfs spells it: `vmlinux/cmdline_proc_show,1`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place() {
            Some(position) => write!(f, "{}/{},{position}", self.object, self.name),
            None => write!(f, "{}/{} at an unknown position", self.object, self.name),
        }
    }
}

/// What two lists of functions have in common.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Overlap {
    /// Functions that are surely in both, sorted.
    pub(super) shared: Vec<FunctionRef>,
    /// Functions of the same name in the same object where a position is missing, sorted.
    pub(super) undecided: Vec<FunctionRef>,
}

/// Compares two lists; symmetric, and the longer they are the more they share.
pub(super) fn overlap(left: &[FunctionRef], right: &[FunctionRef]) -> Overlap {
    let (left, right) = (places(left), places(right));
    let mut found = Overlap::default();
    for (&(object, name), ours) in &left {
        let Some(theirs) = right.get(&(object, name)) else {
            continue;
        };
        let shared = ours.intersection(theirs).flatten();
        found
            .shared
            .extend(shared.map(|&place| FunctionRef::new(object, name, place)));
        if ours.contains(&None) || theirs.contains(&None) {
            found.undecided.push(FunctionRef {
                object: object.to_owned(),
                name: name.to_owned(),
                position: None,
            });
        }
    }
    found
}

/// Functions of `inner` that are not surely in `outer`, sorted.
pub(super) fn missing(outer: &[FunctionRef], inner: &[FunctionRef]) -> Vec<FunctionRef> {
    let outer = places(outer);
    let contained = |function: &&FunctionRef| {
        function.position.is_some()
            && outer
                .get(&function.symbol())
                .is_some_and(|places| places.contains(&function.place()))
    };
    let missing: BTreeSet<&FunctionRef> = inner.iter().filter(|function| !contained(function)).collect();
    missing.into_iter().cloned().collect()
}

/// The positions of each symbol in a list; `None` for one that is not known.
fn places(functions: &[FunctionRef]) -> BTreeMap<(&str, &str), BTreeSet<Option<u64>>> {
    let mut places: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for function in functions {
        places.entry(function.symbol()).or_default().insert(function.place());
    }
    places
}

/// Functions that one module carries a copy of and another livepatch patches, sorted.
///
/// Patched functions that do not overlap are no full proof of independence: what the first module calls in itself
/// stays as it was built, whatever the second one patches. No reason to refuse, but one to tell. Clones that a compiler
/// made (`name.isra.0`, `name.constprop.0`, `name.cold`) count as copies of `name`.
pub fn stale_copies(own_functions: &[String], patched: &[FunctionRef]) -> Vec<FunctionRef> {
    let stems = own_functions.iter().filter_map(|name| name.split('.').next());
    let own: BTreeSet<&str> = own_functions.iter().map(String::as_str).chain(stems).collect();
    let found: BTreeSet<&FunctionRef> = patched
        .iter()
        .filter(|function| own.contains(function.name.as_str()))
        .collect();
    found.into_iter().cloned().collect()
}
