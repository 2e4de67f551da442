//! `cargo xtask simulate`: clusters in virtual time, in which everything goes wrong that can.
//!
//! The program that does it is built for itself, so that this one stays quick to build.

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;

use crate::cargo;

/// What to simulate.
#[derive(Debug, Args)]
pub struct Options {
    /// For the simulator: `--seeds N`, `--seed S [--shrink] [--replay]`, `--mutant NAME|list`; `--help` tells all.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// Builds the simulator and runs it.
pub fn run(options: &Options) -> Result<ExitCode> {
    let status = cargo()
        .args(["run", "--quiet", "--package", "livepatch-tests-sim", "--"])
        .args(&options.arguments)
        .status()
        .context("start the simulator")?;
    Ok(if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
