//! Reads kernel livepatch modules and decides what may be loaded together.
//!
//! Pure and portable: bytes and descriptions go in, facts and verdicts come out. No file, socket or system call is
//! touched anywhere in this crate, so the same code answers in the operator, on a node and on a laptop.

mod compression;
pub mod conflict;
mod elf;
mod error;
mod inspection;
mod klp_build;
mod kpatch;
mod limits;
mod loader_check;
mod machine_code;
mod modinfo;
mod note;
mod patched;
mod pointers;
mod read;
mod release;
mod replace_flag;
mod sections;
mod signature;
mod static_format;
mod validate;

pub use compression::{Compression, DecompressError, decompress};
pub use error::InspectError;
pub use inspection::{
    Architecture, Callback, Format, Function, Inspection, Object, Replace, ReplaceValue, Signature, State,
};
pub use limits::{
    MAX_DEPENDS, MAX_EVIDENCE_BYTES, MAX_FUNCTION_NAME_BYTES, MAX_FUNCTIONS, MAX_MODULE_BYTES, MAX_MODULE_NAME_BYTES,
    MAX_OBJECTS, MAX_STATES, MAX_TEXT_BYTES,
};
pub use note::gnu_build_id;
pub use read::{Details, inspect, inspect_details};
pub use validate::InvalidInspection;

/// Name under which the kernel itself appears as a patched object, in sysfs and in [`Object::name`].
pub const VMLINUX: &str = "vmlinux";

/// Spells a module or file name as the kernel does: dashes and commas become underscores.
///
/// `scripts/Makefile.lib` does this for `KBUILD_MODNAME`, so `livepatch-foo.ko` is loaded as `livepatch_foo`.
pub fn kernel_spelling(name: &str) -> String {
    name.replace(['-', ','], "_")
}
