//! Reasons of a refused load, what to do about each, and whether to try again. No IO.

use serde::Serialize;
use strum::{EnumIter, IntoStaticStr};

/// Whether and when another try makes sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Retry {
    /// Nothing changes by itself.
    Never,
    /// When the transition that is running has ended.
    AfterTransition,
    /// A little later.
    Later,
}

/// Reasons of a refused load. The name of each is its reason code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, IntoStaticStr, EnumIter)]
pub enum RefusalReason {
    /// `kernel.modules_disabled` is set.
    ModulesDisabled,
    /// Lockdown refuses unsigned modules.
    LockdownActive,
    /// The name is on `module_blacklist=`.
    ModuleBlacklisted,
    /// `LoadPin` accepts modules from one file system only.
    LoadPinActive,
    /// IMA appraises modules by the signature in their file's attributes.
    AppraisalFailed,
    /// No right to load modules.
    NotPermitted,
    /// Unsigned, and signatures are enforced.
    SignatureRequired,
    /// Signed with a key that the kernel does not have.
    SignatureKeyUnknown,
    /// Signed with an algorithm that the kernel does not have.
    SignatureUnsupported,
    /// The signature is not that of this content.
    SignatureInvalid,
    /// The signature block cannot be parsed.
    SignatureMalformed,
    /// Built for another kernel: vermagic.
    VersionMagicMismatch,
    /// Built for another kernel: layout of `struct module`.
    ModuleLayoutMismatch,
    /// The kernel has no livepatching.
    LivepatchUnsupported,
    /// Not a module of this architecture, or damaged.
    InvalidModule,
    /// A function to patch does not exist.
    SymbolNotFound,
    /// Several functions have the name and no position was given.
    SymbolAmbiguous,
    /// Fewer functions have the name than the position says.
    SymbolPositionNotFound,
    /// A used symbol has another version.
    SymbolVersionMismatch,
    /// A used symbol does not exist.
    UnknownSymbol,
    /// The size of a function cannot be found.
    SymbolSizeUnknown,
    /// `klp_state` rules: a loaded livepatch has a state that this one lacks or lowers.
    IncompatibleState,
    /// Not marked as a livepatch.
    NotALivepatch,
    /// A function cannot be traced, so not patched.
    FunctionNotTraceable,
    /// A livepatch without content.
    NothingToPatch,
    /// Special symbols or sections of the module are malformed.
    MalformedKlpSymbol,
    /// `EINVAL` without a known text.
    InvalidArgument,
    /// A module of that name is loaded.
    NameTaken,
    /// A module of that name, no longer in use, cannot be removed: references to it remain.
    LeftoverPinned,
    /// Another livepatch is in transition.
    TransitionRunning,
    /// `kernel.ftrace_enabled` is 0, or ftrace has switched itself off after a fault.
    FtraceDisabled,
    /// Another tracer that may redirect the function holds it.
    FunctionHeldByTracer,
    /// Busy for another cause: a module of that name is coming or going.
    Busy,
    /// The module's own pre-patch callback refused.
    CallbackRefused,
    /// The livepatch core is not there.
    LivepatchNotInitialised,
    /// No memory.
    OutOfMemory,
    /// Interrupted by a signal.
    Interrupted,
    /// The image is open for writing somewhere.
    ImageOpenForWriting,
    /// An error number that no known path gives: a callback may return any.
    Unexpected,
}

impl RefusalReason {
    /// What a person does about it, in a sentence.
    pub const fn advice(self) -> &'static str {
        match self {
            Self::ModulesDisabled => "kernel.modules_disabled was set: nothing can be loaded before the next boot",
            Self::LockdownActive => "the kernel is locked down: sign the module with a key the kernel trusts",
            Self::ModuleBlacklisted => "remove the name from module_blacklist= on the kernel command line and reboot",
            Self::LoadPinActive => {
                "LoadPin accepts modules from the pinned file system only: this host cannot take livepatches from an agent"
            }
            Self::AppraisalFailed => "IMA appraises modules on this host: it cannot take livepatches from memory",
            Self::NotPermitted => "give the process CAP_SYS_MODULE in the host's user namespace",
            Self::SignatureRequired => "sign the module: this kernel enforces module signatures",
            Self::SignatureKeyUnknown => "enrol the signing key on the host, or sign with a key the kernel has",
            Self::SignatureUnsupported => "sign with a digest and key type that this kernel supports",
            Self::SignatureInvalid => "sign again: the module was changed after it was signed, or its key was revoked",
            Self::SignatureMalformed => "sign again with the kernel's own sign-file: the signature block is damaged",
            Self::VersionMagicMismatch => "build the livepatch for this kernel release and configuration",
            Self::ModuleLayoutMismatch | Self::SymbolVersionMismatch => {
                "build the livepatch against the headers of this very kernel build"
            }
            Self::LivepatchUnsupported => "this kernel is built without CONFIG_LIVEPATCH",
            Self::InvalidModule => "the file is damaged or of another architecture: build and push it again",
            Self::SymbolNotFound => {
                "the function does not exist in this kernel build: build the livepatch from its sources"
            }
            Self::SymbolAmbiguous => "several functions have this name: build the livepatch with the symbol's position",
            Self::SymbolPositionNotFound => {
                "the symbol's position does not fit this kernel build: build the livepatch from its sources"
            }
            Self::UnknownSymbol => {
                "a symbol the module uses is missing: load the modules it depends on, or build it for this kernel"
            }
            Self::SymbolSizeUnknown => {
                "the function's size is not known to this kernel: build the livepatch from its sources"
            }
            Self::IncompatibleState => {
                "a loaded livepatch has a klp_state that this one lacks or lowers: use one that carries it, or unload that one first"
            }
            Self::NotALivepatch => {
                "the module is not marked as a livepatch: build it with MODULE_INFO(livepatch, \"Y\")"
            }
            Self::FunctionNotTraceable => "the function is not traceable in this kernel: patch its callers instead",
            Self::NothingToPatch => "the livepatch is empty: build it again",
            Self::MalformedKlpSymbol => {
                "the module's livepatch relocations are malformed: build it with the tools of this kernel"
            }
            Self::InvalidArgument => "the kernel log on the host says what is wrong with the module",
            Self::NameTaken => "another module of this name is loaded: give the livepatch another name",
            Self::LeftoverPinned => {
                "an old module of this name cannot be removed, `force` was used on it: reboot the host"
            }
            Self::TransitionRunning => "another livepatch is in transition: it is tried again when that has ended",
            Self::FtraceDisabled => {
                "set kernel.ftrace_enabled to 1: livepatching needs it; where that is refused, ftrace has switched itself off after a fault, and only a reboot helps"
            }
            Self::FunctionHeldByTracer => {
                "a kprobe or another tracer on the host holds the function: remove it and try again"
            }
            Self::Busy => "a module of this name is being loaded or unloaded: it is tried again",
            Self::CallbackRefused => "the livepatch's own check refused this host: its vendor knows why",
            Self::LivepatchNotInitialised => "the kernel's livepatching did not start: see the kernel log of this boot",
            Self::OutOfMemory => "the host is out of memory",
            Self::Interrupted => "the load was interrupted: it is tried again",
            Self::ImageOpenForWriting => "the module's file is open for writing",
            Self::Unexpected => "the kernel log on the host says more",
        }
    }

    /// Whether another try makes sense.
    pub const fn retry(self) -> Retry {
        match self {
            Self::TransitionRunning => Retry::AfterTransition,
            Self::Busy | Self::Interrupted | Self::OutOfMemory => Retry::Later,
            _ => Retry::Never,
        }
    }
}
