//! Thousands of nodes on a real API server. The program that does it is built for itself, as a release is. Does IO.

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::cargo;

/// What to measure.
#[derive(Debug, Args)]
pub struct Options {
    /// For the program: `--nodes N`, `--rounds N`, `--idle SECONDS`; `--help` tells all.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// Builds it and runs it.
pub fn run(options: &Options) -> Result<()> {
    let ended = cargo()
        .args([
            "run",
            "--release",
            "--quiet",
            "--package",
            "livepatch-tests-scale",
            "--",
        ])
        .args(&options.arguments)
        .status()
        .context("start the measurement")?;
    ensure!(ended.success(), "the measurement failed: {ended}");
    Ok(())
}
