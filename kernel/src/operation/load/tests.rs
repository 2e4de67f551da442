//! What cannot be brought about at will on a real kernel: lost races, calls that hang, and hosts that hide their tasks.

use std::time::Duration;

use nix::errno::Errno;
use proptest::prelude::*;

use super::super::{Operation as _, Roster, run};
use super::{Load, LoadOutcome, LoadRequest, OnTimeout, RepairMeans};
use crate::error::Call;
use crate::fake::{FakeKernel, FakeModule, FakeTask};
use crate::refusal::RefusalReason;
use crate::seam::Kernel as _;

const FUNCTION: &str = "f";

fn request(kernel: &FakeKernel, module: FakeModule, seconds: u64) -> LoadRequest {
    LoadRequest {
        name: module.name.clone(),
        build_id: module.build_id.clone(),
        image: kernel.image(module),
        parameters: c"".into(),
        deadline: kernel.now() + Duration::from_secs(seconds),
        on_timeout: OnTimeout::Revert,
    }
}

fn sleeper(kernel: &FakeKernel, seconds: Option<u64>) {
    kernel.add_task(FakeTask {
        pid: 7,
        comm: "sleeper".into(),
        pod_uid: None,
        sleeps_in: FUNCTION.into(),
        until: seconds.map(|s| kernel.now() + Duration::from_secs(s)),
    });
}

fn with_off_band() -> FakeKernel {
    let kernel = FakeKernel::new();
    let outcome = load(&kernel, FakeModule::new("off", &["g"]));
    assert!(matches!(outcome, LoadOutcome::Loaded(_)), "{outcome:?}");
    kernel
}

fn load(kernel: &FakeKernel, module: FakeModule) -> LoadOutcome {
    run(&mut Load::new(request(kernel, module, 60)), kernel, |_| ())
}

fn active(kernel: &FakeKernel) -> Vec<String> {
    Roster::take(kernel)
        .unwrap()
        .0
        .into_iter()
        .map(|enlisted| enlisted.name)
        .collect()
}

#[test]
fn a_lost_race_is_repaired_by_reversing() {
    let kernel = with_off_band();
    sleeper(&kernel, None);
    kernel.complete_before_next_write();
    let module = FakeModule::new("cum", &[FUNCTION]).replacing();
    let outcome = run(&mut Load::new(request(&kernel, module, 5)), &kernel, |_| ());
    let LoadOutcome::Loaded(loaded) = outcome else {
        panic!("{outcome:?}")
    };
    let repair = loaded.repair.expect("a repair");
    assert_eq!(repair.means, RepairMeans::Reversed);
    assert_eq!(repair.missing, ["off"]);
    assert_eq!(loaded.replaced, ["off"]);
    assert!(
        repair.gap >= Duration::from_millis(500) && repair.gap < Duration::from_secs(3),
        "{:?}",
        repair.gap
    );
    assert_eq!(active(&kernel), ["cum"]);
}

#[test]
fn a_lost_race_whose_reversal_comes_too_late_is_repaired_by_loading_again() {
    let kernel = with_off_band();
    sleeper(&kernel, None);
    kernel.complete_before_next_write();
    let module = FakeModule::new("cum", &[FUNCTION]).replacing();
    // The first write loses the race; the one that would reverse it comes when unpatching has ended.
    kernel.fail_write_after(1, Errno::ENOENT);
    kernel.transition_takes(Duration::from_millis(5));
    let outcome = run(&mut Load::new(request(&kernel, module, 5)), &kernel, |_| {
        if kernel.calls().contains(&"enabled cum 0".to_owned()) {
            kernel.wake("sleeper");
        }
    });
    let LoadOutcome::Loaded(loaded) = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!(loaded.repair.expect("a repair").means, RepairMeans::LoadedAgain);
    assert_eq!(active(&kernel), ["cum"]);
    let calls = kernel.calls();
    assert_eq!(
        calls.iter().filter(|call| *call == "finit_module cum").count(),
        2,
        "{calls:?}"
    );
    assert!(calls.contains(&"delete_module cum".to_owned()), "{calls:?}");
}

