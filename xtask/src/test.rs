//! `cargo xtask test`: everything that says whether the project works, in layers of rising cost.
//!
//! The test programs of the whole workspace are built together, so that every dependency is compiled once with one set
//! of features, and are then run layer by layer.

use std::fmt;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use livepatch_rig::progress;
use serde_json::Value;

use crate::{cargo, checks};

/// What to run.
#[derive(Debug, Args)]
pub struct Options {
    /// Only this layer.
    #[arg(value_enum)]
    layer: Option<Layer>,
    /// Also the tests that take many minutes: those marked `#[ignore]` with `long_` in their names.
    #[arg(long)]
    long: bool,
    /// Only tests whose name contains this; no checks.
    #[arg(long)]
    filter: Option<String>,
}

/// A group of tests by what they need.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Layer {
    /// Checks, and tests that need nothing but a compiler.
    Unit,
    /// Tests against a real API server.
    Api,
    /// Tests on real kernels in small virtual machines.
    Kernel,
    /// Tests on a real cluster of virtual machines.
    Cluster,
}

/// In the name of a test that is left out unless asked for. Not every ignored test is one: some are the part of another
/// test that runs in a guest, and would do to this machine what is meant for that one.
const LONG: &str = "long_";

/// The test programs that simulate clusters: what they print is part of their result.
const SIMULATIONS: [&str; 2] = ["sim: simulation", "sim: protocol"];

const ALL: [Layer; 4] = [Layer::Unit, Layer::Api, Layer::Kernel, Layer::Cluster];

impl fmt::Display for Layer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Unit => "unit",
            Self::Api => "api",
            Self::Kernel => "kernel",
            Self::Cluster => "cluster",
        })
    }
}

/// How many tests ended how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Tally {
    passed: usize,
    failed: usize,
    ignored: usize,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
    }

    /// Reads a line such as `test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; …`.
    fn of_line(line: &str) -> Option<Self> {
        let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
        let count = |name: &str| {
            counts
                .split("; ")
                .find_map(|part| part.strip_suffix(name)?.trim().parse::<usize>().ok())
                .unwrap_or(0)
        };
        Some(Self {
            passed: count("passed"),
            failed: count("failed"),
            ignored: count("ignored"),
        })
    }

    /// Of a program that printed `results` and succeeded or not. One that failed without saying that a test failed, say
    /// because it crashed, counts as one failed test.
    fn of_program(results: Self, success: bool) -> Self {
        Self {
            failed: if success { results.failed } else { results.failed.max(1) },
            ..results
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} passed, {} failed", self.passed, self.failed)
    }
}

/// A test program that cargo built.
#[derive(Debug, PartialEq, Eq)]
struct Program {
    /// Name of the package and of the target.
    name: String,
    layer: Layer,
    path: PathBuf,
    /// Where the package is; tests run there.
    folder: PathBuf,
}

