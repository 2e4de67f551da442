//! Every module of a Debian kernel package is read as what it is: no livepatch.

#![expect(clippy::unwrap_used, reason = "test code fails by panicking")]

use std::time::Instant;

use livepatch_rig::kernels::{Kernel, Series};
use livepatch_tests_kernel::stock::{misread, modules_below};

fn none_is_misread(series: Series) {
    let all = modules_below(&Kernel::get(series).unwrap().all_modules().unwrap());
    assert!(all.len() > 3000, "only {} modules", all.len());
    let started = Instant::now();
    assert_eq!(misread(&all), Vec::<String>::new());
    println!("{} modules of Linux {series} in {:?}", all.len(), started.elapsed());
}

#[test]
fn no_module_of_6_1_is_misread() {
    none_is_misread(Series::Linux6_1);
}

#[test]
fn no_packed_module_of_6_12_is_misread() {
    none_is_misread(Series::Linux6_12);
}
