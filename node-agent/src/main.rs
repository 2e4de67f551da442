//! The program `livepatch-agent`: one [`livepatch_agent::Agent`] with its flags, log and signals, and the commands for a
//! person on the host.

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
    let flags = match cli::Cli::try_parse() {
        Ok(cli::Cli {
            command: cli::Command::Run(flags),
        }) => flags,
        Ok(cli::Cli { command }) => return cli::host(command).into(),
        Err(error) => {
            // Nobody to tell if that fails.
            let _ = error.print();
            return if error.use_stderr() {
                cli::Exit::Usage.into()
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    run_agent(flags)
}

/// The agent, until it is told to end.
fn run_agent(flags: cli::Run) -> ExitCode {
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
