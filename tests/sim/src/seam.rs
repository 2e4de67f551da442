//! The kernel's seam with an ear at it: what an agent does to the kernel is written down, and an agent can die before or
//! after any of it.

use std::collections::BTreeSet;
use std::ffi::CStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use livepatch_kernel::symbols::{SymbolCounts, TracedFunction};
use livepatch_kernel::{
    BootId, BootTime, Call, CallError, FakeKernel, Identity, Kernel, KernelError, KernelLog, Livepatch, LoadedModule,
    LogMark, PendingLoad, Policy, Seen, Standing, Straggler, Stragglers, Taints,
};
use nix::errno::Errno;

use crate::coverage::{Arm, Moment, Point};

/// Something done to the kernel.
#[derive(Clone, Debug)]
pub(crate) struct Act {
    pub point: Point,
    pub module: String,
    /// The image of a load.
    pub image: Vec<u8>,
    /// A transition ran when it was done.
    pub during_transition: Option<String>,
    /// The kernel agreed.
    pub done: bool,
}

/// What was heard.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    pub acts: Vec<Act>,
    /// Deaths that wait at the seam.
    pub arms: Vec<Arm>,
    /// The death that came.
    pub died: Option<Arm>,
}

/// The seam.
#[derive(Clone, Debug)]
pub(crate) struct Seam {
    pub kernel: FakeKernel,
    heard: Arc<Mutex<Heard>>,
}

impl Seam {
    pub fn new(kernel: FakeKernel) -> Self {
        Self {
            kernel,
            heard: Arc::default(),
        }
    }

    pub fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something to the kernel, unless who asks dies before.
    fn act<T>(
        &self,
        (point, call): (Point, Call),
        module: &str,
        image: &[u8],
        act: impl FnOnce() -> Result<T, CallError>,
    ) -> Result<T, CallError> {
        let cut_off = || CallError::new(call, module, Errno::EINTR);
        let mut heard = self.heard();
        if heard.died.is_some() {
            return Err(cut_off());
        }
        let armed = |heard: &Heard, moment| {
            heard
                .arms
                .iter()
                .find(|arm| arm.point == point && arm.moment == moment)
                .cloned()
        };
        if let Some(arm) = armed(&heard, Moment::Before) {
            heard.died = Some(arm);
            return Err(cut_off());
        }
        let was_there = matches!(self.kernel.module(module), Ok(Some(_)));
        let mut written = Act {
            point,
            module: module.to_owned(),
            image: image.to_owned(),
            during_transition: self.kernel.in_transition().ok().flatten(),
            done: false,
        };
        let result = act();
        // A load is answered later; what came of it is there at once.
        let is_there = matches!(self.kernel.module(module), Ok(Some(_)));
        written.done = result.is_ok() && (point != Point::FinitModule || (is_there && !was_there));
        heard.acts.push(written);
        heard.died = armed(&heard, Moment::After);
        result
    }
}

impl Kernel for Seam {
    fn identity(&self) -> Result<Identity, KernelError> {
        self.kernel.identity()
    }
    fn boot_id(&self) -> Result<BootId, KernelError> {
        self.kernel.boot_id()
    }
    fn now(&self) -> BootTime {
        self.kernel.now()
    }
    fn sleep(&self, _span: Duration) {
        // Time passes for everybody at once, and not here.
    }
    fn taints(&self) -> Result<Taints, KernelError> {
        self.kernel.taints()
    }
    fn policy(&self) -> Policy {
        self.kernel.policy()
    }
    fn livepatches(&self) -> Result<Vec<Livepatch>, KernelError> {
        self.kernel.livepatches()
    }
    fn standing(&self, name: &str) -> Result<Option<Standing>, KernelError> {
        self.kernel.standing(name)
    }
    fn in_transition(&self) -> Result<Option<String>, KernelError> {
        self.kernel.in_transition()
    }
    fn module(&self, name: &str) -> Result<Option<LoadedModule>, KernelError> {
        self.kernel.module(name)
    }
    fn leftovers(&self) -> Result<Vec<LoadedModule>, KernelError> {
        self.kernel.leftovers()
    }
    fn start_load(&self, name: &str, image: &[u8], parameters: &CStr) -> Result<Box<dyn PendingLoad>, CallError> {
        self.act((Point::FinitModule, Call::FinitModule), name, image, || {
            self.kernel.start_load(name, image, parameters)
        })
    }
    fn set_enabled(&self, name: &str, enabled: bool) -> Result<(), CallError> {
        let point = if enabled { Point::PutBack } else { Point::Cancel };
        self.act((point, Call::WriteEnabled), name, &[], || {
            self.kernel.set_enabled(name, enabled)
        })
    }
    fn delete_module(&self, name: &str) -> Result<(), CallError> {
        self.act((Point::DeleteModule, Call::DeleteModule), name, &[], || {
            self.kernel.delete_module(name)
        })
    }
    fn stragglers(&self, target: bool, limit: usize) -> Seen<Stragglers> {
        self.kernel.stragglers(target, limit)
    }
    fn straggles(&self, task: &Straggler, target: bool) -> Seen<bool> {
        self.kernel.straggles(task, target)
    }
    fn symbols(&self, wanted: &[(&str, &str)]) -> Seen<SymbolCounts> {
        self.kernel.symbols(wanted)
    }
    fn module_files(&self, names: &[&str]) -> Seen<BTreeSet<String>> {
        self.kernel.module_files(names)
    }
    fn traced_functions(&self) -> Seen<Vec<TracedFunction>> {
        self.kernel.traced_functions()
    }
    fn log_mark(&self) -> LogMark {
        self.kernel.log_mark()
    }
    fn log_since(&self, mark: &LogMark) -> KernelLog {
        self.kernel.log_since(mark)
    }
}