/// The first call was made long ago: that must not count for the one that repairs.
#[test]
fn a_repairing_call_that_takes_long_is_waited_for() {
    let kernel = with_off_band();
    sleeper(&kernel, None);
    kernel.complete_before_next_write();
    kernel.fail_write_after(1, Errno::ENOENT);
    kernel.transition_takes(Duration::from_millis(5));
    let module = FakeModule::new("cum", &[FUNCTION]).replacing();
    let outcome = run(&mut Load::new(request(&kernel, module, 600)), &kernel, |_| {
        if kernel.calls().contains(&"enabled cum 0".to_owned()) {
            kernel.call_takes(Duration::from_secs(20));
            kernel.transition_takes(Duration::ZERO);
            kernel.wake("sleeper");
        }
    });
    let LoadOutcome::Loaded(loaded) = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!(loaded.repair.expect("a repair").means, RepairMeans::LoadedAgain);
    assert_eq!(active(&kernel), ["cum"]);
}

#[test]
fn without_sight_of_tasks_nothing_is_taken_back() {
    let kernel = with_off_band();
    sleeper(&kernel, None);
    kernel.set_visible(true, false);
    let outcome = run(
        &mut Load::new(request(&kernel, FakeModule::new("cum", &[FUNCTION]).replacing(), 5)),
        &kernel,
        |_| (),
    );
    assert!(matches!(outcome, LoadOutcome::StillInTransition { .. }), "{outcome:?}");
    assert!(!kernel.calls().iter().any(|call| call.starts_with("enabled")));
}

#[test]
fn a_transition_without_visible_stragglers_is_not_cancelled() {
    let kernel = with_off_band();
    kernel.transition_takes(Duration::from_secs(40));
    let outcome = run(
        &mut Load::new(request(&kernel, FakeModule::new("cum", &[FUNCTION]).replacing(), 5)),
        &kernel,
        |_| (),
    );
    assert!(matches!(outcome, LoadOutcome::Loaded(_)), "{outcome:?}");
    assert!(!kernel.calls().iter().any(|call| call.starts_with("enabled")));
}

#[test]
fn a_call_that_takes_long_is_waited_for() {
    let kernel = FakeKernel::new();
    kernel.call_takes(Duration::from_secs(20));
    assert!(matches!(
        load(&kernel, FakeModule::new("a", &["f"])),
        LoadOutcome::Loaded(_)
    ));
}

#[test]
fn a_stalled_load_whose_call_does_not_return_is_taken_back() {
    let kernel = with_off_band();
    sleeper(&kernel, None);
    kernel.call_takes(Duration::from_hours(1));
    let module = FakeModule::new("cum", &[FUNCTION]).replacing();
    let outcome = run(&mut Load::new(request(&kernel, module, 5)), &kernel, |_| ());
    assert!(matches!(outcome, LoadOutcome::Reverted { .. }), "{outcome:?}");
    assert_eq!(active(&kernel), ["off"]);
}

/// How long its module stays after that is nobody's gap.
#[test]
fn what_was_taken_back_was_away_from_the_call_until_the_last_task_was_back() {
    let kernel = with_off_band();
    sleeper(&kernel, None);
    let module = FakeModule::new("cum", &[FUNCTION]).replacing();
    let begun = kernel.now();
    let outcome = run(&mut Load::new(request(&kernel, module, 5)), &kernel, |_| {
        if kernel.calls().contains(&"enabled cum 0".to_owned()) {
            kernel.pin("cum");
        }
    });
    let LoadOutcome::Reverted {
        leftover: true,
        exposure,
        ..
    } = outcome
    else {
        panic!("{outcome:?}")
    };
    let all = kernel.now().since(begun);
    assert!(exposure >= Duration::from_secs(5), "{exposure:?}");
    assert!(exposure + Duration::from_secs(14) < all, "{exposure:?} of {all:?}");
}

#[test]
fn what_passes_is_tried_again_and_what_does_not_is_not() {
    for (errno, reason, calls) in [
        (Errno::EBUSY, RefusalReason::Busy, 5),
        (Errno::EINTR, RefusalReason::Interrupted, 5),
        (Errno::EINVAL, RefusalReason::InvalidArgument, 1),
        (Errno::EPERM, RefusalReason::NotPermitted, 1),
        (Errno::EEXIST, RefusalReason::NameTaken, 1),
    ] {
        let kernel = FakeKernel::new();
        for _ in 0..calls {
            kernel.fail_next(Call::FinitModule, errno, None);
        }
        match load(&kernel, FakeModule::new("a", &["f"])) {
            LoadOutcome::Refused(refusal) => assert_eq!(refusal.reason, reason),
            other => panic!("{errno}: {other:?}"),
        }
        assert_eq!(kernel.calls().len(), calls, "{errno}");
        assert!(matches!(
            load(&kernel, FakeModule::new("a", &["f"])),
            LoadOutcome::Loaded(_)
        ));
    }
}

