//! A kernel in memory, for tests of whatever is written against the seam. No IO.
//!
//! Time is virtual: it passes only in [`Kernel::sleep`] and [`FakeKernel::advance`], so tests of minutes take
//! microseconds. The model holds only behaviours that were observed on real kernels, and the same cases
//! run on both; extend it when a test depends on a behaviour it lacks, and add the case.

mod calls;
mod model;
mod module;

use std::collections::BTreeSet;
use std::ffi::CStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::errno::Errno;

use crate::blockers::{Straggler, Stragglers};
use crate::clock::BootTime;
use crate::error::{Call, CallError, KernelError};
use crate::identity::{BootId, Identity};
use crate::klog::{KernelLog, LogMark};
use crate::policy::Policy;
use crate::seam::{Kernel, PendingLoad};
use crate::seen::Seen;
use crate::state::{Livepatch, LoadedModule, Standing};
use crate::symbols::{SymbolCounts, TracedFunction};
use crate::taints::Taints;
use model::{Loaded, Model};
pub use module::{FakeModule, FakeTask};

/// The fake kernel. Clones share one state.
#[derive(Debug, Clone)]
pub struct FakeKernel {
    model: Arc<Mutex<Model>>,
}

impl Default for FakeKernel {
    fn default() -> Self {
        Self::new()
    }
}

impl FakeKernel {
    /// A kernel `6.12.0-fake` one minute after boot, with nothing loaded.
    pub fn new() -> Self {
        Self {
            model: Arc::new(Mutex::new(Model::new())),
        }
    }

    fn model(&self) -> MutexGuard<'_, Model> {
        self.model.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Teaches the kernel what is in an image; other bytes are not a module to it.
    pub fn provide(&self, image: &[u8], module: FakeModule) {
        let mut model = self.model();
        model.images.retain(|(bytes, _)| bytes != image);
        model.images.push((image.to_owned(), module));
    }

    /// An image for a module: its name in bytes, made known to the kernel.
    pub fn image(&self, module: FakeModule) -> Arc<[u8]> {
        let bytes = format!("fake module {}", module.name).into_bytes();
        self.provide(&bytes, module);
        bytes.into()
    }

    /// Changes what `uname`, the notes and the boot id say.
    pub fn set_identity(&self, identity: Identity, boot_id: BootId) {
        let mut model = self.model();
        model.identity = identity;
        model.boot_id = boot_id;
    }

    /// Changes the settings.
    pub fn set_policy(&self, change: impl FnOnce(&mut Policy)) {
        change(&mut self.model().policy);
    }

    /// Whether sysfs shows `replace` (since 6.11) and `stack_order` (since 6.14).
    pub fn set_attributes(&self, replace: bool, stack_order: bool) {
        self.model().shows = (replace, stack_order);
    }

    /// Adds taint bits.
    pub fn taint(&self, bits: Taints) {
        self.model().taints.0 |= bits.0;
    }

    /// Puts a task to sleep in a function.
    pub fn add_task(&self, task: FakeTask) {
        self.model().tasks.push(task);
    }

    /// Wakes all tasks with this name.
    pub fn wake(&self, comm: &str) {
        let mut model = self.model();
        let now = model.now;
        for task in model.tasks.iter_mut().filter(|task| task.comm == comm) {
            task.until = Some(now);
        }
    }

    /// Lets another tracer hold a function, as a kprobe with a post handler does.
    pub fn hold_function(&self, function: &str) {
        self.model().held.insert(function.to_owned());
    }

    /// Takes the other tracer away.
    pub fn release_function(&self, function: &str) {
        self.model().held.remove(function);
    }

    /// The livepatch whose replacement of a function is effective: the last loaded that is enabled.
    pub fn effective(&self, function: &str) -> Option<String> {
        self.model().effective(function)
    }

    /// Ends the transition of a livepatch by force. If it was being disabled its module is pinned for ever.
    pub fn force(&self, name: &str) {
        self.model().force(name);
    }

