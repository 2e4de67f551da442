//! Where the kernel's files are. No IO.

use std::path::{Path, PathBuf};

/// Directories through which the kernel is seen. Root paths are parameters everywhere; the defaults are here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// The writable view of `/sys/kernel/livepatch`.
    pub livepatch: PathBuf,
    /// The procfs of the host's process namespace.
    pub proc: PathBuf,
    /// sysfs, only read.
    pub sys: PathBuf,
    /// `/lib/modules`, only read.
    pub modules: PathBuf,
    /// False for a tree of ordinary files in a test, where nothing is checked to be sysfs.
    pub real: bool,
}

impl Host {
    /// The paths of a program that runs on the host itself.
    pub fn native() -> Self {
        Self {
            livepatch: "/sys/kernel/livepatch".into(),
            proc: "/proc".into(),
            sys: "/sys".into(),
            modules: "/lib/modules".into(),
            real: true,
        }
    }

    /// The paths of the agent's container. The livepatch directory must not lie under `/sys` there: the default `AppArmor`
    /// profile denies writes by path.
    pub fn container() -> Self {
        Self {
            livepatch: "/host/livepatch".into(),
            proc: "/host/proc".into(),
            ..Self::native()
        }
    }

    /// A tree of ordinary files under `root`, for tests.
    pub fn fixture(root: &Path) -> Self {
        Self {
            livepatch: root.join("sys/kernel/livepatch"),
            proc: root.join("proc"),
            sys: root.join("sys"),
            modules: root.join("lib/modules"),
            real: false,
        }
    }
}
