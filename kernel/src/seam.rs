//! The kernel as this project sees it: the one seam between decisions and the machine. No IO here.

use std::collections::BTreeSet;
use std::ffi::CStr;
use std::time::Duration;

use crate::blockers::{Straggler, Stragglers};
use crate::clock::BootTime;
use crate::error::{CallError, KernelError};
use crate::identity::{BootId, Identity};
use crate::klog::{KernelLog, LogMark};
use crate::policy::Policy;
use crate::seen::Seen;
use crate::state::{Livepatch, LoadedModule, Standing};
use crate::symbols::{SymbolCounts, TracedFunction};
use crate::taints::Taints;

/// A running kernel. All methods are synchronous; none but [`Kernel::sleep`] waits, except that a write may wait for
/// the kernel's own lock (milliseconds; seconds on some kernels while they rewrite code).
pub trait Kernel: Send + Sync {
    /// Release, build and architecture. Does not change within a boot.
    fn identity(&self) -> Result<Identity, KernelError>;

    /// The id of this boot.
    fn boot_id(&self) -> Result<BootId, KernelError>;

    /// Now, on `CLOCK_BOOTTIME`.
    fn now(&self) -> BootTime;

    /// Waits; virtual in the fake.
    fn sleep(&self, span: Duration);

    /// Taint flags of the kernel.
    fn taints(&self) -> Result<Taints, KernelError>;

    /// Settings that decide about loads.
    fn policy(&self) -> Policy;

    /// All livepatches, sorted by stack order where the kernel shows it, else by name.
    fn livepatches(&self) -> Result<Vec<Livepatch>, KernelError>;

    /// `enabled` and `transition` of one livepatch; `None` if it has no entry. The cheap question for polling.
    fn standing(&self, name: &str) -> Result<Option<Standing>, KernelError>;

    /// The livepatch in transition, if any: there is at most one in the system.
    fn in_transition(&self) -> Result<Option<String>, KernelError>;

    /// One loaded module; `None` if no module of that name is loaded.
    fn module(&self, name: &str) -> Result<Option<LoadedModule>, KernelError>;

    /// Modules that are livepatches and have no entry among the livepatches: replaced, disabled, or pinned by `force`.
    fn leftovers(&self) -> Result<Vec<LoadedModule>, KernelError>;

    /// Begins one `finit_module` of exactly these bytes, in a thread of its own, since the call may block for seconds.
    /// `name` is only for messages.
    fn start_load(&self, name: &str, image: &[u8], parameters: &CStr) -> Result<Box<dyn PendingLoad>, CallError>;

    /// Writes `enabled`.
    fn set_enabled(&self, name: &str, enabled: bool) -> Result<(), CallError>;

    /// One `delete_module`, without waiting and without force.
    fn delete_module(&self, name: &str) -> Result<(), CallError>;

    /// Tasks whose patch state is not `target`, at most `limit` of them listed. Asked during a transition only: outside
    /// one the kernel has no such state and none is listed. A whole scan of procfs: not more than once a second.
    fn stragglers(&self, target: bool, limit: usize) -> Seen<Stragglers>;

    /// Whether one task still has not switched: the same question about one task only, for the moment before a write.
    fn straggles(&self, task: &Straggler, target: bool) -> Seen<bool>;

    /// How often the kernel has each of these functions, given by object and name: one pass over its symbol table.
    fn symbols(&self, wanted: &[(&str, &str)]) -> Seen<SymbolCounts>;

    /// Which of these modules exist as files of the running kernel, or are built in.
    fn module_files(&self, names: &[&str]) -> Seen<BTreeSet<String>>;

    /// Functions that something is attached to; seen only where tracefs is.
    fn traced_functions(&self) -> Seen<Vec<TracedFunction>>;

    /// A mark at the end of the kernel log.
    fn log_mark(&self) -> LogMark;

    /// What the kernel logged since a mark.
    fn log_since(&self, mark: &LogMark) -> KernelLog;
}

/// A `finit_module` that may not have returned yet.
pub trait PendingLoad: Send {
    /// The kernel's answer, once it is there. Asked again after the answer it gives the same one.
    fn poll(&mut self) -> Option<Result<(), CallError>>;
}
