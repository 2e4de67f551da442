//! Whether a module is what a grant says, for this kernel. No IO.

use livepatch_kernel::Identity;
use livepatch_module::Inspection;
use thiserror::Error;

use crate::journal::Entry;

/// Why a module is not loaded, whatever the circumstances.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum VerifyError {
    /// The file is another one.
    #[error("the module file has SHA-256 {actual}, granted was {granted}")]
    Digest {
        /// What the grant says.
        granted: String,
        /// What the file has.
        actual: String,
    },
    /// The file tells another name or build id than the grant.
    #[error("the module's {what} is {actual}, granted was {granted}")]
    Identity {
        /// What differs.
        what: &'static str,
        /// What the grant says.
        granted: String,
        /// What the file says.
        actual: String,
    },
    /// The file is for another kernel.
    #[error("the module is for kernel {module}, this is {running}")]
    Kernel {
        /// What the module is for.
        module: String,
        /// What runs.
        running: String,
    },
    /// The grant is for another kernel build.
    #[error("granted for kernel build {granted}, this is {running}")]
    KernelBuild {
        /// What the grant says.
        granted: String,
        /// What runs.
        running: String,
    },
    /// The file is for another machine.
    #[error("the module is for {module}, this is {running}")]
    Architecture {
        /// What the module is for.
        module: &'static str,
        /// What this is.
        running: String,
    },
}

impl VerifyError {
    /// The reason code for status, events, metrics and logs.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Digest { .. } => "DigestMismatch",
            Self::Identity { .. } => "IdentityMismatch",
            Self::Kernel { .. } | Self::KernelBuild { .. } => "WrongKernel",
            Self::Architecture { .. } => "WrongArchitecture",
        }
    }
}

/// Compares a module with its entry and with the running kernel. `sha256` was computed from the bytes that will be
/// loaded, and `inspection` read from them.
pub fn module(entry: &Entry, identity: &Identity, sha256: &str, inspection: &Inspection) -> Result<(), VerifyError> {
    if sha256 != entry.pair.sha256 {
        return Err(VerifyError::Digest {
            granted: entry.pair.sha256.clone(),
            actual: sha256.to_owned(),
        });
    }
    same("name", &entry.module, &inspection.name)?;
    same(
        "build id",
        &entry.build_id,
        inspection.build_id.as_deref().unwrap_or("none"),
    )?;
    if inspection.architecture.uname() != identity.architecture {
        return Err(VerifyError::Architecture {
            module: inspection.architecture.uname(),
            running: identity.architecture.clone(),
        });
    }
    if inspection.kernel_release != identity.release {
        return Err(VerifyError::Kernel {
            module: inspection.kernel_release.clone(),
            running: identity.release.clone(),
        });
    }
    let running = identity.build_id.as_ref().map_or("unknown", |id| id.as_str());
    if entry.pair.kernel_build_id != running {
        return Err(VerifyError::KernelBuild {
            granted: entry.pair.kernel_build_id.clone(),
            running: running.to_owned(),
        });
    }
    Ok(())
}

fn same(what: &'static str, granted: &str, actual: &str) -> Result<(), VerifyError> {
    if granted == actual {
        return Ok(());
    }
    Err(VerifyError::Identity {
        what,
        granted: granted.to_owned(),
        actual: actual.to_owned(),
    })
}
