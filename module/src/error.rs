//! Why a file is not read as a livepatch. No IO.

use strum::IntoStaticStr;

use crate::compression::Compression;

/// Why a file was not read as a livepatch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, IntoStaticStr)]
#[non_exhaustive]
pub enum InspectError {
    /// The file does not start as an ELF file does.
    #[error("not an ELF file, so not a kernel module")]
    NotElf,
    /// The file is compressed; it has to be unpacked first.
    #[error("compressed with {compression}: unpack it before it is read")]
    Compressed {
        /// How it is packed.
        compression: Compression,
    },
    /// The file ends before something it announces.
    #[error("truncated: {what} ends at byte {end} but the file has {size}")]
    Truncated {
        /// What is cut off.
        what: String,
        /// Offset in bytes at which it would end.
        end: u64,
        /// Size of the file in bytes.
        size: u64,
    },
    /// A kernel module, but an ordinary one.
    #[error("kernel module {name} is not a livepatch")]
    NotALivepatch {
        /// Name of the module in the kernel's spelling.
        name: String,
    },
    /// An ELF file that is no kernel module: a program, a shared library, a plain object file.
    #[error("not a kernel module: {why}")]
    NotAModule {
        /// What it is, or what it lacks.
        why: String,
    },
    /// A module for a machine or word size this version cannot read.
    #[error("built for {machine}; livepatches are read for x86-64 and arm64")]
    UnsupportedArchitecture {
        /// The machine as far as it is known.
        machine: String,
    },
    /// The file can be understood in more than one way, so none of them is believed.
    #[error("ambiguous: {why}")]
    Ambiguous {
        /// The contradiction.
        why: String,
    },
    /// The file contradicts its format; a kernel would refuse it or worse.
    #[error("malformed module: {why}")]
    Malformed {
        /// The contradiction.
        why: String,
    },
    /// A livepatch in a layout this version does not know.
    #[error("livepatch {name} is in an unknown layout: {why}")]
    UnknownLayout {
        /// Name of the module in the kernel's spelling.
        name: String,
        /// What was looked for and not found.
        why: String,
    },
    /// More of something than any livepatch has.
    #[error("{what} too large: {actual}, at most {limit} allowed")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// Its size or count.
        actual: u64,
        /// The most that is read.
        limit: u64,
    },
}

impl InspectError {
    /// Stable reason code for status, events, metrics and logs.
    pub fn reason(&self) -> &'static str {
        self.into()
    }
}

pub(crate) fn malformed(why: impl Into<String>) -> InspectError {
    InspectError::Malformed { why: why.into() }
}

pub(crate) fn ambiguous(why: impl Into<String>) -> InspectError {
    InspectError::Ambiguous { why: why.into() }
}
