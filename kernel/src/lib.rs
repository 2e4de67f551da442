//! What the running kernel says about livepatches, and the few calls that change it.
//!
//! Everything goes through one seam, the trait [`Kernel`]: what can be read (sysfs, procfs, the kernel log), the three
//! calls that change something (`finit_module`, a write to `enabled`, `delete_module`) and the clock. [`LinuxKernel`]
//! is the real one and does all the IO of this crate; [`FakeKernel`] is a model in memory whose every behaviour has a
//! case that also runs on real kernels. Operations ([`operation`]) and the checks before a load ([`preflight`]) are written against
//! the seam and do no IO of their own.
//!
//! `force` is not part of the seam: nothing here can write it.

pub mod blockers;
pub mod clock;
pub mod error;
pub mod fake;
pub mod host;
pub mod identity;
pub mod klog;
pub mod linux;
pub mod notes;
pub mod operation;
pub mod policy;
pub mod preflight;
pub mod refusal;
pub mod seam;
pub mod seen;
pub mod state;
pub mod symbols;
pub mod taints;

pub use blockers::{Straggler, Stragglers};
pub use clock::BootTime;
pub use error::{Call, CallError, KernelError};
pub use fake::{FakeKernel, FakeModule, FakeTask};
pub use host::Host;
pub use identity::{BootId, BuildId, Identity};
pub use klog::{KernelLog, LogMark};
pub use linux::LinuxKernel;
pub use policy::{Lockdown, Policy};
pub use refusal::{Circumstances, LoadRefusal, RefusalReason, Retry};
pub use seam::{Kernel, PendingLoad};
pub use seen::Seen;
pub use state::{Function, Livepatch, LoadedModule, ModuleState, PatchedObject, Standing};
pub use taints::{Taint, Taints};
