//! The command line.

#![expect(clippy::doc_markdown, reason = "what is documented here is shown on a terminal")]

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use livepatch_artifact::RepositoryPrefix;

use crate::logging::Format;

/// Makes one node's kernel match its NodeLivepatch.
#[derive(Debug, Parser)]
#[command(name = "livepatch-agent", version, propagate_version = true)]
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