    /// A module that is no livepatch.
    pub fn add_plain_module(&self, name: &str, refcount: u32) {
        self.model().modules.insert(
            name.to_owned(),
            Loaded {
                refcount,
                livepatch: false,
                build_id: None,
            },
        );
    }

    /// The next call of this kind fails, with this line in the kernel log.
    pub fn fail_next(&self, call: Call, errno: Errno, line: Option<&str>) {
        self.model().faults.push_back((call, errno, line.map(str::to_owned)));
    }

    /// The transition completes right before the next write to its livepatch's `enabled`: the lost race of a cancel.
    pub fn complete_before_next_write(&self) {
        self.model().races += 1;
    }

    /// Whether a write to this livepatch's `enabled` came right after its transition had completed, in this boot.
    pub fn lost_race(&self, name: &str) -> bool {
        self.model().raced.contains(name)
    }

    /// So many writes of `enabled` from now on work as ever, the one after them fails.
    pub fn fail_write_after(&self, writes: u32, errno: Errno) {
        self.model().refuse_write = Some((writes, errno));
    }

    /// No call fails any more of those that were to.
    pub fn heal(&self) {
        let mut model = self.model();
        model.faults.clear();
        model.races = 0;
        model.refuse_write = None;
    }

    /// `finit_module` returns this long after its work is done, as on kernels that rewrite code at its end.
    pub fn call_takes(&self, span: Duration) {
        self.model().call_takes = span;
    }

    /// How long a transition takes when no task is in the way; a second by default.
    pub fn transition_takes(&self, span: Duration) {
        self.model().settle = span;
    }

    /// How long the entry of a livepatch that is no longer in use is still listed, disabled; some milliseconds by default.
    pub fn freeing_takes(&self, span: Duration) {
        self.model().free_delay = span;
    }

    /// Adds a reference that is never dropped, as `force` leaves one.
    pub fn pin(&self, name: &str) {
        if let Some(module) = self.model().modules.get_mut(name) {
            module.refcount += 1;
        }
    }

    /// Whether the kernel log and the tasks can be seen.
    pub fn set_visible(&self, log: bool, tasks: bool) {
        let mut model = self.model();
        model.log_readable = log;
        model.tasks_visible = tasks;
    }

    /// Lets time pass.
    pub fn advance(&self, span: Duration) {
        self.model().advance(span);
    }

    /// A reboot: everything loaded is gone, the boot id is another, the clock begins anew.
    pub fn reboot(&self, boot_id: BootId) {
        let mut model = self.model();
        let mut next = Model::new();
        next.images = std::mem::take(&mut model.images);
        next.identity = model.identity.clone();
        next.policy = model.policy.clone();
        next.boot_id = boot_id;
        *model = next;
    }

    /// The calls that change something, in order, e.g. `finit_module`, `enabled a 0`, `delete_module a`.
    pub fn calls(&self) -> Vec<String> {
        self.model().calls.clone()
    }
}

impl Kernel for FakeKernel {
    fn identity(&self) -> Result<Identity, KernelError> {
        Ok(self.model().identity.clone())
    }

    fn boot_id(&self) -> Result<BootId, KernelError> {
        Ok(self.model().boot_id.clone())
    }

    fn now(&self) -> BootTime {
        self.model().now
    }

    fn sleep(&self, span: Duration) {
        self.advance(span);
    }

    fn taints(&self) -> Result<Taints, KernelError> {
        Ok(self.model().taints)
    }

    fn policy(&self) -> Policy {
        self.model().policy.clone()
    }

    fn livepatches(&self) -> Result<Vec<Livepatch>, KernelError> {
        Ok(self.model().livepatches())
    }

    fn standing(&self, name: &str) -> Result<Option<Standing>, KernelError> {
        Ok(self.model().standing(name))
    }

    fn in_transition(&self) -> Result<Option<String>, KernelError> {
        Ok(self.model().transition.as_ref().map(|t| t.patch.clone()))
    }

