//! Collects what a livepatch patches, whatever format it was found in. No IO.

use std::collections::{BTreeMap, BTreeSet};

use crate::VMLINUX;
use crate::error::{InspectError, malformed};
use crate::inspection::{Callback, Function, Object, Replace, State};
use crate::limits::{MAX_FUNCTIONS, MAX_OBJECTS, MAX_STATES};
use crate::validate::{is_module_name, is_symbol_name};

/// What one of the formats' readers found.
#[derive(Debug)]
pub(crate) struct Livepatch {
    pub(crate) patched: Patched,
    pub(crate) states: Vec<State>,
    pub(crate) replace: Replace,
}

/// Objects, functions and callbacks by name, bounded and without duplicates.
#[derive(Debug, Default)]
pub(crate) struct Patched {
    objects: BTreeMap<String, (BTreeSet<Function>, BTreeSet<Callback>)>,
    functions: usize,
}

impl Patched {
    /// Adds an object, given by the name that structures use: none for the kernel itself.
    ///
    /// Returns the name to add its functions under.
    pub(crate) fn object(&mut self, name: Option<&str>) -> Result<String, InspectError> {
        let name = match name {
            None => VMLINUX,
            // The kernel would wait for a module of that name for ever.
            Some(VMLINUX) => return Err(malformed("an object is named vmlinux instead of having no name")),
            Some(name) if is_module_name(name) => name,
            Some(name) => {
                return Err(malformed(format!(
                    "object {name} is not a module name in the kernel's spelling"
                )));
            }
        };
        self.entry(name)?;
        Ok(name.to_owned())
    }

    /// Adds a patched function; position 0 means the only one, which is the first.
    pub(crate) fn function(&mut self, object: &str, name: &str, position: u64) -> Result<(), InspectError> {
        if !is_symbol_name(name) {
            return Err(malformed(format!(
                "a function of {object} has a name that no symbol can have"
            )));
        }
        self.functions += 1;
        if self.functions > MAX_FUNCTIONS {
            return Err(too_large("number of functions", self.functions, MAX_FUNCTIONS));
        }
        let function = Function {
            name: name.to_owned(),
            position: position.max(1),
        };
        if self.entry(object)?.0.insert(function) {
            Ok(())
        } else {
            Err(malformed(format!("function {name} of {object} is patched twice")))
        }
    }

    /// Adds a callback of an object.
    pub(crate) fn callback(&mut self, object: &str, callback: Callback) -> Result<(), InspectError> {
        self.entry(object)?.1.insert(callback);
        Ok(())
    }

    fn entry(&mut self, object: &str) -> Result<&mut (BTreeSet<Function>, BTreeSet<Callback>), InspectError> {
        if !self.objects.contains_key(object) && self.objects.len() == MAX_OBJECTS {
            return Err(too_large("number of objects", MAX_OBJECTS + 1, MAX_OBJECTS));
        }
        Ok(self.objects.entry(object.to_owned()).or_default())
    }

    /// The objects, sorted by name, each with its functions sorted.
    pub(crate) fn finish(self) -> Vec<Object> {
        let object = |(name, (functions, callbacks)): (String, (BTreeSet<Function>, BTreeSet<Callback>))| Object {
            name,
            functions: functions.into_iter().collect(),
            callbacks: callbacks.into_iter().collect(),
        };
        self.objects.into_iter().map(object).collect()
    }
}

/// Sorts states and refuses what the kernel could not tell apart.
pub(crate) fn checked_states(mut states: Vec<State>) -> Result<Vec<State>, InspectError> {
    if states.len() > MAX_STATES {
        return Err(too_large("number of states", states.len(), MAX_STATES));
    }
    states.sort_unstable();
    match states.windows(2).find(|pair| pair[0].id == pair[1].id) {
        Some(pair) => Err(malformed(format!("state {} is given twice", pair[0].id))),
        None => Ok(states),
    }
}

fn too_large(what: &'static str, actual: usize, limit: usize) -> InspectError {
    InspectError::TooLarge {
        what,
        actual: actual as u64,
        limit: limit as u64,
    }
}