#[test]
fn an_unreadable_log_still_gives_a_reason() {
    let kernel = FakeKernel::new();
    kernel.set_visible(false, true);
    let module = FakeModule {
        missing_symbol: Some("f".into()),
        ..FakeModule::new("a", &["f"])
    };
    match load(&kernel, module) {
        LoadOutcome::Refused(refusal) => {
            assert_eq!(refusal.reason, RefusalReason::InvalidArgument);
            assert!(refusal.evidence.is_empty());
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_module_that_is_not_the_asked_build_is_not_taken_for_it() {
    let kernel = FakeKernel::new();
    let mut wrong = request(&kernel, FakeModule::new("a", &["f"]), 60);
    wrong.build_id = "ab".repeat(20).parse().ok();
    let outcome = run(&mut Load::new(wrong.clone()), &kernel, |_| ());
    assert!(matches!(outcome, LoadOutcome::Unproven { .. }), "{outcome:?}");
    let again = run(&mut Load::new(wrong), &kernel, |_| ());
    assert!(matches!(again, LoadOutcome::Refused(refusal) if refusal.reason == RefusalReason::NameTaken));
}

#[test]
fn a_livepatch_that_somebody_else_removed_is_noticed() {
    let kernel = FakeKernel::new();
    let request = request(&kernel, FakeModule::new("a", &["f"]), 60);
    let mut resumed = Load::resume(request, kernel.now(), Roster::default());
    assert!(matches!(run(&mut resumed, &kernel, |_| ()), LoadOutcome::Vanished));
}

proptest! {
    /// Whenever a task wakes up, whenever the deadline is, whoever else waits and whether or not races are lost: what
    /// is enabled afterwards is what was enabled before, or the newcomer, and never less.
    #[test]
    fn never_less_than_before_or_after(
        wakes in prop::option::of(0u64..30),
        deadline in 0u64..20,
        races in 0u32..3,
        refused_writes in 0u32..2,
        settle in 0u64..3000,
        call in 0u64..5000,
        interrupt in prop::option::of(0usize..200),
    ) {
        let kernel = with_off_band();
        sleeper(&kernel, wakes);
        kernel.transition_takes(Duration::from_millis(settle));
        kernel.call_takes(Duration::from_millis(call));
        for _ in 0..races {
            kernel.complete_before_next_write();
        }
        if refused_writes > 0 {
            kernel.fail_write_after(1, Errno::ENOENT);
        }
        let module = FakeModule::new("cum", &[FUNCTION]).replacing();
        let mut operation = Load::new(request(&kernel, module, deadline));
        let mut steps = 0;
        let outcome = run(&mut operation, &kernel, |operation| {
            steps += 1;
            if interrupt == Some(steps) {
                operation.interrupt();
            }
        });
        kernel.wake("sleeper");
        kernel.advance(Duration::from_mins(2));
        let active = active(&kernel);
        match outcome {
            LoadOutcome::Loaded(loaded) => {
                prop_assert_eq!(active, ["cum"]);
                prop_assert_eq!(loaded.replaced, ["off"]);
            }
            LoadOutcome::Reverted { .. } | LoadOutcome::Interrupted | LoadOutcome::Refused(_) => {
                prop_assert_eq!(active, ["off"]);
            }
            LoadOutcome::StillInTransition { .. } | LoadOutcome::CallNotReturned => {
                prop_assert!(active == ["off"] || active == ["cum"], "{:?}", active);
            }
            other => prop_assert!(false, "{:?}", other),
        }
    }
}

#[test]
fn a_repair_is_tried_until_it_works() {
    let kernel = with_off_band();
    sleeper(&kernel, None);
    kernel.complete_before_next_write();
    kernel.fail_write_after(1, Errno::ENOENT);
    kernel.transition_takes(Duration::from_millis(5));
    let module = FakeModule::new("cum", &[FUNCTION]).replacing();
    let mut busy = false;
    let outcome = run(&mut Load::new(request(&kernel, module, 5)), &kernel, |_| {
        if !busy && kernel.calls().contains(&"enabled cum 0".to_owned()) {
            busy = true;
            kernel.wake("sleeper");
            for _ in 0..20 {
                kernel.fail_next(Call::FinitModule, Errno::EBUSY, None);
            }
        }
    });
    let LoadOutcome::Loaded(loaded) = outcome else {
        panic!("{outcome:?}")
    };
    assert!(loaded.repair.expect("a repair").gap < Duration::from_secs(10));
    assert_eq!(active(&kernel), ["cum"]);
}
