//! The command line: `run` is the agent of a node; the other commands are for a person on any Linux host.
//!
//! The commands stand on the libraries that the agent itself uses. What a command is for goes to standard output, what
//! happens meanwhile to standard error.

#![expect(clippy::doc_markdown, reason = "what is documented here is shown on a terminal")]

mod args;
mod check;
mod doctor;
mod exit;
mod host;
mod inspect;
mod interrupts;
mod load;
mod manual;
mod module_file;
mod output;
mod ownership;
mod progress;
mod result;
mod status;
mod text;
mod unload;
mod watch;

use std::error::Error;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use livepatch_artifact::RepositoryPrefix;

use crate::logging::Format;
pub use exit::Exit;

/// Makes one node's kernel match its NodeLivepatch.
///
/// `run` is the agent of a Kubernetes node. The other commands read, check and change the livepatches of any Linux host,
/// without Kubernetes.
#[derive(Debug, Parser)]
#[command(name = "livepatch-agent", version, propagate_version = true, max_term_width = 100, after_help = exit::TABLE)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the agent of this node.
    ///
    /// It watches the NodeLivepatch of its node. For each grant there it fetches the module from an allowed repository,
    /// reads the file itself, and loads it if it is what was granted, for this very kernel, and in nobody's way. It
    /// never unloads what it was not told to, and never writes force. RUST_LOG says what is logged (default: info).
    #[command(after_help = "\
To stop it on this node, without the API server:
  touch /etc/livepatch/stop          nothing new is begun while the file is there
  livepatch.stop=1                   the same, on the kernel command line
What is loaded stays loaded. From the cluster: kubectl label node NAME livepatch.dev/skip=true

