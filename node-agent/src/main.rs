//! The program `livepatch-agent`: flags, the log, signals, and one [`livepatch_agent::Agent`].

#![forbid(unsafe_code)]

mod cli;
mod logging;
mod run;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;

/// How long a load may still take after SIGTERM before it is left to the next agent.
const GRACE: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    let cli::Cli {
        command: cli::Command::Run(flags),
    } = cli::Cli::parse();
    logging::start(flags.log_format);
    // With two providers in the tree rustls would not know which to take; said explicitly, it never has to guess.
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        tracing::debug!("a TLS provider is installed already");
    }
    // One thread for the loop: it waits nearly always. What blocks runs beside it.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("livepatch-agent: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let ended = runtime.block_on(run::run(flags));
    // A thread that follows a transition is not waited for: the transition goes on in the kernel.
    runtime.shutdown_timeout(GRACE);
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("livepatch-agent: {error:#}");
            ExitCode::FAILURE
        }
    }
}
