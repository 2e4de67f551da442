//! What the kernel refuses, and by which error number.

use std::time::Duration;

use livepatch_kernel::RefusalReason;
use livepatch_kernel::operation::{OnTimeout, UnloadOutcome};
use nix::errno::Errno;

use super::{bare_load, reason_of, refused, write};
use crate::lab::Lab;

/// Observation 5.
pub(super) fn writes_that_change_nothing_are_refused(lab: &dyn Lab) {
    lab.loaded("lp_offband_v1");
    assert_eq!(write(lab, "lp_offband_v1", true), Err(Errno::EINVAL));
    assert_eq!(write(lab, "no_such_livepatch", false), Err(Errno::ENOENT));
    assert_eq!(write(lab, "../lp_offband_v1", false), Err(Errno::ENOENT));
    assert_eq!(lab.active(), ["lp_offband_v1"]);
}

/// Observation 6.
pub(super) fn a_module_in_use_cannot_be_deleted(lab: &dyn Lab) {
    lab.loaded("lp_offband_v1");
    let errno = lab.kernel().delete_module("lp_offband_v1").unwrap_err().errno;
    assert_eq!(errno, Errno::EAGAIN);
    assert!(matches!(lab.unload("lp_offband_v1"), UnloadOutcome::StillActive));
    assert_eq!(
        lab.kernel().delete_module("no_such_module").unwrap_err().errno,
        Errno::ENOENT
    );
}

/// Observation 8.
pub(super) fn a_state_must_be_carried(lab: &dyn Lab) {
    lab.loaded("lp_offband_state");
    let refusal = refused(lab.load("lp_cumulative_v1"));
    assert_eq!(refusal.reason, RefusalReason::IncompatibleState);
    assert_eq!(refusal.error.unwrap().errno, Errno::EINVAL);
    assert!(refusal.evidence[0].contains("lp_cumulative_v1"));
    assert_eq!(lab.active(), ["lp_offband_state"]);
    assert!(lab.kernel().module("lp_cumulative_v1").unwrap().is_none());
    lab.loaded("lp_offband_v1");
}

/// Observation 8.
pub(super) fn a_state_must_not_go_down(lab: &dyn Lab) {
    lab.loaded("lp_offband_state");
    lab.loaded("lp_cumulative_state");
    assert_eq!(lab.active(), ["lp_cumulative_state"]);
    assert_eq!(
        reason_of(lab.load("lp_offband_state")),
        RefusalReason::IncompatibleState
    );
}

/// Observation 8.
pub(super) fn the_state_is_checked_before_a_running_transition(lab: &dyn Lab) {
    lab.loaded("lp_offband_state");
    lab.put_to_sleep();
    let _running = lab.begun("lp_stalling", Duration::from_mins(5), OnTimeout::Wait);
    assert_eq!(bare_load(lab, "lp_cumulative_v1"), Err(Errno::EINVAL));
    assert_eq!(bare_load(lab, "lp_cumulative_state"), Err(Errno::EBUSY));
}

/// Observation 9.
pub(super) fn a_missing_symbol_is_named(lab: &dyn Lab) {
    let refusal = refused(lab.load("lp_unknown_symbol"));
    assert_eq!(refusal.reason, RefusalReason::SymbolNotFound);
    assert!(refusal.evidence[0].contains("livepatch_tests_no_such_function"));
    assert!(lab.kernel().module("lp_unknown_symbol").unwrap().is_none());
}

pub(super) fn a_refusing_callback_is_named(lab: &dyn Lab) {
    let refusal = refused(lab.load("lp_refusing_callback"));
    assert_eq!(refusal.reason, RefusalReason::CallbackRefused);
    assert_eq!(refusal.error.unwrap().errno, Errno::ENODEV);
    assert!(lab.kernel().livepatches().unwrap().is_empty());
}

pub(super) fn another_kernels_module_is_refused(lab: &dyn Lab) {
    let refusal = refused(lab.load("another_kernels"));
    assert_eq!(refusal.reason, RefusalReason::VersionMagicMismatch);
    assert_eq!(refusal.error.unwrap().errno, Errno::ENOEXEC);
}

/// With symbol versions the kernel leaves the release out of the comparison: whether a module is for this very kernel
/// build has to be found out before.
pub(super) fn another_release_is_no_hindrance_to_the_kernel(lab: &dyn Lab) {
    lab.loaded("another_release");
}

pub(super) fn what_is_no_module_is_refused(lab: &dyn Lab) {
    let refusal = refused(lab.load("not_elf"));
    assert_eq!(refusal.reason, RefusalReason::InvalidModule);
    assert_eq!(refusal.error.unwrap().errno, Errno::ENOEXEC);
}

/// Observation 15.
pub(super) fn ftrace_switched_off(lab: &dyn Lab) {
    lab.set_ftrace(false);
    assert!(lab.kernel().policy().ftrace_enabled.is(&false));
    let refusal = refused(lab.load("lp_offband_v1"));
    assert_eq!(refusal.reason, RefusalReason::FtraceDisabled);
    assert_eq!(refusal.error.unwrap().errno, Errno::EBUSY);
    lab.set_ftrace(true);
    lab.loaded("lp_offband_v1");
}

pub(super) fn a_function_held_by_a_kprobe(lab: &dyn Lab) {
    lab.hold_version(true);
    let refusal = refused(lab.load("lp_cumulative_v1"));
    assert_eq!(refusal.reason, RefusalReason::FunctionHeldByTracer);
    assert!(refusal.evidence[0].contains("version_proc_show"));
    lab.loaded("lp_offband_v1");
}
