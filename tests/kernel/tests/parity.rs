//! The cases of the kernel crate on real kernels: what the fake kernel claims, and what operations rely on.

#![expect(clippy::unwrap_used, reason = "test code fails by panicking")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use livepatch_rig::kernel_vm::{self, GuestFile, KernelVmSpec};
use livepatch_rig::kernels::{Kernel, Series};
use livepatch_rig::{modules, payload};
use livepatch_tests_kernel::cases::ALL;
use livepatch_tests_kernel::guest_lab::GuestLab;
use livepatch_tests_kernel::lab::Lab;

/// What the guest runs: all cases, one after the other on one kernel, which is left empty between two.
#[test]
#[ignore = "runs in the guest of the tests below"]
fn in_the_guest() {
    let only = std::env::var("CASE").ok();
    let lab = GuestLab::open();
    let lab: &dyn Lab = &lab;
    let mut failed = Vec::new();
    for case in ALL
        .iter()
        .filter(|case| only.as_deref().is_none_or(|name| case.name.contains(name)))
    {
        let started = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            (case.run)(lab);
            if !case.last {
                lab.clear();
            }
        }));
        let verdict = if outcome.is_ok() { "ok" } else { "FAILED" };
        println!("case {} {verdict} {:.1} s", case.name, started.elapsed().as_secs_f64());
        if outcome.is_err() {
            failed.push(case.name);
            // The kernel is swept, so that the next case has a fair chance; if that fails too, the rest would only
            // repeat it.
            if catch_unwind(AssertUnwindSafe(|| lab.clear())).is_err() {
                break;
            }
        }
    }
    assert!(failed.is_empty(), "failed on this kernel: {failed:?}");
}

fn run_on(series: Series) {
    let kernel = Kernel::get(series).unwrap();
    let mut files = GuestFile::folder("modules", &modules::build(&kernel).unwrap()).unwrap();
    let faults = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../modules/kernel");
    files.extend(GuestFile::folder("modules", &modules::build_from(&kernel, &faults).unwrap()).unwrap());
    let program = payload::test("livepatch-tests-kernel", "parity").unwrap();
    files.push(GuestFile::copy("parity", program));
    let mut command: Vec<String> = ["/bin/busybox", "env"].map(str::to_owned).to_vec();
    command.extend(std::env::var("CASE").ok().map(|case| format!("CASE={case}")));
    command.extend(["/parity", "--ignored", "--exact", "in_the_guest", "--nocapture"].map(str::to_owned));
    let outcome = kernel_vm::run(&KernelVmSpec {
        kernel: &kernel,
        files,
        command,
        deadline: Duration::from_mins(15),
    });
    let outcome = outcome.unwrap();
    print!("{}", outcome.output);
    assert_eq!(outcome.exit_code, 0, "Linux {series}");
}

#[test]
fn linux_6_1_behaves_like_the_fake_kernel() {
    run_on(Series::Linux6_1);
}

#[test]
fn linux_6_12_behaves_like_the_fake_kernel() {
    run_on(Series::Linux6_12);
}
