//! kubectl plugin: push livepatches and follow rollouts.
//!
//! Does IO. What a command is for goes to standard output, what happens meanwhile to standard error.

mod cli;
mod push;

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};
use cli::{Cli, Command};

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Push(options) => push::run(&options),
        Command::Version => print(&format!("kubectl-livepatch {}\n", env!("CARGO_PKG_VERSION"))),
        Command::Completion { shell } => {
            let mut script = Vec::new();
            // The name of the program, not the one in its help: a shell completes what is typed.
            clap_complete::generate(shell, &mut Cli::command(), "kubectl-livepatch", &mut script);
            print(&String::from_utf8_lossy(&script))
        }
    }
}

/// Prints to standard output. A reader that has gone away has read what it wanted.
fn print(text: &str) -> ExitCode {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            note(&format!("error: cannot write to standard output: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Prints a line to standard error. There is nobody to tell if that fails.
fn note(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}