    fn module(&self, name: &str) -> Result<Option<LoadedModule>, KernelError> {
        Ok(self.model().module(name))
    }

    fn leftovers(&self) -> Result<Vec<LoadedModule>, KernelError> {
        let model = self.model();
        let names = model.modules.keys().filter(|name| model.standing(name).is_none());
        Ok(names
            .filter_map(|name| model.module(name))
            .filter(|module| module.livepatch.is(&true))
            .collect())
    }

    fn start_load(&self, name: &str, image: &[u8], _parameters: &CStr) -> Result<Box<dyn PendingLoad>, CallError> {
        let mut model = self.model();
        model.calls.push(format!("finit_module {name}"));
        let result = model
            .load(image)
            .map_err(|errno| CallError::new(Call::FinitModule, name, errno));
        let returns = model.now + model.call_takes;
        Ok(Box::new(FakeLoad {
            kernel: self.clone(),
            returns,
            result,
        }))
    }

    fn set_enabled(&self, name: &str, enabled: bool) -> Result<(), CallError> {
        let mut model = self.model();
        model.calls.push(format!("enabled {name} {}", u8::from(enabled)));
        model
            .write_enabled(name, enabled)
            .map_err(|errno| CallError::new(Call::WriteEnabled, name, errno))
    }

    fn delete_module(&self, name: &str) -> Result<(), CallError> {
        let mut model = self.model();
        model.calls.push(format!("delete_module {name}"));
        model
            .delete(name)
            .map_err(|errno| CallError::new(Call::DeleteModule, name, errno))
    }

    fn stragglers(&self, target: bool, limit: usize) -> Seen<Stragglers> {
        let model = self.model();
        if model.tasks_visible {
            Seen::Known(model.stragglers(target, limit))
        } else {
            Seen::unknown("this procfs does not show the host's tasks")
        }
    }

    fn straggles(&self, task: &Straggler, target: bool) -> Seen<bool> {
        match self.stragglers(target, usize::MAX) {
            Seen::Known(stragglers) => Seen::Known(stragglers.listed.iter().any(|other| other.tid == task.tid)),
            Seen::Unknown(why) => Seen::Unknown(why),
        }
    }

    fn symbols(&self, wanted: &[(&str, &str)]) -> Seen<SymbolCounts> {
        let model = self.model();
        let missing = |name: &str| {
            model
                .images
                .iter()
                .any(|(_, m)| m.missing_symbol.as_deref() == Some(name))
        };
        let mut counts = SymbolCounts::of(wanted);
        for (object, name) in wanted.iter().filter(|(_, name)| !missing(name)) {
            counts.add(object, name);
        }
        Seen::Known(counts)
    }

    fn module_files(&self, _names: &[&str]) -> Seen<BTreeSet<String>> {
        Seen::unknown("the fake kernel has no files")
    }

    fn traced_functions(&self) -> Seen<Vec<TracedFunction>> {
        let held = self.model().held.clone();
        Seen::Known(
            held.into_iter()
                .map(|name| TracedFunction {
                    name,
                    redirects: true,
                    direct: false,
                })
                .collect(),
        )
    }

    fn log_mark(&self) -> LogMark {
        let model = self.model();
        if model.log_readable {
            LogMark::at_end_of(&model.log.join("\n"))
        } else {
            LogMark::unreadable()
        }
    }

    fn log_since(&self, mark: &LogMark) -> KernelLog {
        let model = self.model();
        if model.log_readable {
            KernelLog::since(mark, &model.log.join("\n"))
        } else {
            KernelLog::default()
        }
    }
}

struct FakeLoad {
    kernel: FakeKernel,
    returns: BootTime,
    result: Result<(), CallError>,
}

impl PendingLoad for FakeLoad {
    fn poll(&mut self) -> Option<Result<(), CallError>> {
        (self.kernel.now() >= self.returns).then(|| self.result.clone())
    }
}
