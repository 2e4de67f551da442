//! The command line. No IO.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use livepatch_artifact::PushTarget;

use crate::registry::RegistryOptions;
use crate::verbs::{
    AbortOptions, ExcludeOptions, PauseOptions, PromoteOptions, ResumeOptions, RetryOptions, UndoOptions,
};
use crate::views::cves::CvesOptions;
use crate::views::diff::DiffOptions;
use crate::views::explain::ExplainOptions;
use crate::views::get::GetOptions;
use crate::views::history::HistoryOptions;
use crate::views::list::ListOptions;
use crate::views::owners::OwnersOptions;
use crate::views::plan::PlanOptions;
use crate::views::status::StatusOptions;

/// Kernel livepatches on Kubernetes nodes.
#[derive(Debug, Parser)]
#[command(
    name = "kubectl livepatch",
    bin_name = "kubectl livepatch",
    version,
    max_term_width = 100
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    Get(GetOptions),
    #[command(about = "List the LivepatchSets, one line each")]
    List(ListOptions),
    Status(StatusOptions),
    History(HistoryOptions),
    Diff(DiffOptions),
    Explain(ExplainOptions),
    Owners(OwnersOptions),
    Cves(CvesOptions),
    Plan(PlanOptions),
    Promote(PromoteOptions),
    Pause(PauseOptions),
    Abort(AbortOptions),
    Undo(UndoOptions),
    Resume(ResumeOptions),
    Retry(RetryOptions),
    Exclude(ExcludeOptions),
    /// Check livepatch modules and push them to a registry as one artefact
    Push(PushOptions),
    /// Print the version
    Version,
    /// Print a completion script for a shell
    #[command(after_help = COMPLETION_EXAMPLES)]
    Completion {
        /// The shell, or kubectl for completion of `kubectl livepatch` itself
        #[arg(value_enum)]
        shell: Shell,
    },
    /// The page about all this, for docs/
    #[command(name = "__reference", hide = true)]
    Reference,
    /// What kubectl asks for
    #[command(name = "__complete", hide = true, disable_help_flag = true)]
    Complete {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<String>,
    },
}

/// For what a completion script is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Shell {
    Bash,
    Elvish,
    Fish,
    Powershell,
    Zsh,
    /// The program kubectl_complete-livepatch
    Kubectl,
}

const COMPLETION_EXAMPLES: &str = "\
Examples:
  # For kubectl livepatch, where kubectl itself is completed: a program on the PATH. It knows sets, waves and nodes too.
  kubectl livepatch completion kubectl > ~/.local/bin/kubectl_complete-livepatch
  chmod +x ~/.local/bin/kubectl_complete-livepatch

  # For kubectl-livepatch.
  kubectl livepatch completion bash > ~/.local/share/bash-completion/completions/kubectl-livepatch
  kubectl livepatch completion zsh > \"${fpath[1]}/_kubectl-livepatch\"
  kubectl livepatch completion fish > ~/.config/fish/completions/kubectl-livepatch.fish";

const PUSH_ABOUT: &str = "\
Check livepatch modules and push them to a registry as one artefact.

An artefact is one livepatch, built once for each kernel that your nodes run: give all its .ko files at once. Each file is
read and described; if any is not a livepatch, is damaged, or would serve the same kernel as another one, nothing is pushed.
What is printed is the reference by digest that a LivepatchSet names. The same files give the same digest.";

const PUSH_EXAMPLES: &str = "\
Examples:
  # One livepatch for two kernels. The tag is for people, nodes go by the digest that is printed.
  kubectl livepatch push registry.example.com/livepatches/nf-tables:2026-11 6.1/fix.ko 6.12/fix.ko

  # Bind the module to one build of vmlinux: another kernel of the same release is refused on the node.
  ssh node cat /sys/kernel/notes > notes
  kubectl livepatch push --kernel-notes notes registry.example.com/livepatches/nf-tables fix.ko

  # The same for several kernels.
  kubectl livepatch push --kernel-build-id 6.1.0-50-amd64=4c8b2f… --kernel-build-id 6.12.0-3-amd64=91d0aa… REF 6.1/fix.ko 6.12/fix.ko

  # A LivepatchSet to start from: look it over, adapt the selectors, apply it.
  kubectl livepatch push -o yaml --cve CVE-2026-12345 registry.example.com/livepatches/nf-tables fix.ko > set.yaml

Credentials and certificates:
  The registry folder (default $DOCKER_CONFIG or ~/.docker) may hold config.json as docker login writes it, and ca.crt with
  certificates to trust. Credential helpers are not run: config.json needs an entry with auth. HTTPS_PROXY and NO_PROXY are
  honoured.

Exit codes:
  0  pushed
  1  something else failed
  2  the command line is wrong
  3  a file was refused; nothing was pushed
  4  the registry refuses the credentials
  5  the registry is not available or did not store what was sent; try again";

#[derive(Debug, Args)]
#[command(about = "Check livepatch modules and push them to a registry as one artefact", long_about = PUSH_ABOUT, after_help = PUSH_EXAMPLES)]
pub struct PushOptions {
    /// GNU build id of the vmlinux that a module is for, in hex. With several FILEs say for which kernel release
    #[arg(long, value_name = "[RELEASE=]ID")]
    pub kernel_build_id: Vec<String>,

    /// Copy of /sys/kernel/notes of the kernel that a module is for, from which the build id is read
    #[arg(long, value_name = "[RELEASE=]FILE")]
    pub kernel_notes: Vec<String>,

    /// CVE that the livepatch fixes; may be given several times
    #[arg(long, value_name = "ID", value_delimiter = ',', value_parser = cve)]
    pub cve: Vec<String>,

    #[command(flatten)]
    pub registry: RegistryOptions,

    /// What to print: the reference, everything about the artefact, or a LivepatchSet
    #[arg(long, short, value_enum, default_value_t = Output::Text)]
    pub output: Output,

    /// No progress on standard error
    #[arg(long, short)]
    pub quiet: bool,

    /// Where to push: registry/repository[:tag]
    #[arg(value_name = "REF")]
    pub target: PushTarget,

    /// Livepatch modules: .ko, .ko.gz, .ko.xz or .ko.zst
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
}

fn cve(text: &str) -> Result<String, &'static str> {
    if livepatch_artifact::is_cve(text) {
        Ok(text.to_owned())
    } else {
        Err("a CVE id is CVE-<year>-<number>, such as CVE-2026-12345")
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// The reference by digest
    Text,
    /// Reference, modules and kernels
    Json,
    #[value(help = "A LivepatchSet to start from")]
    Yaml,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_reference_that_cannot_be_pushed_to_is_an_error_of_usage() {
        let parse = |reference| Cli::try_parse_from(["kubectl-livepatch", "push", reference, "a.ko"]);
        assert!(parse("registry.example.com/a:v1").is_ok());
        for wrong in [
            "a:v1",
            "team/a",
            "registry.example.com/a@sha256:00",
            "https://registry.example.com/a",
        ] {
            let error = parse(wrong).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            assert!(error.to_string().contains("registry"), "{error}");
        }
    }
}
