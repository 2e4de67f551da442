//! Unloads on the fake kernel: each end with its exit code, and what it leaves behind.

use std::time::Duration;

use livepatch_kernel::{Call, FakeKernel, FakeModule, FakeTask, Kernel as _};
use nix::errno::Errno;

use super::unload;
use crate::cli::exit::Exit;
use crate::cli::interrupts::Interrupts;
use crate::cli::progress::Progress;
use crate::cli::result::Changed;

fn kernel_with(name: &str) -> FakeKernel {
    let kernel = FakeKernel::new();
    let image = kernel.image(FakeModule::new(name, &["stalls"]));
    kernel.start_load(name, &image, c"").unwrap().poll().unwrap().unwrap();
    kernel.advance(Duration::from_secs(3));
    kernel
}

fn stall(kernel: &FakeKernel) {
    kernel.add_task(FakeTask {
        pid: 77,
        comm: "cat".into(),
        pod_uid: None,
        sleeps_in: "stalls".into(),
        until: None,
    });
}

fn attempt(kernel: &FakeKernel, name: &str, interrupts: &Interrupts) -> Changed {
    unload(
        kernel,
        name,
        Duration::from_secs(30),
        interrupts,
        &mut Progress::new(true),
    )
}

#[test]
fn a_livepatch_is_disabled_and_removed() {
    let kernel = kernel_with("lp_fix");
    let changed = attempt(&kernel, "lp_fix", &Interrupts::default());
    assert_eq!(changed.exit, Exit::Done, "{changed:?}");
    assert!(kernel.module("lp_fix").unwrap().is_none());
    let again = attempt(&kernel, "lp_fix", &Interrupts::default());
    assert_eq!((again.exit, again.reason), (Exit::Refused, Some("NotLoaded")));
}

#[test]
fn a_stalled_unload_is_taken_back_at_its_deadline() {
    let kernel = kernel_with("lp_fix");
    stall(&kernel);
    let changed = attempt(&kernel, "lp_fix", &Interrupts::default());
    assert_eq!(
        (changed.exit, changed.reason),
        (Exit::TakenBack, Some("TransitionTimedOut"))
    );
    assert_eq!(changed.blockers[0].comm, "cat");
    assert!(kernel.standing("lp_fix").unwrap().unwrap().is_effective());
}

#[test]
fn a_signal_takes_an_unload_back_before_its_point_of_no_return_only() {
    let kernel = kernel_with("lp_fix");
    let changed = attempt(&kernel, "lp_fix", &Interrupts::now());
    assert_eq!((changed.exit, changed.reason), (Exit::TakenBack, Some("Interrupted")));
    assert_eq!(kernel.calls(), ["finit_module lp_fix"]);
    stall(&kernel);
    let interrupts = Interrupts::after(&kernel, Duration::from_secs(5));
    let changed = attempt(&kernel, "lp_fix", &interrupts);
    assert_eq!((changed.exit, changed.reason), (Exit::TakenBack, Some("Interrupted")));
    assert!(kernel.standing("lp_fix").unwrap().unwrap().is_effective());

    // Disabled by somebody before: only the module is left, and it is removed in spite of the signal.
    kernel.wake("cat");
    kernel.set_enabled("lp_fix", false).unwrap();
    kernel.advance(Duration::from_secs(3));
    let changed = attempt(&kernel, "lp_fix", &interrupts);
    assert_eq!(
        (changed.exit, changed.signal),
        (Exit::Done, Some("SIGINT")),
        "{changed:?}"
    );
    assert!(kernel.module("lp_fix").unwrap().is_none());
}

#[test]
fn ordinary_modules_and_pinned_ones_are_left_alone() {
    let kernel = kernel_with("lp_fix");
    kernel.add_plain_module("ext4", 0);
    let changed = attempt(&kernel, "ext4", &Interrupts::default());
    assert_eq!((changed.exit, changed.reason), (Exit::Refused, Some("NotALivepatch")));
    assert!(kernel.module("ext4").unwrap().is_some());
    kernel.pin("lp_fix");
    let changed = attempt(&kernel, "lp_fix", &Interrupts::default());
    assert_eq!(
        (changed.exit, changed.reason),
        (Exit::Unfinished, Some("LeftoverPinned"))
    );
    assert!(changed.message.starts_with("it is disabled"), "{}", changed.message);
    let again = attempt(&kernel, "lp_fix", &Interrupts::default());
    assert_eq!((again.exit, again.reason), (Exit::Refused, Some("LeftoverPinned")));
}

#[test]
fn what_the_kernel_refuses_changes_nothing() {
    let kernel = kernel_with("lp_fix");
    kernel.fail_next(Call::WriteEnabled, Errno::EACCES, None);
    let changed = attempt(&kernel, "lp_fix", &Interrupts::default());
    assert_eq!((changed.exit, changed.reason), (Exit::Refused, Some("DisableRefused")));
    assert!(kernel.standing("lp_fix").unwrap().unwrap().is_effective());
}
