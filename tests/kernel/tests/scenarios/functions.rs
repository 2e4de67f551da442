//! `test-livepatch.sh`: functions of the kernel and of modules.

use std::fs;

use livepatch_tests_kernel::guest_lab::GuestLab;
use livepatch_tests_kernel::lab::{Lab, ProcFile};

use super::{gone, loaded};

/// "basic function patching", with the kernel log from the load to the end.
pub(super) fn one_function_is_patched_and_restored(guest: &GuestLab) {
    let lab: &dyn Lab = guest;
    let mark = lab.kernel().log_mark();
    lab.loaded("lp_cumulative_v1");
    assert_eq!(lab.effective(ProcFile::Version).as_deref(), Some("lp_cumulative_v1"));
    gone(lab, "lp_cumulative_v1");
    assert_eq!(lab.effective(ProcFile::Version), None);
    assert!(lab.kernel().module("lp_cumulative_v1").unwrap().is_none());
    assert_eq!(
        guest.story(&mark),
        [
            "enabling patch 'lp_cumulative_v1'",
            "'lp_cumulative_v1': starting patching transition",
            "'lp_cumulative_v1': patching complete",
            "'lp_cumulative_v1': starting unpatching transition",
            "'lp_cumulative_v1': unpatching complete",
        ]
    );
}

/// "multiple livepatches": the one below stays as it was.
pub(super) fn several_livepatches_are_disabled_in_reverse(guest: &GuestLab) {
    let lab: &dyn Lab = guest;
    lab.loaded("lp_offband_v1");
    lab.loaded("lp_offband_other");
    gone(lab, "lp_offband_other");
    assert_eq!(lab.effective(ProcFile::Loadavg), None);
    assert_eq!(lab.effective(ProcFile::Execdomains).as_deref(), Some("lp_offband_v1"));
    gone(lab, "lp_offband_v1");
    assert_eq!(lab.effective(ProcFile::Execdomains), None);
}

/// "atomic replace livepatch": of four livepatches one entry remains, the other modules can be removed, and disabling it
/// gives back the kernel as it was, not those.
pub(super) fn a_replace_leaves_one_entry(guest: &GuestLab) {
    let lab: &dyn Lab = guest;
    let others = ["lp_offband_conflict", "lp_offband_other", "lp_offband_v1"];
    for name in others {
        lab.loaded(name);
    }
    lab.loaded("lp_cumulative_v1");
    lab.eventually("one entry remains", || {
        let entries = fs::read_dir("/sys/kernel/livepatch").unwrap();
        entries.count() == 1
    });
    assert_eq!(lab.active(), ["lp_cumulative_v1"]);
    assert_eq!(lab.leftovers(), others);
    for name in others {
        lab.unloaded(name);
    }
    assert_eq!(lab.effective(ProcFile::Version).as_deref(), Some("lp_cumulative_v1"));
    gone(lab, "lp_cumulative_v1");
    for file in [ProcFile::Version, ProcFile::Execdomains, ProcFile::Loadavg] {
        assert_eq!(lab.effective(file), None, "{file:?}");
    }
}

fn target() -> String {
    fs::read_to_string("/proc/lp_target").unwrap().trim().to_owned()
}

/// "module function patching".
pub(super) fn a_function_of_a_loaded_module(guest: &GuestLab) {
    guest.insmod("lp_target", "").unwrap();
    assert_eq!(target(), "original");
    loaded(guest, "lp_on_target", "");
    assert_eq!(target(), "patched");
    gone(guest, "lp_on_target");
    assert_eq!(target(), "original");
    guest.rmmod("lp_target").unwrap();
}

/// "module function patching (livepatch first)", and the module comes a second time.
pub(super) fn a_function_of_a_module_loaded_later(guest: &GuestLab) {
    loaded(guest, "lp_on_target", "");
    for _ in 0..2 {
        guest.insmod("lp_target", "").unwrap();
        assert_eq!(target(), "patched");
        guest.rmmod("lp_target").unwrap();
    }
    guest.insmod("lp_target", "").unwrap();
    gone(guest, "lp_on_target");
    assert_eq!(target(), "original");
    guest.rmmod("lp_target").unwrap();
}
