//! Why the kernel refused to load a livepatch: its error number, read together with what it logged. No IO.
//!
//! The error numbers and texts are those of kernel/module/*.c and kernel/livepatch/*.c, 6.1 to 7.2.

use std::fmt;

use nix::errno::Errno;
use serde::Serialize;
use strum::{EnumIter, IntoStaticStr};

use crate::error::CallError;
use crate::klog::KernelLog;
use crate::policy::{Lockdown, Policy};
use crate::seen::Seen;

/// Most log lines kept as evidence.
const MAX_EVIDENCE: usize = 5;

/// A refused load, with what proves the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadRefusal {
    /// The typed reason.
    pub reason: RefusalReason,
    /// The call and its error number; `None` where the load was not even tried.
    pub error: Option<CallError>,
    /// Lines of the kernel log that belong to it, at most five. Untrusted text.
    pub evidence: Vec<String>,
}

/// What else is known at the moment of a refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Circumstances {
    /// The kernel's settings.
    pub policy: Policy,
    /// Whether another livepatch's transition was seen before or right after the call, or in the log.
    pub foreign_transition: bool,
}

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
    /// `kernel.ftrace_enabled` is 0.
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

/// Texts that tell apart reasons that share an error number. In each row any of the texts decides.
const TEXTS: &[(Errno, &[&str], RefusalReason)] = &[
    (Errno::EPERM, &["is blacklisted"], RefusalReason::ModuleBlacklisted),
    (Errno::EPERM, &["LoadPin:"], RefusalReason::LoadPinActive),
    (Errno::EPERM, &["Lockdown:"], RefusalReason::LockdownActive),
    (
        Errno::EKEYREJECTED,
        &["Loading of unsigned module"],
        RefusalReason::SignatureRequired,
    ),
    (
        Errno::EKEYREJECTED,
        &["with unavailable key"],
        RefusalReason::SignatureKeyUnknown,
    ),
    (
        Errno::EKEYREJECTED,
        &["with unsupported crypto"],
        RefusalReason::SignatureUnsupported,
    ),
    (Errno::ENOEXEC, &["version magic"], RefusalReason::VersionMagicMismatch),
    (
        Errno::ENOEXEC,
        &[
            "disagrees about version of symbol module_layout",
            "disagrees about version of symbol struct_module",
        ],
        RefusalReason::ModuleLayoutMismatch,
    ),
    (
        Errno::ENOEXEC,
        &["livepatch support is disabled"],
        RefusalReason::LivepatchUnsupported,
    ),
    (
        Errno::EINVAL,
        &["is not compatible with the already installed livepatches"],
        RefusalReason::IncompatibleState,
    ),
    (
        Errno::EINVAL,
        &["livepatch: symbol position"],
        RefusalReason::SymbolPositionNotFound,
    ),
    (
        Errno::EINVAL,
        &["not found in symbol table"],
        RefusalReason::SymbolNotFound,
    ),
    (
        Errno::EINVAL,
        &["unresolvable ambiguity for symbol"],
        RefusalReason::SymbolAmbiguous,
    ),
    (
        Errno::EINVAL,
        &["is not marked as a livepatch module"],
        RefusalReason::NotALivepatch,
    ),
    (
        Errno::EINVAL,
        &["failed to find location for function"],
        RefusalReason::FunctionNotTraceable,
    ),
    (Errno::EINVAL, &["nothing to patch"], RefusalReason::NothingToPatch),
    (
        Errno::EINVAL,
        &["disagrees about version of symbol"],
        RefusalReason::SymbolVersionMismatch,
    ),
    (
        Errno::EINVAL,
        &["incorrectly formatted name", "invalid access to vmlinux symbol"],
        RefusalReason::MalformedKlpSymbol,
    ),
    (Errno::ENOENT, &["Unknown symbol"], RefusalReason::UnknownSymbol),
    (
        Errno::ENOENT,
        &["kallsyms size lookup failed"],
        RefusalReason::SymbolSizeUnknown,
    ),
    (
        Errno::EBUSY,
        &["failed to register ftrace handler", "failed to set ftrace filter"],
        RefusalReason::FunctionHeldByTracer,
    ),
];

/// The text of a callback that refused, whatever error number it returned.
const CALLBACK_REFUSED: &str = "pre-patch callback failed";

impl LoadRefusal {
    /// A load that was not tried.
    pub fn untried(reason: RefusalReason) -> Self {
        Self {
            reason,
            error: None,
            evidence: Vec::new(),
        }
    }