/// Runs the layers and prints the closing line.
pub fn run(options: &Options) -> ExitCode {
    let mut total = Tally::default();
    let mut summary = Vec::new();
    for layer in ALL
        .into_iter()
        .filter(|layer| options.layer.is_none_or(|only| only == *layer))
    {
        progress::line(&format!("{layer}:"));
        let started = Instant::now();
        let tally = run_layer(layer, options);
        total.add(tally);
        summary.push((layer, tally, started.elapsed()));
    }
    close(&summary, total);
    if total.failed == 0 && total.passed > 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// One line per layer, then the line that machines read, alone and last.
fn close(summary: &[(Layer, Tally, Duration)], total: Tally) {
    println!();
    for (layer, tally, took) in summary {
        let ignored = if tally.ignored > 0 {
            format!(", {} left out", tally.ignored)
        } else {
            String::new()
        };
        println!("{:8}{tally}{ignored} ({})", layer.to_string(), progress::seconds(*took));
    }
    println!("{total}");
}

fn run_layer(layer: Layer, options: &Options) -> Tally {
    let mut tally = Tally::default();
    if layer == Layer::Unit && options.filter.is_none() {
        let (passed, failed) = checks::run();
        tally.add(Tally {
            passed,
            failed,
            ignored: 0,
        });
    }
    if let Err(error) = run_programs(layer, options, &mut tally) {
        progress::line(&format!("error: {error:#}"));
        tally.failed += 1;
    }
    tally
}

fn run_programs(layer: Layer, options: &Options, tally: &mut Tally) -> Result<()> {
    for program in programs(layer)? {
        tally.add(run_program(&program, options)?);
    }
    if layer == Layer::Unit && options.filter.is_none() {
        tally.add(run_examples_in_documentation()?);
    }
    Ok(())
}

/// Builds the test programs of a layer; beyond the unit layer all are integration tests.
fn programs(layer: Layer) -> Result<Vec<Program>> {
    let mut build = cargo();
    build.args([
        "test",
        "--workspace",
        "--no-run",
        "--message-format=json-render-diagnostics",
    ]);
    if layer != Layer::Unit {
        build.args(["--test", "*"]);
    }
    let messages = progress::step("build the tests", || progress::output(&mut build))?;
    Ok(messages
        .lines()
        .filter_map(program)
        .filter(|program| program.layer == layer)
        .collect())
}

/// The test program that one of cargo's messages is about.
fn program(message: &str) -> Option<Program> {
    let message: Value = serde_json::from_str(message).ok()?;
    let path = PathBuf::from(message["executable"].as_str()?);
    if message["profile"]["test"] != true {
        return None;
    }
    let target = message["target"]["name"].as_str()?;
    let folder = Path::new(message["manifest_path"].as_str()?).parent()?.to_owned();
    let integration = message["target"]["kind"][0] == "test";
    let layer = match (folder.parent()?.file_name()?.to_str()?, folder.file_name()?.to_str()?) {
        ("tests", "api") if integration => Layer::Api,
        ("tests", "kernel" | "hybrid") if integration => Layer::Kernel,
        // The rig's own tests start nodes.
        ("tests", "cluster" | "rig") if integration => Layer::Cluster,
        _ => Layer::Unit,
    };
    let package = folder.file_name()?.to_str()?;
    Some(Program {
        name: format!("{package}: {target}"),
        layer,
        path,
        folder,
    })
}

/// Runs a test program. Those of the unit layer are many and quick, so only failures show what they print.
fn run_program(program: &Program, options: &Options) -> Result<Tally> {
    let mut command = Command::new(&program.path);
    // As cargo does.
    command
        .current_dir(&program.folder)
        .env("CARGO_MANIFEST_DIR", &program.folder);
    command.args(&options.filter);
    let tells = SIMULATIONS.contains(&program.name.as_str());
    if tells {
        command.args(["--nocapture", "--test-threads=1"]);
    }
    let mut tally = if program.layer == Layer::Unit && !tells {
        run_quietly(&program.name, &mut command)?
    } else {
        progress::line(&program.name);
        run_aloud(&mut command)?
    };
    if options.long {
        let long = run_long(program, options)?;
        tally.ignored = tally.ignored.saturating_sub(long.passed + long.failed);
        tally.add(Tally { ignored: 0, ..long });
    }
    Ok(tally)
}

/// Runs the long tests of a program, if it has any, each by itself: they are few and worth watching in every layer.
fn run_long(program: &Program, options: &Options) -> Result<Tally> {
    let command = |arguments: &[&str]| {
        let mut command = Command::new(&program.path);
        command
            .current_dir(&program.folder)
            .env("CARGO_MANIFEST_DIR", &program.folder)
            .args(arguments);
        command
    };
    let listed = progress::output(&mut command(&["--ignored", "--list"]))?;
    let mut tally = Tally::default();
    for name in long_tests(&listed, options.filter.as_deref()) {
        progress::line(&format!("{}: {name}", program.name));
        tally.add(run_aloud(&mut command(&["--ignored", "--exact", name, "--nocapture"]))?);
    }
    Ok(tally)
}

/// The long tests in what a test program lists, by a line such as `name: test` each.
fn long_tests<'a>(listed: &'a str, filter: Option<&str>) -> Vec<&'a str> {
    listed
        .lines()
        .filter_map(|line| line.strip_suffix(": test"))
        .filter(|name| name.contains(LONG) && filter.is_none_or(|filter| name.contains(filter)))
        .collect()
}

