//! The page docs/kubectl-livepatch.md, made from the command line itself. No IO.

use std::fmt::Write as _;

use clap::Command;

const PREFACE: &str = "\
<!-- Written by `cargo xtask generate`. Edit kubectl-livepatch/src instead. -->
# kubectl livepatch

The plugin is one static program, `kubectl-livepatch`; kubectl finds it on the `PATH`. It needs no more than the API
server and the rights of the person: `livepatch-view` to look, `livepatch-promote` to steer (both are ClusterRoles of the
chart). `push`, `owners` and `cves` talk to the registry too.

Whoever steers a rollout writes `spec.control` of its LivepatchRollout and nothing else, so that GitOps, which owns the
LivepatchSet, never fights it. `kubectl patch` can do all of it; each command says what it writes. The plugin adds that
it looks first: what cannot be done is refused with the reason and with what to do instead (exit code 3), and a change is
only made to what was looked at (`metadata.resourceVersion`), with unknown fields refused. `--dry-run=server` lets the API
server check a change and stores nothing.

Output has no colour where it goes to no terminal, with `--no-color`, or with the environment variable `NO_COLOR`.
Text that comes from nodes never carries control characters to a terminal.

Exit codes, where a command does not say otherwise: 0 done, 1 failed, 2 the command line is wrong, 3 refused and nothing
was changed.
";

/// The page.
pub fn page(root: &mut Command) -> String {
    root.build();
    let mut page = PREFACE.to_owned();
    page.push_str("\n| command | what it does |\n|---|---|\n");
    let commands: Vec<&Command> = root
        .get_subcommands()
        .filter(|command| !command.is_hide_set() && command.get_name() != "help")
        .collect();
    for command in &commands {
        let name = command.get_name();
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        let _ = writeln!(page, "| [`{name}`](#{name}) | {about} |");
    }
    for command in commands {
        let help = (*command).clone().render_long_help().to_string();
        let help: Vec<&str> = help.lines().map(str::trim_end).collect();
        let _ = writeln!(
            page,
            "\n## {}\n\n```text\n{}\n```",
            command.get_name(),
            help.join("\n").trim()
        );
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;
    use clap::CommandFactory as _;

    #[test]
    fn the_page_is_what_the_command_line_says() {
        let committed = include_str!("../../docs/kubectl-livepatch.md");
        let page = page(&mut Cli::command());
        let differs = committed.lines().zip(page.lines()).find(|(one, other)| one != other);
        assert!(
            committed == page,
            "docs/kubectl-livepatch.md is not what `cargo xtask generate` writes: {differs:?}"
        );
    }
}
