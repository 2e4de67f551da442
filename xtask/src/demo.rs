//! `cargo xtask demo`: a cluster of virtual machines with this project on it, to look at.

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;

/// What to show.
#[derive(Debug, Args)]
pub struct Options {
    /// Leave the cluster running until a key is pressed.
    #[arg(long)]
    keep: bool,
}

/// Starts the cluster.
pub fn run(options: &Options) -> Result<ExitCode> {
    let Options { keep: _ } = options;
    bail!("there is no demo yet")
}
