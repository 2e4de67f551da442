//! `test-ftrace.sh` and `test-kprobe.sh`: others that redirect functions, and ftrace switched off.

use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;

use livepatch_kernel::RefusalReason;
use livepatch_kernel::preflight::{KernelState, Weight, preflight};
use livepatch_module::inspect;
use livepatch_tests_kernel::guest_lab::GuestLab;
use livepatch_tests_kernel::lab::{Lab, ProcFile};
use nix::errno::Errno;

use super::{gone, refused};

const LIVEPATCH: &str = "lp_cumulative_v1";
const FTRACE: &str = "/proc/sys/kernel/ftrace_enabled";

/// Certain failures that preflight finds, with tracefs in sight.
fn foreseen(guest: &GuestLab) -> Vec<&'static str> {
    if !Path::new("/sys/kernel/tracing/enabled_functions").exists() {
        let mounted = Command::new("/bin/mount")
            .args(["-t", "tracefs", "tracefs", "/sys/kernel/tracing"])
            .status();
        assert!(mounted.unwrap().success());
    }
    let inspection = inspect(&guest.file(LIVEPATCH)).unwrap();
    let state = KernelState::read(Lab::kernel(guest), &inspection).unwrap();
    preflight(&inspection, &state)
        .into_iter()
        .filter(|finding| finding.weight == Weight::Fails)
        .map(|finding| finding.reason)
        .collect()
}

/// Switched off, nothing can be loaded; while something is loaded, it cannot be switched off.
pub(super) fn ftrace_switched_off_and_kept_on(guest: &GuestLab) {
    let lab: &dyn Lab = guest;
    lab.set_ftrace(false);
    assert_eq!(foreseen(guest), ["FtraceDisabled"]);
    let mark = lab.kernel().log_mark();
    let refusal = refused(lab, LIVEPATCH, "");
    assert_eq!(refusal.reason, RefusalReason::FtraceDisabled);
    assert_eq!(refusal.error.unwrap().errno, Errno::EBUSY);
    let story = guest.story(&mark);
    assert!(
        story.contains(&"failed to enable patch 'lp_cumulative_v1'".to_owned()),
        "{story:?}"
    );
    // The transition that never began is told to have ended.
    assert_eq!(
        story.last().map(String::as_str),
        Some("'lp_cumulative_v1': unpatching complete")
    );
    lab.set_ftrace(true);
    lab.loaded(LIVEPATCH);
    let error = fs::write(FTRACE, "0").unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ResourceBusy);
    assert_eq!(fs::read_to_string(FTRACE).unwrap().trim(), "1");
    assert_eq!(lab.effective(ProcFile::Version).as_deref(), Some(LIVEPATCH));
    gone(lab, LIVEPATCH);
    fs::write(FTRACE, "0").unwrap();
    lab.set_ftrace(true);
}

/// Whoever comes second is refused.
pub(super) fn a_kprobe_with_a_post_handler(guest: &GuestLab) {
    let lab: &dyn Lab = guest;
    guest.insmod("lp_kprobe", "post=1").unwrap();
    assert_eq!(foreseen(guest), ["FunctionHeldByTracer"]);
    let refusal = refused(lab, LIVEPATCH, "");
    assert_eq!(refusal.reason, RefusalReason::FunctionHeldByTracer);
    assert_eq!(refusal.error.unwrap().errno, Errno::EBUSY);
    guest.rmmod("lp_kprobe").unwrap();
    lab.loaded(LIVEPATCH);
    assert_eq!(guest.insmod("lp_kprobe", "post=1"), Err(Errno::EBUSY));
    gone(lab, LIVEPATCH);
}

/// The two get along.
pub(super) fn a_kprobe_without_a_post_handler(guest: &GuestLab) {
    let lab: &dyn Lab = guest;
    guest.insmod("lp_kprobe", "post=0").unwrap();
    assert_eq!(foreseen(guest), Vec::<&str>::new());
    lab.loaded(LIVEPATCH);
    assert_eq!(lab.effective(ProcFile::Version).as_deref(), Some(LIVEPATCH));
    gone(lab, LIVEPATCH);
    guest.rmmod("lp_kprobe").unwrap();
}
