//! Bounds of an [`Inspection`] that came from outside, as the config blob of an artefact does. No IO.

use std::collections::HashSet;

use crate::inspection::{Inspection, Object};
use crate::limits::{
    MAX_DEPENDS, MAX_EVIDENCE_BYTES, MAX_FUNCTION_NAME_BYTES, MAX_FUNCTIONS, MAX_MODULE_BYTES, MAX_MODULE_NAME_BYTES,
    MAX_OBJECTS, MAX_STATES, MAX_TEXT_BYTES,
};

/// A description of a livepatch that no module can have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid module description: {field} {why}")]
pub struct InvalidInspection {
    /// JSON path of the offending field.
    pub field: &'static str,
    /// What is wrong with it, without repeating untrusted text.
    pub why: String,
}

impl InvalidInspection {
    /// Stable reason code for status, events, metrics and logs.
    pub fn reason(&self) -> &'static str {
        "InvalidInspection"
    }
}

impl Inspection {
    /// Checks that every field is within the bounds that [`crate::inspect`] keeps itself.
    ///
    /// # Errors
    /// The first field that is out of bounds.
    pub fn validate(&self) -> Result<(), InvalidInspection> {
        module_name("name", &self.name)?;
        printable("kernelRelease", &self.kernel_release, 1)?;
        printable("vermagic", &self.vermagic, 1)?;
        check(
            self.vermagic.split(' ').next() == Some(&self.kernel_release),
            "kernelRelease",
            || "is not the first word of vermagic".to_owned(),
        )?;
        if let Some(id) = &self.build_id {
            check(is_hex(id) && (8..=128).contains(&id.len()), "buildId", || {
                "is not 4 to 64 bytes in hex".to_owned()
            })?;
        }
        check(is_hex(&self.sha256) && self.sha256.len() == 64, "sha256", || {
            "is not 32 bytes in hex".to_owned()
        })?;
        at_most("size", self.size, MAX_MODULE_BYTES as u64)?;
        at_most(
            "replace.evidence",
            self.replace.evidence.len() as u64,
            MAX_EVIDENCE_BYTES as u64,
        )?;
        self.validate_objects()?;
        self.validate_states()?;
        at_most("depends", self.depends.len() as u64, MAX_DEPENDS as u64)?;
        self.depends.iter().try_for_each(|name| module_name("depends", name))?;
        if let Some(signature) = &self.signature {
            for text in [&signature.signer, &signature.key_id, &signature.hash]
                .into_iter()
                .flatten()
            {
                printable("signature", text, 0)?;
            }
        }
        self.license
            .iter()
            .try_for_each(|license| printable("license", license, 0))
    }

    fn validate_objects(&self) -> Result<(), InvalidInspection> {
        at_most("objects", self.objects.len() as u64, MAX_OBJECTS as u64)?;
        at_most(
            "objects[].functions",
            self.function_count() as u64,
            MAX_FUNCTIONS as u64,
        )?;
        let mut names = HashSet::new();
        for object in &self.objects {
            module_name("objects[].name", &object.name)?;
            check(names.insert(&object.name), "objects[].name", || {
                "is given twice".to_owned()
            })?;
            validate_object(object)?;
        }
        Ok(())
    }

    fn validate_states(&self) -> Result<(), InvalidInspection> {
        at_most("states", self.states.len() as u64, MAX_STATES as u64)?;
        let mut ids = HashSet::new();
        for state in &self.states {
            check(state.id != 0, "states[].id", || {
                "is 0, which ends the list in the kernel".to_owned()
            })?;
            check(ids.insert(state.id), "states[].id", || "is given twice".to_owned())?;
        }
        Ok(())
    }
}

fn validate_object(object: &Object) -> Result<(), InvalidInspection> {
    let mut seen = HashSet::new();
    for function in &object.functions {
        function_name("objects[].functions[].name", &function.name)?;
        check(function.position >= 1, "objects[].functions[].position", || {
            "is 0, positions count from 1".to_owned()
        })?;
        check(seen.insert(function), "objects[].functions[]", || {
            "is given twice".to_owned()
        })?;
    }
    check(
        object.callbacks.is_sorted_by(|a, b| a < b),
        "objects[].callbacks",
        || "are not in the kernel's order or given twice".to_owned(),
    )
}

fn check(ok: bool, field: &'static str, why: impl FnOnce() -> String) -> Result<(), InvalidInspection> {
    if ok {
        Ok(())
    } else {
        Err(InvalidInspection { field, why: why() })
    }
}

fn at_most(field: &'static str, actual: u64, limit: u64) -> Result<(), InvalidInspection> {
    check(actual <= limit, field, || {
        format!("has {actual}, at most {limit} allowed")
    })
}

fn printable(field: &'static str, text: &str, least: usize) -> Result<(), InvalidInspection> {
    at_most(field, text.len() as u64, MAX_TEXT_BYTES as u64)?;
    check(text.len() >= least, field, || "is empty".to_owned())?;
    check(!text.chars().any(char::is_control), field, || {
        "has control characters".to_owned()
    })
}

fn module_name(field: &'static str, name: &str) -> Result<(), InvalidInspection> {
    check(is_module_name(name), field, || {
        format!("is not a module name: 1 to {MAX_MODULE_NAME_BYTES} of [A-Za-z0-9_] in the kernel's spelling")
    })
}

fn function_name(field: &'static str, name: &str) -> Result<(), InvalidInspection> {
    check(is_symbol_name(name), field, || {
        format!(
            "is not a symbol name: 1 to {MAX_FUNCTION_NAME_BYTES} printable characters without blank, comma or slash"
        )
    })
}

/// Whether the kernel could show this as the name of a loaded module.
pub(crate) fn is_module_name(name: &str) -> bool {
    (1..=MAX_MODULE_NAME_BYTES).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// Whether the kernel could have a symbol of this name; sysfs shows it as a directory `<name>,<position>`.
pub(crate) fn is_symbol_name(name: &str) -> bool {
    (1..=MAX_FUNCTION_NAME_BYTES).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_graphic() && b != b'/' && b != b',')
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}