Files in --state-dir:
  journal.json     what was granted, what was begun and how it ended
  store/*.ko       verified modules, for re-applying them after a reboot without registry and API server
  lock             one agent per host

Endpoints on --metrics-addr:
  /healthz  200 while the loop gets on
  /metrics  OpenMetrics

Files in --registry-config, all optional:
  config.json   credentials, as `docker login` writes them
  ca.crt        PEM certificates to trust besides those of the system
  mirrors.yaml  [{prefix: registry.example.com, endpoint: \"https://mirror.example.com\"}]")]
    Run(Run),
    /// Say what livepatch files are.
    ///
    /// Reads the ELF files, packed or not: kernel, format, replace flag and how it is known, patched functions,
    /// callbacks, klp_state, signature. Needs neither root nor a kernel with livepatching. In JSON and YAML one file
    /// gives one object, several give a list. A file that cannot be read is named on standard error, and the others are
    /// still answered.
    #[command(after_help = after(&[INSPECT_EXAMPLES, exit::TABLE]))]
    Inspect(args::Inspect),
    /// Say what this host's kernel runs.
    ///
    /// Livepatches with state, replace flag and functions; modules that are no longer in use; the transition that runs,
    /// with the tasks it waits for; settings that decide about loads; who holds the lock of this host. What cannot be
    /// seen is null in JSON and YAML, and listed with the reason under `unknown`. Tasks are seen by root only.
    #[command(after_help = exit::TABLE)]
    Status(args::Status),
    /// Say whether a livepatch would load here, and every reason why not.
    ///
    /// Looks at kernel release, architecture, signature policy, lockdown, symbols, other users of a function, the
    /// module's name, what it depends on, and the livepatches it would throw out or share functions with. Each finding
    /// has a reason code, a sentence, and what to do. Changes nothing.
    #[command(after_help = exit::TABLE)]
    Check(args::Check),
    /// Load a livepatch, and wait until it is in effect.
    ///
    /// The file is checked as `check` does, and one finit_module call is made of exactly the bytes that were checked.
    /// If the transition has not ended in time it is taken back, and what was in effect before is in effect again;
    /// force is never written. So it is on SIGINT, SIGTERM and SIGHUP, unless the transition ends first: then the
    /// livepatch is in effect, and that is what is told. A load is not remembered over a reboot.
    #[command(after_help = after(&[LOAD_EXAMPLES, LOCKS, exit::TABLE]))]
    Load(args::Load),
    /// Disable a livepatch, and remove its module.
    ///
    /// If the transition has not ended in time, or on SIGINT, SIGTERM and SIGHUP before its end, the livepatch is
    /// enabled again. After the end only the module is left to be removed, and that is done whatever signal comes. A
    /// module that is no longer in use is just removed.
    #[command(after_help = after(&[LOCKS, exit::TABLE]))]
    Unload(args::Unload),
    /// Follow a transition, with the tasks it waits for.
    ///
    /// On a terminal the picture is drawn again once a second until Ctrl-C; elsewhere each change is a line. In JSON
    /// each change is an object in a line of its own, in YAML a document. Needs root to see the tasks.
    #[command(after_help = exit::TABLE)]
    Watch(args::Watch),
    /// Say whether this host is fit for livepatches, and if not, why.
    ///
    /// Looks at the kernel's configuration and features, sysfs and /proc, the rights of this process, signature policy,
    /// lockdown and other settings, leftovers, other livepatch services, the switches that stop the agent, and the
    /// state directory. Changes nothing. Run it as root; as somebody else it sees less, and says what.
    #[command(after_help = exit::TABLE)]
    Doctor(args::Doctor),
    /// Print a completion script for a shell.
    #[command(after_help = COMPLETION_EXAMPLES)]
    Completion {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print a manual page, or write all of them.
    #[command(after_help = MAN_EXAMPLES)]
    Man {
        /// The command that the page is about; none is the program itself
        command: Option<String>,
        /// Write all pages into this folder
        #[arg(long, value_name = "DIR", conflicts_with = "command")]
        dir: Option<PathBuf>,
    },
}

const INSPECT_EXAMPLES: &str = "\
Examples:
  livepatch-agent inspect fix.ko
  livepatch-agent inspect -o json *.ko.xz | jq '.[] | {name, replace: .replace.value}'";

const LOAD_EXAMPLES: &str = "\
Examples:
  livepatch-agent load --dry-run fix.ko
  livepatch-agent load --timeout 90s fix.ko
  livepatch-agent load fix.ko -- mode=strict";

const LOCKS: &str = "\
One lock on the host:
  The agent holds --state-dir/lock for as long as it runs. Meanwhile nothing is changed here unless --despite-agent is
  given. Commands take the same lock; an agent that starts meanwhile waits for them.";

const COMPLETION_EXAMPLES: &str = "\
Examples:
  livepatch-agent completion bash > /usr/share/bash-completion/completions/livepatch-agent
  livepatch-agent completion zsh > \"${fpath[1]}/_livepatch-agent\"
  livepatch-agent completion fish > ~/.config/fish/completions/livepatch-agent.fish";

const MAN_EXAMPLES: &str = "\
Examples:
  livepatch-agent man load | man -l -
  livepatch-agent man --dir /usr/local/share/man/man8";

/// Parts of a help, a line apart.
fn after(parts: &[&str]) -> String {
    parts.join("\n\n")
}

/// Does what a command for a person is for.
pub fn host(command: Command) -> Exit {
    match command {
        Command::Inspect(options) => inspect::run(&options),
        Command::Status(options) => status::run(&options),
        Command::Check(options) => check::run(&options),
        Command::Load(options) => load::run(&options),
        Command::Unload(options) => unload::run(&options),
        Command::Watch(options) => watch::run(&options),
        Command::Doctor(options) => doctor::run(&options),
        Command::Completion { shell } => manual::completion(shell),
        Command::Man { command, dir } => manual::man(command.as_deref(), dir.as_deref()),
        // Needs a runtime and a TLS provider, which the others do without.
        Command::Run(_) => Exit::Usage,
    }
}

/// An error with its causes in one line, each text once.
fn causes(error: &(dyn Error + 'static)) -> String {
    let mut told = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        told = format!("{told}: {error}");
        cause = error.source();
    }
    told
}

/// An error with its reason code and its causes.
fn chain(reason: &str, error: &(dyn Error + 'static)) -> String {
    format!("{reason}: {}", causes(error))
}

#[derive(Debug, Args)]
pub struct Run {
    /// Name of this node, and so of its NodeLivepatch.
    #[arg(long, env = "NODE_NAME")]
    pub node_name: String,
    /// Namespace of the operator's Lease. A grant counts only under the leadership that the Lease shows.
    #[arg(long, env = "POD_NAMESPACE")]
    pub lease_namespace: String,
    /// Name of the operator's Lease.
    #[arg(long, default_value = "livepatch-operator")]
    pub lease_name: String,
    /// A registry, or a registry and the beginning of a path, from which modules are loaded, such as
    /// registry.example.com/livepatches. Repeat for more. Without any nothing new is loaded.
    #[arg(long = "allowed-repository", value_name = "PREFIX")]
    pub allowed_repositories: Vec<RepositoryPrefix>,
    /// Folder with credentials, certificates and mirrors for registries.
    #[arg(long, value_name = "DIR", default_value = "/etc/livepatch-registry")]
    pub registry_config: PathBuf,
    /// Address of /healthz and /metrics.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8081")]
    pub metrics_addr: SocketAddr,
    /// Journal, module store and lock; has to survive reboots.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/livepatch")]
    pub state_dir: PathBuf,
    /// The host's /sys/kernel/livepatch, writable. Not below /sys in a container: AppArmor denies writes there.
    #[arg(long, value_name = "DIR", default_value = "/host/livepatch")]
    pub livepatch_dir: PathBuf,
    /// The host's /proc.
    #[arg(long, value_name = "DIR", default_value = "/host/proc")]
    pub proc_dir: PathBuf,
    /// sysfs.
    #[arg(long, value_name = "DIR", default_value = "/sys")]
    pub sys_dir: PathBuf,
    /// The host's /lib/modules.
    #[arg(long, value_name = "DIR", default_value = "/lib/modules")]
    pub modules_dir: PathBuf,
    /// The host's /etc/livepatch, where a person says stop.
    #[arg(long, value_name = "DIR", default_value = "/etc/livepatch")]
    pub config_dir: PathBuf,
    /// How the log is written.
    #[arg(long, value_enum, default_value_t = Format::Json)]
    pub log_format: Format,
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
    fn parameters_come_after_two_dashes() {
        let parse = |words: &[&str]| Cli::try_parse_from([&["livepatch-agent", "load", "a.ko"], words].concat());
        let Command::Load(load) = parse(&["--timeout", "90s", "--", "mode=strict", "who=the world"])
            .unwrap()
            .command
        else {
            panic!("not a load");
        };
        assert_eq!(
            load.parameters().unwrap().to_str().unwrap(),
            "mode=strict who=\"the world\""
        );
        assert!(parse(&["mode=strict"]).is_err());
        assert!(parse(&["--", "strict"]).is_err());
    }
}
