//! The cases of the kernel crate on real kernels: what the fake kernel claims, and what operations rely on.

#![expect(clippy::unwrap_used, reason = "test code fails by panicking")]

mod guest;

use guest::Run;
use livepatch_rig::kernels::Series;
use livepatch_tests_kernel::cases::ALL;
use livepatch_tests_kernel::guest_lab::GuestLab;
use livepatch_tests_kernel::lab::Lab;
use livepatch_tests_kernel::turns::{Turn, one_after_another};

/// What the guest runs: all cases, one after the other on one kernel, which is left empty between two.
#[test]
#[ignore = "runs in the guest of the tests below"]
fn in_the_guest() {
    let lab = GuestLab::open();
    let lab: &dyn Lab = &lab;
    one_after_another(
        lab,
        ALL.iter().map(|case| Turn {
            name: case.name,
            last: case.last,
            run: Box::new(|| (case.run)(lab)),
        }),
    );
}

fn run_on(series: Series) {
    let mut run = Run::of("parity");
    run.environment
        .extend(std::env::var("CASE").ok().map(|case| format!("CASE={case}")));
    run.on(series);
}

#[test]
fn linux_6_1_behaves_like_the_fake_kernel() {
    run_on(Series::Linux6_1);
}

#[test]
fn linux_6_12_behaves_like_the_fake_kernel() {
    run_on(Series::Linux6_12);
}