    /// The reason of a failed `finit_module`.
    pub fn of(error: CallError, log: &KernelLog, circumstances: &Circumstances) -> Self {
        let (reason, texts) = classify(error.errno, log, circumstances);
        let mut evidence: Vec<String> = log.matching(texts).map(str::to_owned).collect();
        if evidence.is_empty() && reason == RefusalReason::Unexpected {
            evidence = log.matching(&["livepatch: "]).map(str::to_owned).collect();
        }
        evidence.truncate(MAX_EVIDENCE);
        Self {
            reason,
            error: Some(error),
            evidence,
        }
    }

    /// The reason code.
    pub fn reason(&self) -> &'static str {
        self.reason.into()
    }

    /// What to do about it.
    pub fn advice(&self) -> &'static str {
        self.reason.advice()
    }

    /// Whether another try makes sense.
    pub fn retry(&self) -> Retry {
        self.reason.retry()
    }
}

impl fmt::Display for LoadRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.error {
            Some(error) => write!(f, "{}: {error}", self.reason())?,
            None => write!(f, "{}: not tried", self.reason())?,
        }
        if let Some(line) = self.evidence.first() {
            write!(f, " (kernel log: {line})")?;
        }
        write!(f, "; {}", self.advice())
    }
}

impl std::error::Error for LoadRefusal {}

fn classify(errno: Errno, log: &KernelLog, now: &Circumstances) -> (RefusalReason, &'static [&'static str]) {
    const CALLBACK: &[&str] = &[CALLBACK_REFUSED];
    if log.matching(CALLBACK).next().is_some() {
        return (RefusalReason::CallbackRefused, CALLBACK);
    }
    let by_text = TEXTS
        .iter()
        .find(|(of, texts, _)| *of == errno && log.matching(texts).next().is_some());
    match by_text {
        Some((_, texts, RefusalReason::FunctionHeldByTracer)) if now.policy.ftrace_enabled.is(&false) => {
            (RefusalReason::FtraceDisabled, texts)
        }
        Some((_, texts, reason)) => (*reason, texts),
        None => (without_text(errno, now), &[]),
    }
}

fn without_text(errno: Errno, now: &Circumstances) -> RefusalReason {
    use RefusalReason as R;
    match errno {
        Errno::EPERM if now.policy.modules_disabled.is(&true) => R::ModulesDisabled,
        Errno::EPERM if now.policy.loadpin_enforced.is(&true) => R::LoadPinActive,
        Errno::EPERM if locked_down(&now.policy.lockdown) => R::LockdownActive,
        Errno::EPERM => R::NotPermitted,
        Errno::EACCES => R::AppraisalFailed,
        Errno::EKEYREJECTED => R::SignatureInvalid,
        Errno::ENOKEY => R::SignatureKeyUnknown,
        Errno::ENOPKG => R::SignatureUnsupported,
        Errno::ENODATA => R::SignatureRequired,
        Errno::EBADMSG => R::SignatureMalformed,
        Errno::ENOEXEC => R::InvalidModule,
        Errno::EINVAL => R::InvalidArgument,
        Errno::ENOENT => R::UnknownSymbol,
        Errno::EEXIST => R::NameTaken,
        Errno::EBUSY if now.foreign_transition => R::TransitionRunning,
        Errno::EBUSY if now.policy.ftrace_enabled.is(&false) => R::FtraceDisabled,
        Errno::EBUSY => R::Busy,
        Errno::ENODEV => R::LivepatchNotInitialised,
        Errno::ENOMEM => R::OutOfMemory,
        Errno::EINTR => R::Interrupted,
        Errno::ETXTBSY => R::ImageOpenForWriting,
        _ => R::Unexpected,
    }
}

