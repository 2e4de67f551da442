//! `test-state.sh`: a setting of the kernel that livepatches hand on by `klp_state`, and what is foreseen of a refusal.

use std::fs;

use livepatch_kernel::RefusalReason;
use livepatch_module::conflict::{LoadedView, Owner, Refusal, SetKind, Wanted, admission};
use livepatch_module::{Inspection, inspect};
use livepatch_tests_kernel::guest_lab::GuestLab;
use livepatch_tests_kernel::lab::Lab;
use nix::errno::Errno;

use super::{gone, refused};

const FIRST: &str = "lp_setting_v1";
const SECOND: &str = "lp_setting_v2";
const NEXT: &str = "lp_setting_v2_next";

/// Seconds before a panicked kernel boots again, which the livepatches make 42. The guests boot with -1.
fn setting() -> i32 {
    fs::read_to_string("/proc/sys/kernel/panic")
        .unwrap()
        .trim()
        .parse()
        .unwrap()
}

fn inspection(guest: &GuestLab, name: &str) -> Inspection {
    inspect(&guest.file(name)).unwrap()
}

/// What the project's own rules say of a load before the kernel is asked: the reasons.
fn foreseen(guest: &GuestLab, loaded: &str, wanted: &str) -> Vec<&'static str> {
    let there = LoadedView::of(&inspection(guest, loaded), Owner::Foreign);
    let inspection = inspection(guest, wanted);
    let wanted = Wanted {
        set: "settings",
        kind: SetKind::Cumulative,
        inspection: &inspection,
        supersedes: &[],
        replace_foreign: true,
    };
    admission(&[there], &wanted).iter().map(Refusal::reason).collect()
}

/// "system state modification".
pub(super) fn a_setting_is_changed_and_restored(guest: &GuestLab) {
    let lab: &dyn Lab = guest;
    let mark = lab.kernel().log_mark();
    lab.loaded(FIRST);
    assert_eq!(setting(), 42);
    gone(lab, FIRST);
    assert_eq!(setting(), -1);
    let own: Vec<String> = guest
        .story(&mark)
        .into_iter()
        .filter(|line| line.starts_with(FIRST))
        .collect();
    assert_eq!(
        own,
        [
            "lp_setting_v1: space allocated",
            "lp_setting_v1: setting changed",
            "lp_setting_v1: setting restored",
            "lp_setting_v1: space freed",
        ]
    );
}

/// "taking over system state modification".
pub(super) fn a_setting_is_taken_over(guest: &GuestLab) {
    let lab: &dyn Lab = guest;
    lab.loaded(FIRST);
    assert_eq!(foreseen(guest, FIRST, SECOND), Vec::<&str>::new());
    let mark = lab.kernel().log_mark();
    lab.loaded(SECOND);
    assert_eq!(setting(), 42);
    lab.unloaded(FIRST);
    gone(lab, SECOND);
    assert_eq!(setting(), -1);
    let own: Vec<String> = guest
        .story(&mark)
        .into_iter()
        .filter(|line| line.starts_with("lp_"))
        .collect();
    assert_eq!(
        own,
        [
            "lp_setting_v2: space comes from the one before",
            "lp_setting_v2: setting taken over",
            "lp_setting_v2: setting restored",
            "lp_setting_v2: space freed",
        ]
    );
}

/// "compatible cumulative livepatches": of the same version, there and back.
pub(super) fn a_setting_is_handed_on_between_equals(guest: &GuestLab) {
    let lab: &dyn Lab = guest;
    lab.loaded(SECOND);
    assert_eq!(foreseen(guest, SECOND, NEXT), Vec::<&str>::new());
    lab.loaded(NEXT);
    assert_eq!(setting(), 42);
    lab.unloaded(SECOND);
    lab.loaded(SECOND);
    assert_eq!(setting(), 42);
    assert_eq!(lab.active(), [SECOND]);
    gone(lab, SECOND);
    assert_eq!(setting(), -1);
    lab.unloaded(NEXT);
}

/// "incompatible cumulative livepatches": foreseen, and refused by the kernel for the same reason.
pub(super) fn a_setting_is_not_handed_down(guest: &GuestLab) {
    let lab: &dyn Lab = guest;
    lab.loaded(SECOND);
    assert_eq!(foreseen(guest, SECOND, FIRST), ["StateVersionDown"]);
    let refusal = refused(lab, FIRST, "");
    assert_eq!(refusal.reason, RefusalReason::IncompatibleState);
    assert_eq!(refusal.error.unwrap().errno, Errno::EINVAL);
    assert_eq!(lab.active(), [SECOND]);
    assert_eq!(setting(), 42);
    gone(lab, SECOND);
    assert_eq!(setting(), -1);
}
