//! A load on real kernels beyond what a bare C program takes; reading a large module; reading every module of a kernel.
//!
//! Does IO: builds, boots guests. Both programs do their loads in one guest by turns, each load in a process of its own,
//! so that what disturbs the one disturbs the other.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use livepatch_rig::kernel_vm::{self, Boot, GuestFile, KernelVmSpec};
use livepatch_rig::kernels::{Kernel, Series};
use livepatch_rig::{modules, payload, progress};

use super::table::{Measured, percentile};
use crate::workspace;

/// The livepatch that is loaded: one function, nothing in its way.
const LIVEPATCH: &str = "lp_offband_v1";
const LARGE: &str = "lp_large";

/// How much to measure.
#[derive(Debug, Args)]
pub struct Options {
    /// Loads by each of the two programs on each kernel.
    #[arg(long, default_value_t = 100)]
    rounds: usize,
    /// Readings of the large module.
    #[arg(long, default_value_t = 1000)]
    readings: usize,
    /// Not the modules of whole kernels, whose packages are large.
    #[arg(long)]
    skip_stock: bool,
}

pub fn run(options: &Options) -> Result<()> {
    let program = payload::release_program("livepatch-tests-kernel", "kernel-bench")?;
    let folder = tempfile::tempdir()?;
    let bare = bare_program(folder.path())?;
    let guests = Series::ALL
        .into_iter()
        .map(|series| Ok((series, loads(series, &program, &bare, options.rounds)?)))
        .collect::<Result<Vec<_>>>()?;
    let inspected = Measured::of(&inspect(&program, options.readings)?);
    let stock = if options.skip_stock {
        Vec::new()
    } else {
        Series::ALL
            .into_iter()
            .map(|series| {
                let folder = Kernel::get(series)?.all_modules()?;
                let printed = progress::output(Command::new(&program).arg("stock").arg(folder))?;
                Ok((series, Measured::of(&printed)))
            })
            .collect::<Result<Vec<_>>>()?
    };
    print_loads(&guests, options.rounds);
    print_readings(&inspected, &stock);
    Ok(())
}

/// The C program, linked statically as the other one is.
fn bare_program(folder: &Path) -> Result<PathBuf> {
    let program = folder.join("bare_load");
    progress::run(
        Command::new("gcc-12")
            .args(["-O2", "-static", "-Wall", "-Wextra", "-o"])
            .arg(&program)
            .arg(workspace().join("tests/kernel/bench/bare_load.c")),
    )?;
    Ok(program)
}

fn loads(series: Series, program: &Path, bare: &Path, rounds: usize) -> Result<Measured> {
    let kernel = Kernel::get(series)?;
    let rounds = rounds.to_string();
    let module = format!("/modules/{LIVEPATCH}.ko");
    let command = ["/kernel-bench", "loads", "/bare_load", &module, LIVEPATCH, &rounds];
    let mut files = GuestFile::folder("modules", &modules::build(&kernel)?)?;
    files.push(GuestFile::copy("kernel-bench", program));
    files.push(GuestFile::copy("bare_load", bare));
    let outcome = kernel_vm::run(&KernelVmSpec {
        kernel: &kernel,
        files,
        command: command.map(str::to_owned).to_vec(),
        deadline: Duration::from_hours(1),
        boot: Boot::default(),
    })?;
    Ok(Measured::of(&outcome.success()?))
}

fn inspect(program: &Path, readings: usize) -> Result<String> {
    let kernel = Kernel::get(Series::Linux6_1)?;
    let folder = modules::build_from(&kernel, &workspace().join("tests/modules/bench"))?;
    progress::output(
        Command::new(program)
            .arg("inspect")
            .arg(folder.join(format!("{LARGE}.ko")))
            .arg(readings.to_string()),
    )
}

fn milliseconds(micros: u64) -> String {
    format!("{}.{:03}", micros / 1000, micros % 1000)
}

fn signed_milliseconds(micros: i64) -> String {
    let sign = if micros < 0 { "-" } else { "+" };
    format!("{sign}{}", milliseconds(micros.unsigned_abs()))
}

fn print_loads(guests: &[(Series, Measured)], rounds: usize) {
    println!("\nA load, {rounds} by each program by turns, in ms. Beyond: pair by pair.\n");
    println!("| kernel | time | program | p1 | p50 | p99 | max |");
    println!("|---|---|---|---|---|---|---|");
    for (series, measured) in guests {
        for time in ["wall", "cpu"] {
            let row = |who: &str, cells: [String; 4]| println!("| {series} | {time} | {who} | {} |", cells.join(" | "));
            for who in ["bare", "kernel-crate"] {
                let values = measured.sorted(&format!("{who}-{time}"));
                row(who, [1, 50, 99, 100].map(|p| milliseconds(percentile(&values, p))));
            }
            let beyond = measured.beyond(&format!("kernel-crate-{time}"), &format!("bare-{time}"));
            row(
                "beyond",
                [1, 50, 99, 100].map(|p| signed_milliseconds(percentile(&beyond, p))),
            );
        }
    }
}

fn print_readings(inspected: &Measured, stock: &[(Series, Measured)]) {
    let times = inspected.sorted("inspect");
    let size = percentile(&inspected.sorted("size"), 50);
    println!(
        "\nReading one livepatch of {size} bytes, {} times, in ms:\n",
        times.len()
    );
    println!("| p1 | p50 | p99 | max |\n|---|---|---|---|");
    let cells = [1, 50, 99, 100].map(|p| milliseconds(percentile(&times, p)));
    println!("| {} |", cells.join(" | "));
    for (series, measured) in stock {
        let took = Duration::from_micros(percentile(&measured.sorted("stock"), 50));
        let count = percentile(&measured.sorted("stock-modules"), 50);
        println!("\nReading all {count} modules of Linux {series}, files and unpacking included: {took:.2?}");
    }
}
