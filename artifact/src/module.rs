//! A module as it came from a registry, and whether it is what its description says. No IO.

use livepatch_module::{InspectError, Inspection};

/// A module file with the description it was pushed with.
///
/// The bytes have the digest that the manifest gives; the description is what the artefact claims, nothing more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PulledModule {
    /// The uncompressed module file.
    pub bytes: Vec<u8>,
    /// The config blob of the artefact: the description on which a rollout was planned.
    pub claimed: Inspection,
}

/// Why a module that was pulled must not be loaded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ModuleError {
    /// The file is no livepatch that this version can read.
    #[error("module file is not a livepatch that can be loaded")]
    NotReadable {
        /// Why not.
        source: InspectError,
    },
    /// The description tells of another module: who planned with it planned something else.
    #[error("{field} of the module differs from its description in the artefact")]
    ConfigMismatch {
        /// JSON path of the first field that differs.
        field: &'static str,
    },
}

impl ModuleError {
    /// Stable reason code for status, events, metrics and logs: `ConfigMismatch`, or the reason of the
    /// [`InspectError`].
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotReadable { source } => source.reason(),
            Self::ConfigMismatch { .. } => "ConfigMismatch",
        }
    }
}

impl PulledModule {
    /// Reads the module file itself and compares it with its description.
    ///
    /// # Errors
    /// [`ModuleError`]; a file that is refused here must not reach a kernel.
    pub fn inspect(&self) -> Result<Inspection, ModuleError> {
        let actual = livepatch_module::inspect(&self.bytes).map_err(|source| ModuleError::NotReadable { source })?;
        match first_difference(&self.claimed, &actual) {
            Some(field) => Err(ModuleError::ConfigMismatch { field }),
            None => Ok(actual),
        }
    }
}

/// The first field that matters for what is loaded, on what and beside what. Format, evidence, signature and licence
/// are for people, and another version may word them otherwise, so they may differ.
fn first_difference(claimed: &Inspection, actual: &Inspection) -> Option<&'static str> {
    let Inspection {
        name,
        format: _,
        kernel_release,
        vermagic,
        architecture,
        build_id,
        sha256,
        size,
        replace,
        objects,
        states,
        shadow_variables,
        depends,
        signature: _,
        license: _,
    } = actual;
    [
        ("sha256", claimed.sha256 == *sha256),
        ("size", claimed.size == *size),
        ("name", claimed.name == *name),
        ("kernelRelease", claimed.kernel_release == *kernel_release),
        ("vermagic", claimed.vermagic == *vermagic),
        ("architecture", claimed.architecture == *architecture),
        ("buildId", claimed.build_id == *build_id),
        ("replace.value", claimed.replace.value == replace.value),
        ("objects", claimed.objects == *objects),
        ("states", claimed.states == *states),
        ("shadowVariables", claimed.shadow_variables == *shadow_variables),
        ("depends", claimed.depends == *depends),
    ]
    .into_iter()
    .find_map(|(field, same)| (!same).then_some(field))
}
