//! `cargo xtask bench`: what the parts cost, measured on this machine. Does IO.

mod kernel;
mod scale;
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
    /// A fleet of thousands of nodes on a real API server, against a bare loop of the same writes.
    Scale(scale::Options),
}

/// Measures and prints tables.
pub fn run(options: &Options) -> Result<ExitCode> {
    match &options.what {
        What::Kernel(options) => kernel::run(options)?,
        What::Scale(options) => scale::run(options)?,
    }
    Ok(ExitCode::SUCCESS)
}
