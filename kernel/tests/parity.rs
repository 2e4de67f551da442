//! The cases that also run on real kernels, on the fake one.

use livepatch_tests_kernel::cases::ALL;
use livepatch_tests_kernel::fake_lab::FakeLab;
use livepatch_tests_kernel::lab::Lab;

#[test]
fn the_fake_kernel_behaves_like_the_real_ones() {
    for case in ALL {
        println!("{}", case.name);
        let lab = FakeLab::default();
        let lab: &dyn Lab = &lab;
        (case.run)(lab);
        if !case.last {
            lab.clear();
        }
    }
}
