//! The real kernel: sysfs, procfs and system calls. All IO of this crate is below here.

mod files;
mod loader;
mod procfs;
mod symbols;
mod syscalls;
mod sysfs;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::ffi::CStr;
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::statfs::{SYSFS_MAGIC, statfs};
use nix::time::{ClockId, clock_gettime};

use crate::blockers::{Straggler, Stragglers};
use crate::clock::BootTime;
use crate::error::{CallError, KernelError};
use crate::host::Host;
use crate::identity::{BootId, Identity};
use crate::klog::{KernelLog, LogMark};
use crate::policy::Policy;
use crate::seam::{Kernel, PendingLoad};
use crate::seen::Seen;
use crate::state::{Livepatch, LoadedModule, Standing};
use crate::symbols::{SymbolCounts, TracedFunction};
use crate::taints::Taints;

/// Most of the kernel log that is searched after an operation, counted from its end.
const MAX_LOG: usize = 1 << 20;

/// What a mark is taken from: enough for its lines, be one record all line breaks, each of which the kernel puts a prefix
/// after. The kernel formats all that fits into the buffer.
const LOG_END: usize = 32 << 10;

/// The running kernel of this machine.
#[derive(Debug)]
pub struct LinuxKernel {
    host: Host,
    /// Does not change within a boot, and costs a pass over the symbol table.
    replace_set: OnceLock<Seen<bool>>,
}

impl LinuxKernel {
    /// The kernel seen through these paths, after a check that the livepatch directory and `sys` really are sysfs: a
    /// mount that is missing must not look like a host without livepatches.
    pub fn open(host: Host) -> Result<Self, KernelError> {
        if host.real {
            require_sysfs(
                &host.livepatch,
                "is the kernel built with CONFIG_LIVEPATCH, and the directory mounted here?",
            )?;
            require_sysfs(&host.sys, "is sysfs mounted here?")?;
        }
        Ok(Self {
            host,
            replace_set: OnceLock::new(),
        })
    }

    /// The paths it is seen through.
    pub fn host(&self) -> &Host {
        &self.host
    }
}

fn require_sysfs(path: &std::path::Path, hint: &'static str) -> Result<(), KernelError> {
    let not_sysfs = || KernelError::NotSysfs {
        path: path.to_owned(),
        hint,
    };
    let stat = statfs(path).map_err(|_| not_sysfs())?;
    if stat.filesystem_type() == SYSFS_MAGIC {
        Ok(())
    } else {
        Err(not_sysfs())
    }
}

impl Kernel for LinuxKernel {
    fn identity(&self) -> Result<Identity, KernelError> {
        let uname = nix::sys::utsname::uname().map_err(|source| KernelError::System { call: "uname", source })?;
        Ok(Identity {
            release: uname.release().to_string_lossy().into_owned(),
            version: uname.version().to_string_lossy().into_owned(),
            architecture: uname.machine().to_string_lossy().into_owned(),
            build_id: sysfs::kernel_build_id(&self.host.sys)?,
        })
    }

    fn boot_id(&self) -> Result<BootId, KernelError> {
        procfs::boot_id(&self.host.proc)
    }

    fn now(&self) -> BootTime {
        // CLOCK_BOOTTIME exists since 2.6.39 and needs no right: an error is not possible on a kernel with livepatching.
        let time = clock_gettime(ClockId::CLOCK_BOOTTIME)
            .map(Duration::from)
            .unwrap_or_default();
        BootTime::default() + time
    }

    fn sleep(&self, span: Duration) {
        thread::sleep(span);
    }

    fn taints(&self) -> Result<Taints, KernelError> {
        procfs::taints(&self.host.proc)
    }

    fn policy(&self) -> Policy {
        Policy {
            modules_disabled: procfs::sysctl_flag(&self.host.proc, "kernel/modules_disabled"),
            signature_enforced: sysfs::signature_enforced(&self.host.sys),
            lockdown: sysfs::lockdown(&self.host.sys),
            ftrace_enabled: procfs::ftrace_enabled(&self.host.proc),
            loadpin_enforced: procfs::loadpin_enforced(&self.host.proc),
            replace_set: self
                .replace_set
                .get_or_init(|| symbols::has_replace_set(&self.host.proc))
                .clone(),
        }
    }

    fn livepatches(&self) -> Result<Vec<Livepatch>, KernelError> {
        sysfs::livepatches(&self.host)
    }

    fn standing(&self, name: &str) -> Result<Option<Standing>, KernelError> {
        sysfs::standing(&self.host.livepatch, name)
    }

    fn in_transition(&self) -> Result<Option<String>, KernelError> {
        sysfs::in_transition(&self.host.livepatch)
    }

    fn module(&self, name: &str) -> Result<Option<LoadedModule>, KernelError> {
        let modules = procfs::modules(&self.host.proc)?;
        let listed = modules.into_iter().find(|module| module.name == name);
        Ok(listed.map(|module| sysfs::loaded_module(&self.host.sys, module)))
    }

    fn leftovers(&self) -> Result<Vec<LoadedModule>, KernelError> {
        // The entries are read last: a livepatch that is being loaded or freed between the two reads then counts as
        // an entry, never as a leftover by mistake.
        let modules = procfs::modules(&self.host.proc)?;
        let candidates: Vec<LoadedModule> = modules
            .into_iter()
            .map(|module| sysfs::loaded_module(&self.host.sys, module))
            .filter(|module| module.livepatch.is(&true))
            .collect();
        let entries = sysfs::entries(&self.host.livepatch)?;
        Ok(candidates
            .into_iter()
            .filter(|module| !entries.contains(&module.name))
            .collect())
    }

    fn start_load(&self, name: &str, image: &[u8], parameters: &CStr) -> Result<Box<dyn PendingLoad>, CallError> {
        loader::start(name, image, parameters.to_owned())
    }

    fn set_enabled(&self, name: &str, enabled: bool) -> Result<(), CallError> {
        sysfs::write_enabled(&self.host.livepatch, name, enabled)
    }

    fn delete_module(&self, name: &str) -> Result<(), CallError> {
        loader::delete(name)
    }

    fn stragglers(&self, target: bool, limit: usize) -> Seen<Stragglers> {
        procfs::stragglers(&self.host.proc, target, limit)
    }

    fn straggles(&self, task: &Straggler, target: bool) -> Seen<bool> {
        procfs::straggles(&self.host.proc, task, target)
    }

    fn symbols(&self, wanted: &[(&str, &str)]) -> Seen<SymbolCounts> {
        symbols::counts(&self.host.proc, wanted)
    }

    fn module_files(&self, names: &[&str]) -> Seen<BTreeSet<String>> {
        match self.identity() {
            Ok(identity) => symbols::module_files(&self.host.modules.join(identity.release), names),
            Err(error) => Seen::unknown(error.to_string()),
        }
    }

    fn traced_functions(&self) -> Seen<Vec<TracedFunction>> {
        symbols::traced_functions(&self.host.sys)
    }

    fn log_mark(&self) -> LogMark {
        syscalls::kernel_log(LOG_END).map_or_else(|_: Errno| LogMark::unreadable(), |log| LogMark::at_end_of(&log))
    }

    fn log_since(&self, mark: &LogMark) -> KernelLog {
        syscalls::kernel_log(MAX_LOG).map_or_else(|_: Errno| KernelLog::default(), |log| KernelLog::since(mark, &log))
    }
}
