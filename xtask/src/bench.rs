//! `cargo xtask bench`: what the parts cost, measured on this machine. Does IO.

mod kernel;
mod table;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};

/// What to measure.
#[derive(Debug, Args)]
pub struct Options {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// A load on real kernels beyond what a bare C program takes, and reading modules.
    Kernel(kernel::Options),
}

/// Measures and prints tables.
pub fn run(options: &Options) -> Result<ExitCode> {
    match &options.what {
        What::Kernel(options) => kernel::run(options)?,
    }
    Ok(ExitCode::SUCCESS)
}
