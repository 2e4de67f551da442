//! The program: installs the TLS provider, parses the command line, maps the result to an exit code.

#![forbid(unsafe_code)]

use clap::Parser;
use livepatch_operator::cli::Cli;
use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    // With two providers in the tree rustls would not know which to take; said explicitly, it never has to guess.
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        eprintln!("livepatch-operator: a TLS provider is installed already");
    }
    match cli.run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("livepatch-operator: {error:#}");
            ExitCode::FAILURE
        }
    }
}
