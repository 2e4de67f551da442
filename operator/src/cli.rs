//! The command line.

use crate::api_error::words;
use crate::bundles::registry::Registry;
use crate::clients::Clients;
use crate::lease::evaluate::Timing;
use crate::logging::{self, Format};
use crate::operator::{Operator, Settings};
use crate::server;
use anyhow::{Context, anyhow};
use clap::{Args, Parser, Subcommand};
use livepatch_artifact::{AllowedRepositories, Puller, RepositoryPrefix};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

/// Rolls kernel livepatches out over the nodes of a Kubernetes cluster.
///
/// A LivepatchSet says which nodes get which livepatch. This program makes a LivepatchRollout of each revision of it,
/// reads the OCI artefact that it names, and grants it node by node and wave by wave in NodeLivepatch objects, on which
/// the agents of the nodes act. It never touches a node itself.
#[derive(Debug, Parser)]
#[command(name = "livepatch-operator", version, propagate_version = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the operator.
    ///
    /// Two or more may run: one leads, by a Lease, the others watch and take over within 20 seconds. It talks to the API
    /// server of its pod, or to that of KUBECONFIG. The variable `RUST_LOG` says what is logged (default: info).
    #[command(after_help = "\
Endpoints on --metrics-addr:
  /healthz  200 while the reconcile loop gets on
  /readyz   200 once all watches have shown what there is
  /metrics  OpenMetrics: livepatch_nodes, livepatch_failures, livepatch_grants, livepatch_leader and others

Files in --registry-config, all optional, read again when they change:
  config.json   credentials, as `docker login` writes them
  ca.crt        PEM certificates to trust besides those of the system
  mirrors.yaml  [{prefix: registry.example.com, endpoint: \"https://mirror.example.com\"}]

No grant is given while the ValidatingAdmissionPolicies of the chart are not there and bound: without them a stolen
agent token could speak for other nodes.")]
    Run(Run),
}

#[derive(Debug, Args)]
struct Run {
    /// Namespace of the Lease: that of this pod.
    #[arg(long, env = "POD_NAMESPACE")]
    namespace: String,
    /// Name of this pod, for the Lease and for events. A random part is added, since it outlives its containers.
    #[arg(long, env = "POD_NAME", default_value = "livepatch-operator")]
    pod_name: String,
    /// Name of the Lease by which one replica leads. The agents are told the same.
    #[arg(long, default_value = "livepatch-operator")]
    lease_name: String,
    /// A registry, or a registry and the beginning of a path, from which artefacts are read, such as
    /// registry.example.com/livepatches. Repeat for more. Without any no artefact is read.
    #[arg(long = "allowed-repository", value_name = "PREFIX")]
    allowed_repositories: Vec<RepositoryPrefix>,
    /// Folder with credentials, certificates and mirrors for registries.
    #[arg(long, value_name = "DIR", default_value = "/etc/livepatch-operator/registry")]
    registry_config: PathBuf,
    /// Address of /healthz, /readyz and /metrics.
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:8080")]
    metrics_addr: SocketAddr,
    /// Name of a config map in the namespace, read every few seconds, that may hold `maxInFlight`, the most nodes in
    /// flight over all sets, and `freeze`, a reason for which nothing is begun on any node.
    #[arg(long, value_name = "NAME")]
    limits_config_map: Option<String>,
    /// How the log is written.
    #[arg(long, value_enum, default_value_t = Format::Json)]
    log_format: Format,
}

impl Cli {
    /// Does what the command line says.
    ///
    /// # Errors
    /// What keeps the operator from starting. What comes later it waits out.
    pub async fn run(self) -> anyhow::Result<()> {
        match self.command {
            Command::Run(run) => run.run().await,
        }
    }
}

impl Run {
    async fn run(self) -> anyhow::Result<()> {
        logging::start(self.log_format);
        // Before anything else, so that a stop during the start is not missed.
        let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
        if self.allowed_repositories.is_empty() {
            tracing::warn!(
                reason = "NoRepositoryAllowed",
                "no artefact will be read: name the allowed ones with --allowed-repository"
            );
        }
        let allowed = AllowedRepositories::new(self.allowed_repositories);
        let puller = Puller::from_folder(&self.registry_config, allowed).context("read --registry-config")?;
        let config = kube::Config::infer().await;
        // Its Display has the sources' text in it.
        let config = config.map_err(|error| anyhow!("find the API server: {error}"))?;
        let clients =
            Clients::new(config).map_err(|error| anyhow!("make a client of the API server: {}", words(&error)))?;
        let listener = TcpListener::bind(self.metrics_addr)
            .await
            .with_context(|| format!("listen on {}", self.metrics_addr))?;
        let identity = format!("{}_{:016x}", self.pod_name, fastrand::u64(..));
        tracing::info!(identity, version = env!("CARGO_PKG_VERSION"), "starting");
        let mut operator = Operator::start(Settings {
            clients,
            namespace: self.namespace,
            lease_name: self.lease_name,
            identity,
            timing: Timing::default(),
            source: Arc::new(Registry::new(puller)),
            limits: self.limits_config_map,
        });
        let serving = server::serve(listener, operator.health().clone(), operator.metrics().clone());
        tokio::select! {
            _ = terminate.recv() => tracing::info!("SIGTERM: stopping"),
            _ = interrupt.recv() => tracing::info!("SIGINT: stopping"),
            served = serving => served.context("serve /healthz, /readyz and /metrics")?,
            () = operator.ended() => anyhow::bail!("a part of the operator ended by itself"),
        }
        operator.stop().await;
        tracing::info!("stopped");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_repository_prefix_is_checked_at_the_start() {
        let parse = |prefix| {
            Cli::try_parse_from([
                "livepatch-operator",
                "run",
                "--namespace=x",
                "--allowed-repository",
                prefix,
            ])
        };
        assert!(parse("registry.example.com/livepatches").is_ok());
        assert!(parse("https://registry.example.com").is_err());
    }
}
