//! A kernel under whose feet the agent dies: from a chosen call on, nothing an agent does has any effect.

use std::collections::BTreeSet;
use std::ffi::CStr;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use livepatch_kernel::symbols::{SymbolCounts, TracedFunction};
use livepatch_kernel::{
    BootId, BootTime, CallError, FakeKernel, Identity, Kernel, KernelError, KernelLog, Livepatch, LoadedModule,
    LogMark, PendingLoad, Policy, Seen, Standing, Straggler, Stragglers, Taints,
};
use tokio::sync::Notify;

/// Whether the call at which the agent dies still has its effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    Before,
    After,
}

#[derive(Debug, Default)]
struct Clockwork {
    calls: usize,
    released: bool,
}

/// Lets an agent die at its `dies_at`th call. The thread that made the call is held until the end of the test, as the
/// thread of a dead process never goes on.
pub struct Mortal {
    pub kernel: FakeKernel,
    dies_at: usize,
    moment: Moment,
    clockwork: Arc<(Mutex<Clockwork>, Condvar)>,
    died: Arc<Notify>,
}

/// Releases the held threads when dropped, after the agent was.
pub struct Funeral(Arc<(Mutex<Clockwork>, Condvar)>);

impl Drop for Funeral {
    fn drop(&mut self) {
        self.0.0.lock().unwrap().released = true;
        self.0.1.notify_all();
    }
}

impl Mortal {
    pub fn new(kernel: FakeKernel, dies_at: usize, moment: Moment) -> Self {
        Self {
            kernel,
            dies_at,
            moment,
            clockwork: Arc::default(),
            died: Arc::default(),
        }
    }

    pub fn died(&self) -> Arc<Notify> {
        Arc::clone(&self.died)
    }

    pub fn funeral(&self) -> Funeral {
        Funeral(Arc::clone(&self.clockwork))
    }

    fn call<T>(&self, act: impl FnOnce(&FakeKernel) -> T) -> T {
        let mut clockwork = self.clockwork.0.lock().unwrap();
        clockwork.calls += 1;
        let dies = clockwork.calls == self.dies_at;
        if clockwork.calls > self.dies_at || (dies && self.moment == Moment::Before) {
            self.die(clockwork);
        }
        drop(clockwork);
        let done = act(&self.kernel);
        if dies {
            self.die(self.clockwork.0.lock().unwrap());
        }
        done
    }

    /// Ends the thread once the test is over: what it was about to do is not done.
    fn die(&self, clockwork: std::sync::MutexGuard<'_, Clockwork>) -> ! {
        self.died.notify_one();
        let held = self
            .clockwork
            .1
            .wait_while(clockwork, |clockwork| !clockwork.released)
            .unwrap();
        drop(held);
        std::panic::resume_unwind(Box::new("dead"));
    }
}

impl Kernel for Mortal {
    fn identity(&self) -> Result<Identity, KernelError> {
        self.call(FakeKernel::identity)
    }
    fn boot_id(&self) -> Result<BootId, KernelError> {
        self.call(FakeKernel::boot_id)
    }
    // Also asked outside of the threads that may be held, and has no effect.
    fn now(&self) -> BootTime {
        self.kernel.now()
    }
    fn sleep(&self, span: Duration) {
        self.call(|kernel| kernel.sleep(span));
    }
    fn taints(&self) -> Result<Taints, KernelError> {
        self.call(FakeKernel::taints)
    }
    fn policy(&self) -> Policy {
        self.call(FakeKernel::policy)
    }
    fn livepatches(&self) -> Result<Vec<Livepatch>, KernelError> {
        self.call(FakeKernel::livepatches)
    }
    fn standing(&self, name: &str) -> Result<Option<Standing>, KernelError> {
        self.call(|kernel| kernel.standing(name))
    }
    fn in_transition(&self) -> Result<Option<String>, KernelError> {
        self.call(FakeKernel::in_transition)
    }
    fn module(&self, name: &str) -> Result<Option<LoadedModule>, KernelError> {
        self.call(|kernel| kernel.module(name))
    }
    fn leftovers(&self) -> Result<Vec<LoadedModule>, KernelError> {
        self.call(FakeKernel::leftovers)
    }
    fn start_load(&self, name: &str, image: &[u8], parameters: &CStr) -> Result<Box<dyn PendingLoad>, CallError> {
        self.call(|kernel| kernel.start_load(name, image, parameters))
    }
    fn set_enabled(&self, name: &str, enabled: bool) -> Result<(), CallError> {
        self.call(|kernel| kernel.set_enabled(name, enabled))
    }
    fn delete_module(&self, name: &str) -> Result<(), CallError> {
        self.call(|kernel| kernel.delete_module(name))
    }
    fn stragglers(&self, target: bool, limit: usize) -> Seen<Stragglers> {
        self.call(|kernel| kernel.stragglers(target, limit))
    }
    fn straggles(&self, task: &Straggler, target: bool) -> Seen<bool> {
        self.call(|kernel| kernel.straggles(task, target))
    }
    fn symbols(&self, wanted: &[(&str, &str)]) -> Seen<SymbolCounts> {
        self.call(|kernel| kernel.symbols(wanted))
    }
    fn module_files(&self, names: &[&str]) -> Seen<BTreeSet<String>> {
        self.call(|kernel| kernel.module_files(names))
    }
    fn traced_functions(&self) -> Seen<Vec<TracedFunction>> {
        self.call(FakeKernel::traced_functions)
    }
    fn log_mark(&self) -> LogMark {
        self.call(FakeKernel::log_mark)
    }
    fn log_since(&self, mark: &LogMark) -> KernelLog {
        self.call(|kernel| kernel.log_since(mark))
    }
}
