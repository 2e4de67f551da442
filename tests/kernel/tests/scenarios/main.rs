//! The scenarios of the kernel's own livepatch selftests and the experiments this project is built on, on real kernels.
//!
//! Written anew against the operations of the kernel crate; modules, wording and order are this project's. What the
//! selftests check by comparing the kernel log is compared here as well. Only what the fake kernel has no model of is
//! here: modules that come and go, callbacks, parameters, `force`, the kernel's own timing.

#![expect(clippy::unwrap_used, clippy::panic, reason = "test code fails by panicking")]

mod callbacks;
mod experiments;
mod functions;
#[path = "../guest/mod.rs"]
mod guest;
mod states;
mod stress;
mod sysfs;
mod tracers;

use std::ffi::CString;
use std::time::Duration;

use guest::Run;
use livepatch_kernel::operation::{Load, LoadOutcome, LoadRequest, OnTimeout, run};
use livepatch_rig::kernel_vm::Boot;
use livepatch_rig::kernels::Series;
use livepatch_tests_kernel::guest_lab::GuestLab;
use livepatch_tests_kernel::lab::Lab;
use livepatch_tests_kernel::turns::{Turn, one_after_another};

macro_rules! turns {
    ($lab:ident; $($group:ident { $($function:ident),* $(,)? })*) => {
        vec![$($(Turn {
            name: stringify!($function),
            last: false,
            run: Box::new(|| $group::$function($lab)),
        },)*)*]
    };
}

#[test]
#[ignore = "runs in the guest of the tests below"]
fn in_the_guest() {
    let guest = &GuestLab::open();
    let turns = turns! { guest;
        functions {
            one_function_is_patched_and_restored,
            several_livepatches_are_disabled_in_reverse,
            a_replace_leaves_one_entry,
            a_function_of_a_loaded_module,
            a_function_of_a_module_loaded_later,
        }
        callbacks {
            target_before_livepatch,
            target_coming,
            target_going,
            target_coming_and_going,
            target_absent,
            pre_patch_refuses,
            pre_patch_refuses_a_coming_target,
            several_targets,
            busy_target,
            several_livepatches,
            replaced_livepatch,
        }
        states {
            a_setting_is_changed_and_restored,
            a_setting_is_taken_over,
            a_setting_is_handed_on_between_equals,
            a_setting_is_not_handed_down,
        }
        sysfs {
            attributes_and_modes,
            patched_follows_its_object,
            the_replace_flag_is_told,
            there_is_no_stack_order,
        }
        tracers {
            ftrace_switched_off_and_kept_on,
            a_kprobe_with_a_post_handler,
            a_kprobe_without_a_post_handler,
        }
        stress {
            a_system_call_under_load,
        }
        experiments {
            other_writes,
            a_stuck_task_is_tried_each_second_and_signalled_at_the_sixteenth_try,
            identity_of_what_is_loaded,
            one_call_one_message,
        }
    };
    one_after_another(guest, turns);
}

/// What needs more than one processor to be seen.
#[test]
#[ignore = "runs in the guest of the tests below"]
fn in_the_guest_with_two_processors() {
    let guest = &GuestLab::open();
    let turns = turns! { guest;
        experiments { no_blocker_visible_is_not_the_end }
        stress { a_system_call_under_load }
    };
    // An emulated 6.12 with two busy processors spends minutes in one load.
    let bearable = turns
        .into_iter()
        .filter(|turn| !guest.is_since(6, 12) || !turn.name.contains("under_load"));
    one_after_another(guest, bearable);
}

fn run_on(series: Series) {
    let mut run = Run::of("scenarios");
    run.environment
        .extend(std::env::var("CASE").ok().map(|case| format!("CASE={case}")));
    run.on(series);
}

fn run_with_two_processors_on(series: Series) {
    let mut run = Run::of("scenarios");
    run.test = "in_the_guest_with_two_processors";
    run.boot = Boot {
        processors: 2,
        ..Boot::default()
    };
    run.on(series);
}

#[test]
fn linux_6_1_does_what_its_selftests_say() {
    run_on(Series::Linux6_1);
}

#[test]
fn linux_6_12_does_what_its_selftests_say() {
    run_on(Series::Linux6_12);
}

#[test]
fn linux_6_1_with_two_processors() {
    run_with_two_processors_on(Series::Linux6_1);
}

#[test]
fn linux_6_12_with_two_processors() {
    run_with_two_processors_on(Series::Linux6_12);
}

/// A request with module parameters.
fn request(lab: &dyn Lab, name: &str, parameters: &str) -> LoadRequest {
    let mut request = lab.request(name, Duration::from_mins(5), OnTimeout::Revert);
    request.parameters = CString::new(parameters).unwrap();
    request
}

fn load(lab: &dyn Lab, name: &str, parameters: &str) -> LoadOutcome {
    run(&mut Load::new(request(lab, name, parameters)), lab.kernel(), |_| ())
}

fn loaded(lab: &dyn Lab, name: &str, parameters: &str) {
    let outcome = load(lab, name, parameters);
    assert!(matches!(outcome, LoadOutcome::Loaded(_)), "{name}: {outcome:?}");
}

fn refused(lab: &dyn Lab, name: &str, parameters: &str) -> livepatch_kernel::LoadRefusal {
    match load(lab, name, parameters) {
        LoadOutcome::Refused(refusal) => refusal,
        other => panic!("{name} not refused: {other:?}"),
    }
}

fn gone(lab: &dyn Lab, name: &str) {
    lab.disabled(name);
    lab.unloaded(name);
}
