//! kubectl plugin: push livepatches and follow rollouts.
//!
//! Does IO. What a command is for goes to standard output, what happens meanwhile to standard error.

mod cli;
mod cluster;
mod complete;
mod family;
mod live;
mod nodes;
mod options;
mod output;
mod push;
mod reference;
mod registry;
mod seen;
mod text;
mod verbs;
mod views;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};
use cli::{Cli, Command, Shell};
use output::print;

fn main() -> ExitCode {
    let command = match Cli::try_parse() {
        Ok(cli) => cli.command,
        Err(error) => return usage(&error),
    };
    match command {
        Command::Get(options) => views::get::run(&options),
        Command::List(options) => views::list::run(&options),
        Command::Status(options) => views::status::run(&options),
        Command::History(options) => views::history::run(&options),
        Command::Diff(options) => views::diff::run(&options),
        Command::Explain(options) => views::explain::run(&options),
        Command::Owners(options) => views::owners::run(&options),
        Command::Cves(options) => views::cves::run(&options),
        Command::Plan(options) => views::plan::run(&options),
        Command::Promote(options) => verbs::run(&options.write, |family| verbs::promote(family, &options)),
        Command::Pause(options) => verbs::run(&options.write, verbs::pause),
        Command::Abort(options) => verbs::run(&options.write, verbs::abort),
        Command::Undo(options) => verbs::run(&options.write, |family| {
            verbs::undo(family, options.to_revision.as_ref())
        }),
        Command::Exclude(options) => verbs::run(&options.write, |family| verbs::exclude(family, &options)),
        Command::Resume(options) => verbs::run(&options.write, verbs::resume),
        Command::Retry(options) => verbs::run(&options.write, verbs::retry),
        Command::Push(options) => push::run(&options),
        Command::Version => print(&format!("kubectl-livepatch {}\n", env!("CARGO_PKG_VERSION"))),
        Command::Reference => print(&reference::page(&mut Cli::command())),
        Command::Complete { words } => complete::run(&words),
        Command::Completion { shell } => completion(shell),
    }
}

fn completion(shell: Shell) -> ExitCode {
    let shell = match shell {
        Shell::Kubectl => return print(complete::KUBECTL_SCRIPT),
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Elvish => clap_complete::Shell::Elvish,
        Shell::Fish => clap_complete::Shell::Fish,
        Shell::Powershell => clap_complete::Shell::PowerShell,
        Shell::Zsh => clap_complete::Shell::Zsh,
    };
    let mut script = Vec::new();
    // The name of the program, not the one in its help: a shell completes what is typed.
    clap_complete::generate(shell, &mut Cli::command(), "kubectl-livepatch", &mut script);
    print(&String::from_utf8_lossy(&script))
}

/// A wrong command line, or a request for help. Exit code 2 means something else for `status` and `plan`.
fn usage(error: &clap::Error) -> ExitCode {
    // Nobody to tell if that fails.
    let _ = error.print();
    let verb = std::env::args_os().nth(1).unwrap_or_default();
    match (error.exit_code(), verb.to_str()) {
        (0, _) => ExitCode::SUCCESS,
        (_, Some("status")) => ExitCode::from(views::status::UNKNOWN),
        (_, Some("plan")) => ExitCode::from(views::plan::UNKNOWN),
        _ => ExitCode::from(2),
    }
}
