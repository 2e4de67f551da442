//! Every module of a Debian kernel package is read as what it is: no livepatch.

#![expect(clippy::unwrap_used, reason = "test code fails by panicking")]

use std::path::PathBuf;
use std::time::Instant;

use livepatch_rig::kernels::{Kernel, Series};
use livepatch_tests_kernel::stock::{misread, modules_below};

/// Of this many packed modules one is read in an ordinary run: unpacking takes unoptimised programs a minute or two.
const SAMPLE: usize = 20;

fn none_is_misread(series: Series, every: usize) {
    let all = modules_below(&Kernel::get(series).unwrap().all_modules().unwrap());
    assert!(all.len() > 3000, "only {} modules", all.len());
    let some: Vec<PathBuf> = all.into_iter().step_by(every).collect();
    let started = Instant::now();
    assert_eq!(misread(&some), Vec::<String>::new());
    println!("{} modules of Linux {series} in {:?}", some.len(), started.elapsed());
}

#[test]
fn no_module_of_6_1_is_misread() {
    none_is_misread(Series::Linux6_1, 1);
}

#[test]
fn no_packed_module_of_6_12_is_misread() {
    none_is_misread(Series::Linux6_12, SAMPLE);
}

#[test]
#[ignore = "takes minutes"]
fn long_no_packed_module_of_6_12_is_misread() {
    none_is_misread(Series::Linux6_12, 1);
}
