//! Errors of reading the kernel's state and of the calls that change it. No IO.

use std::fmt;
use std::io;
use std::path::PathBuf;

use nix::errno::Errno;
use thiserror::Error;

/// A failure to read what the kernel says.
#[derive(Debug, Error)]
pub enum KernelError {
    /// A file or directory of sysfs or procfs could not be read.
    #[error("cannot read {path}")]
    Read {
        /// What was read.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file held something that no kernel known to us writes.
    #[error("cannot make sense of {path}: `{text}`")]
    Malformed {
        /// What was read.
        path: PathBuf,
        /// The beginning of its content.
        text: String,
    },
    /// A path that has to be sysfs is something else, or is not there.
    #[error("{path} is not a sysfs directory: {hint}")]
    NotSysfs {
        /// The path.
        path: PathBuf,
        /// What to do about it.
        hint: &'static str,
    },
    /// `uname` or a clock failed, which they do not on a sane kernel.
    #[error("{call} failed")]
    System {
        /// The call.
        call: &'static str,
        /// Its error.
        source: Errno,
    },
}

impl KernelError {
    /// The reason code for status, events, metrics and logs.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Read { .. } => "KernelStateUnreadable",
            Self::Malformed { .. } => "KernelStateMalformed",
            Self::NotSysfs { .. } => "LivepatchDirectoryMissing",
            Self::System { .. } => "SystemCallFailed",
        }
    }
}

/// The calls of the seam that change the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Call {
    /// Making the sealed memory file that holds the image.
    MemfdCreate,
    /// `finit_module`.
    FinitModule,
    /// A write to `/sys/kernel/livepatch/<name>/enabled`.
    WriteEnabled,
    /// `delete_module`.
    DeleteModule,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::MemfdCreate => "memfd_create",
            Self::FinitModule => "finit_module",
            Self::WriteEnabled => "write of enabled",
            Self::DeleteModule => "delete_module",
        })
    }
}

/// A call that the kernel answered with an error number.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{call} of {subject} failed with {name} ({number}): {text}", name = errno_name(*errno), number = *errno as i32, text = errno.desc())]
pub struct CallError {
    /// Which call.
    pub call: Call,
    /// The livepatch or module it was about.
    pub subject: String,
    /// The kernel's answer.
    pub errno: Errno,
}

impl CallError {
    /// A failed call.
    pub fn new(call: Call, subject: impl Into<String>, errno: Errno) -> Self {
        Self {
            call,
            subject: subject.into(),
            errno,
        }
    }
}

/// `EBUSY` and the like. `EAGAIN` and `EWOULDBLOCK` are one number on Linux.
fn errno_name(errno: Errno) -> String {
    format!("{errno:?}")
}