fn locked_down(lockdown: &Seen<Lockdown>) -> bool {
    matches!(lockdown, Seen::Known(Lockdown::Integrity | Lockdown::Confidentiality))
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
            Self::FtraceDisabled => "set kernel.ftrace_enabled to 1: livepatching needs it",
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use strum::IntoEnumIterator as _;

    use super::*;
    use crate::error::Call;

    fn circumstances() -> Circumstances {
        Circumstances {
            policy: Policy {
                modules_disabled: Seen::Known(false),
                signature_enforced: Seen::Known(false),
                lockdown: Seen::unknown("securityfs is not visible"),
                ftrace_enabled: Seen::Known(true),
                loadpin_enforced: Seen::Known(false),
                replace_set: Seen::Known(false),
            },
            foreign_transition: false,
        }
    }

    fn refused(errno: Errno, line: &str) -> LoadRefusal {
        let log = KernelLog {
            lines: vec!["eth0: link up".into(), line.into()],
            complete: true,
        };
        LoadRefusal::of(CallError::new(Call::FinitModule, "m", errno), &log, &circumstances())
    }

    #[test]
    fn the_text_decides_between_reasons_of_one_number() {
        use RefusalReason as R;
        for (errno, line, reason) in [
            (
                Errno::EINVAL,
                "livepatch: symbol 'nope' not found in symbol table",
                R::SymbolNotFound,
            ),
            (
                Errno::EINVAL,
                "livepatch: symbol position 3 for symbol 'f' in object 'vmlinux' not found",
                R::SymbolPositionNotFound,
            ),
            (
                Errno::EINVAL,
                "livepatch: unresolvable ambiguity for symbol 'f' in object 'vmlinux'",
                R::SymbolAmbiguous,
            ),
            (
                Errno::EINVAL,
                "livepatch: Livepatch patch (a) is not compatible with the already installed livepatches.",
                R::IncompatibleState,
            ),
            (
                Errno::EINVAL,
                "m: disagrees about version of symbol kfree",
                R::SymbolVersionMismatch,
            ),
            (
                Errno::ENOEXEC,
                "m: disagrees about version of symbol module_layout",
                R::ModuleLayoutMismatch,
            ),
            (
                Errno::ENOEXEC,
                "m: version magic '6.1 SMP ' should be '6.12 SMP '",
                R::VersionMagicMismatch,
            ),
            (
                Errno::EBUSY,
                "livepatch: failed to register ftrace handler for function 'f' (-16)",
                R::FunctionHeldByTracer,
            ),
            (
                Errno::ENODEV,
                "livepatch: pre-patch callback failed for object 'vmlinux'",
                R::CallbackRefused,
            ),
            (
                Errno::E2BIG,
                "livepatch: pre-patch callback failed for object 'vmlinux'",
                R::CallbackRefused,
            ),
            (
                Errno::EPERM,
                "Lockdown: agent: unsigned module loading is restricted; see man kernel_lockdown.7",
                R::LockdownActive,
            ),
        ] {
            let refusal = refused(errno, line);
            assert_eq!(refusal.reason, reason, "{line}");
            assert_eq!(refusal.evidence, [line]);
        }
    }

    #[test]
    fn busy_is_told_apart() {
        let log = KernelLog {
            lines: vec![],
            complete: true,
        };
        let mut now = circumstances();
        let busy = || CallError::new(Call::FinitModule, "m", Errno::EBUSY);
        assert_eq!(LoadRefusal::of(busy(), &log, &now).reason, RefusalReason::Busy);
        now.foreign_transition = true;
        assert_eq!(LoadRefusal::of(busy(), &log, &now).retry(), Retry::AfterTransition);
        now.policy.ftrace_enabled = Seen::Known(false);
        let log = KernelLog {
            lines: vec!["livepatch: failed to register ftrace handler for function 'f' (-16)".into()],
            complete: true,
        };
        assert_eq!(
            LoadRefusal::of(busy(), &log, &now).reason,
            RefusalReason::FtraceDisabled
        );
    }

    #[test]
    fn every_reason_says_what_to_do_and_has_its_own_code() {
        let mut codes = BTreeSet::new();
        for reason in RefusalReason::iter() {
            let code: &'static str = reason.into();
            assert!(codes.insert(code));
            assert!(reason.advice().len() > 10);
            assert!(!reason.advice().ends_with('.'));
        }
    }

    #[test]
    fn the_message_tells_number_text_and_evidence() {
        let text = refused(Errno::EINVAL, "livepatch: symbol 'nope' not found in symbol table").to_string();
        assert!(
            text.starts_with("SymbolNotFound: finit_module of m failed with EINVAL (22): Invalid argument"),
            "{text}"
        );
        assert!(text.contains("symbol 'nope' not found"), "{text}");
    }

    #[test]
    fn any_number_has_a_reason() {
        for number in 1..134 {
            let refusal = refused(Errno::from_raw(number), "unrelated");
            assert!(!refusal.reason().is_empty());
        }
    }
}
