//! The reasons, by error number and log text.

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
            "livepatch: failed to register ftrace handler for function 'f' (-19)",
            R::FtraceDisabled,
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
