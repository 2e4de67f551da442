//! What `cargo xtask bench kernel` measures, in the guest and outside. Prints one line per series of numbers:
//! `NAME UNIT VALUE…`. Does IO: `loads` loads and unloads livepatches.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a measurement that fails has no result"
)]

use std::ffi::CString;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use livepatch_kernel::operation::{Disable, DisableOutcome, Load, LoadOutcome, LoadRequest, OnTimeout, Unload};
use livepatch_kernel::operation::{UnloadOutcome, run};
use livepatch_kernel::{BuildId, Host, Kernel as _, LinuxKernel};
use livepatch_module::inspect;
use livepatch_tests_kernel::stock::{misread, modules_below};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;

const AMPLE: Duration = Duration::from_mins(5);

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["load", file] => load(file),
        ["loads", bare, file, name, rounds] => loads(bare, file, name, rounds.parse().unwrap()),
        ["inspect", file, rounds] => inspects(file, rounds.parse().unwrap()),
        ["stock", folder] => stock(Path::new(folder)),
        _ => panic!("load FILE | loads BARE FILE NAME ROUNDS | inspect FILE ROUNDS | stock FOLDER"),
    }
}

/// One load as this project makes it: the file is read and inspected, loaded from a sealed copy, watched, and compared
/// with what the kernel says it runs.
fn load(file: &str) {
    let image = fs::read(file).unwrap();
    let inspection = inspect(&image).unwrap();
    let kernel = LinuxKernel::open(Host::native()).unwrap();
    let request = LoadRequest {
        name: inspection.name,
        build_id: inspection.build_id.and_then(|id| BuildId::try_from(id).ok()),
        image: image.into(),
        parameters: CString::default(),
        deadline: kernel.now() + AMPLE,
        on_timeout: OnTimeout::Revert,
    };
    match run(&mut Load::new(request), &kernel, |_| ()) {
        LoadOutcome::Loaded(_) => {}
        other => panic!("{other:?}"),
    }
}

/// Loads by turns with the bare program and with this one, each a process of its own; unloads are not measured.
fn loads(bare: &str, file: &str, name: &str, rounds: usize) {
    let own = std::env::current_exe().unwrap();
    let own = own.to_str().unwrap();
    let mut taken = [(Vec::new(), Vec::new()), (Vec::new(), Vec::new())];
    for round in 0..rounds {
        for turn in 0..2 {
            // Who is first changes from round to round.
            let which = (round + turn) % 2;
            let command: [&[&str]; 2] = [&[bare, file, name], &[own, "load", file]];
            let (wall, processor) = measured(command[which]);
            taken[which].0.push(wall);
            taken[which].1.push(processor);
            unload(name);
        }
    }
    for (who, (wall, processor)) in ["bare", "kernel-crate"].iter().zip(taken) {
        series(&format!("{who}-wall"), "us", &wall);
        series(&format!("{who}-cpu"), "us", &processor);
    }
}

/// Wall and processor time of a command, both in microseconds. The work of the kernel on its behalf counts where it is
/// done in its own system calls.
fn measured(command: &[&str]) -> (u128, u128) {
    let used = || {
        let usage = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap();
        u128::try_from(usage.user_time().num_microseconds() + usage.system_time().num_microseconds()).unwrap()
    };
    let before = used();
    let started = Instant::now();
    let status = Command::new(command[0]).args(&command[1..]).status().unwrap();
    let wall = started.elapsed().as_micros();
    assert!(status.success(), "{command:?}");
    (wall, used() - before)
}

fn unload(name: &str) {
    let kernel = LinuxKernel::open(Host::native()).unwrap();
    let mut disable = Disable::new(name, kernel.now() + AMPLE, OnTimeout::Revert);
    match run(&mut disable, &kernel, |_| ()) {
        DisableOutcome::Disabled => {}
        other => panic!("{other:?}"),
    }
    match run(&mut Unload::new(name, kernel.now() + AMPLE), &kernel, |_| ()) {
        UnloadOutcome::Unloaded => {}
        other => panic!("{other:?}"),
    }
}

fn inspects(file: &str, rounds: usize) {
    let image = fs::read(file).unwrap();
    let times: Vec<u128> = (0..rounds)
        .map(|_| {
            let started = Instant::now();
            let inspection = inspect(&image).unwrap();
            let took = started.elapsed().as_micros();
            assert!(inspection.functions().count() > 0);
            took
        })
        .collect();
    series("inspect", "us", &times);
    println!("size bytes {}", image.len());
}

/// Every module of a folder, from the file to the answer.
fn stock(folder: &Path) {
    let files = modules_below(folder);
    let started = Instant::now();
    let wrong = misread(&files);
    series("stock", "us", &[started.elapsed().as_micros()]);
    println!("stock-modules count {}", files.len());
    assert!(wrong.is_empty(), "{wrong:?}");
}

fn series(name: &str, unit: &str, values: &[u128]) {
    let text: Vec<String> = values.iter().map(u128::to_string).collect();
    println!("{name} {unit} {}", text.join(" "));
}
