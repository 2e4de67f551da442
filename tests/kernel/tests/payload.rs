//! A statically linked test program of this workspace runs in a guest.

use std::time::Duration;

use livepatch_rig::kernel_vm::{self, Boot, GuestFile, KernelVmSpec};
use livepatch_rig::kernels::{Kernel, Series};
use livepatch_rig::payload;

/// What the guest runs: this very program, told by the argument that names this test.
#[test]
#[ignore = "runs in the guest of the test below"]
fn in_the_guest() {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    assert!(release.contains("-cloud-amd64"), "{release}");
}

#[test]
fn a_test_program_runs_in_a_guest() {
    let program = payload::test("livepatch-tests-kernel", "payload").unwrap();
    let kernel = Kernel::get(Series::Linux6_12).unwrap();
    let outcome = kernel_vm::run(&KernelVmSpec {
        kernel: &kernel,
        files: vec![GuestFile::copy("payload", program)],
        command: ["/payload", "--ignored", "--exact", "in_the_guest"]
            .map(str::to_owned)
            .to_vec(),
        deadline: Duration::from_mins(1),
        boot: Boot::default(),
    })
    .unwrap();
    assert_eq!(outcome.exit_code, 0, "{}", outcome.output);
    assert!(outcome.output.contains("1 passed"), "{}", outcome.output);
}
