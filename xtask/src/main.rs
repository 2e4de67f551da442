//! Developer commands: bench, demo, test, simulate, generate. `cargo xtask COMMAND`.

mod bench;
mod checks;
mod definitions;
mod demo;
mod generate;
mod simulate;
mod states;
mod test;

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use clap::Parser;
use livepatch_rig::progress;

/// Commands for working on this project.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask")]
enum Task {
    /// Check formatting, lints, generated files and dependencies, and run the tests, all layers or one.
    Test(test::Options),
    /// Simulate clusters in which everything goes wrong that can.
    Simulate(simulate::Options),
    /// Write the files that are generated from the source.
    Generate(generate::Options),
    /// Measure what the parts cost on this machine.
    Bench(bench::Options),
    /// Start a cluster of virtual machines with this project on it.
    Demo(demo::Options),
}

fn main() -> ExitCode {
    let result = match Task::parse() {
        Task::Test(options) => Ok(test::run(&options)),
        Task::Simulate(options) => simulate::run(&options),
        Task::Generate(options) => generate::run(&options),
        Task::Bench(options) => bench::run(&options),
        Task::Demo(options) => demo::run(&options),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            progress::line(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// The folder of the workspace.
fn workspace() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own).to_owned()
}

/// The cargo that runs this program, in the workspace's folder.
fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(workspace());
    command
}