fn run_quietly(name: &str, command: &mut Command) -> Result<Tally> {
    progress::step_with(name, || {
        let output = command
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("start {name}"))?;
        let stdout = String::from_utf8_lossy(&output.stdout);
        let mut results = Tally::default();
        stdout
            .lines()
            .filter_map(Tally::of_line)
            .for_each(|line| results.add(line));
        let tally = Tally::of_program(results, output.status.success());
        if !output.status.success() {
            progress::line(&format!("{stdout}{}", String::from_utf8_lossy(&output.stderr)));
        }
        Ok((tally, tally.to_string()))
    })
}

/// Passes on what the program prints as it prints it.
fn run_aloud(command: &mut Command) -> Result<Tally> {
    let what = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("start {what}"))?;
    let mut results = Tally::default();
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).split(b'\n') {
            let line = line.with_context(|| format!("read what {what} prints"))?;
            let line = String::from_utf8_lossy(&line);
            println!("{line}");
            if let Some(result) = Tally::of_line(&line) {
                results.add(result);
            }
        }
    }
    let status = child.wait().with_context(|| format!("wait for {what}"))?;
    Ok(Tally::of_program(results, status.success()))
}

fn run_examples_in_documentation() -> Result<Tally> {
    run_quietly(
        "examples in documentation",
        cargo().args(["test", "--workspace", "--doc"]),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_read_from_what_a_test_program_prints() {
        let line = "test result: FAILED. 15 passed; 2 failed; 1 ignored; 0 measured; 3 filtered out; finished in 2.53s";
        assert_eq!(
            Tally::of_line(line),
            Some(Tally {
                passed: 15,
                failed: 2,
                ignored: 1
            })
        );
        assert_eq!(Tally::of_line("running 3 tests"), None);
        assert_eq!(Tally::of_line("test result: "), None);
    }

    #[test]
    fn long_tests_are_told_from_those_that_run_in_a_guest() {
        let listed = "in_the_guest: test\nlong_race: test\ninner::long_walk: test\n\n3 tests, 0 benchmarks\n";
        assert_eq!(long_tests(listed, None), ["long_race", "inner::long_walk"]);
        assert_eq!(long_tests(listed, Some("walk")), ["inner::long_walk"]);
    }

    #[test]
    fn a_crash_is_a_failure_and_a_failure_is_not_counted_twice() {
        let printed = Tally {
            passed: 1,
            failed: 0,
            ignored: 0,
        };
        assert_eq!(Tally::of_program(printed, true).failed, 0);
        assert_eq!(Tally::of_program(printed, false).failed, 1);
        assert_eq!(Tally::of_program(Tally { failed: 3, ..printed }, false).failed, 3);
    }

    #[test]
    fn programs_are_sorted_into_layers() {
        let message = |manifest: &str, kind: &str, test: bool| {
            let message = serde_json::json!({
                "executable": "/x/program", "manifest_path": manifest,
                "target": { "name": "parity", "kind": [kind] }, "profile": { "test": test },
            });
            program(&message.to_string())
        };
        let layer = |manifest, kind| message(manifest, kind, true).unwrap().layer;
        assert_eq!(layer("/w/tests/api/Cargo.toml", "test"), Layer::Api);
        assert_eq!(layer("/w/tests/kernel/Cargo.toml", "test"), Layer::Kernel);
        assert_eq!(layer("/w/tests/hybrid/Cargo.toml", "test"), Layer::Kernel);
        assert_eq!(layer("/w/tests/kernel/Cargo.toml", "lib"), Layer::Unit);
        assert_eq!(layer("/w/tests/rig/Cargo.toml", "lib"), Layer::Unit);
        assert_eq!(layer("/w/tests/rig/Cargo.toml", "test"), Layer::Cluster);
        assert_eq!(layer("/w/kernel/Cargo.toml", "test"), Layer::Unit);
        assert_eq!(message("/w/operator/Cargo.toml", "bin", false), None);
        assert_eq!(program("not JSON"), None);
    }
}
