//! Why the kernel refused to load a livepatch: its error number, read together with what it logged. No IO.
//!
//! The error numbers and texts are those of kernel/module/*.c and kernel/livepatch/*.c, 6.1 to 7.2.

mod reason;
#[cfg(test)]
mod tests;

use std::fmt;

use nix::errno::Errno;

use crate::error::CallError;
use crate::klog::KernelLog;
use crate::policy::{Lockdown, Policy};
use crate::seen::Seen;
pub use reason::{RefusalReason, Retry};

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
    // Ftrace has switched itself off after a fault.
    (
        Errno::ENODEV,
        &["failed to register ftrace handler", "failed to set ftrace filter"],
        RefusalReason::FtraceDisabled,
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
