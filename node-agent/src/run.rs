//! `livepatch-agent run`: puts an agent together from its flags and lets it work until SIGTERM. IO.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::http::HeaderValue;
use axum::http::header::USER_AGENT;
use kube::Client;
use livepatch_agent::cluster::MANAGER;
use livepatch_agent::health::Health;
use livepatch_agent::lock::HostLock;
use livepatch_agent::metrics::Metrics;
use livepatch_agent::source::Registry;
use livepatch_agent::stop::StopSwitches;
use livepatch_agent::{Agent, Parts, Settings, Times, durable, serve};
use livepatch_artifact::{AllowedRepositories, Puller};
use livepatch_kernel::{Host, LinuxKernel};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::cli::Run;

/// A watch is ended by the API server after less than five minutes; one that is silent for longer is dead.
const SILENCE: Duration = Duration::from_secs(310);

/// Interval of asking for the lock that another agent of this host holds.
const LOCK: Duration = Duration::from_secs(1);

/// Works until SIGTERM or SIGINT.
pub async fn run(flags: Run) -> anyhow::Result<()> {
    // Before anything else, so that a stop during the start is not missed.
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    let leave = CancellationToken::new();
    tokio::spawn({
        let leave = leave.clone();
        async move {
            tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
            tracing::info!("stopping: a transition that runs is left to the next agent");
            leave.cancel();
        }
    });
    let health = Health::default();
    let mut registry = prometheus_client::registry::Registry::default();
    let metrics = Metrics::registered(&mut registry);
    let listener = TcpListener::bind(flags.metrics_addr)
        .await
        .with_context(|| format!("listen on {}", flags.metrics_addr))?;
    let serving = tokio::spawn(serve::serve(listener, health.clone(), registry));

    durable::directory(&flags.state_dir).with_context(|| format!("make {}", flags.state_dir.display()))?;
    let Some(lock) = take_lock(&flags.state_dir, &health, &leave).await? else {
        return Ok(());
    };
    let agent = agent(flags, health, metrics, leave.clone()).await?;
    agent.run().await;
    serving.abort();
    drop(lock);
    Ok(())
}

/// Waits until no other agent works on this host; `None` if told to leave meanwhile.
async fn take_lock(state: &Path, health: &Health, leave: &CancellationToken) -> anyhow::Result<Option<HostLock>> {
    let mut said = false;
    loop {
        if let Some(lock) = HostLock::try_take(state).with_context(|| format!("lock {}", state.display()))? {
            return Ok(Some(lock));
        }
        if !said {
            tracing::info!(
                reason = "LockHeld",
                "another agent works on this host: waiting until it ends"
            );
            said = true;
        }
        health.beat();
        tokio::select! {
            () = leave.cancelled() => return Ok(None),
            () = tokio::time::sleep(LOCK) => {}
        }
    }
}

async fn agent(flags: Run, health: Health, metrics: Metrics, leave: CancellationToken) -> anyhow::Result<Agent> {
    if flags.allowed_repositories.is_empty() {
        tracing::warn!(
            reason = "NoRepositoryAllowed",
            "nothing new will be loaded: name the allowed repositories with --allowed-repository"
        );
    }
    let allowed = AllowedRepositories::new(flags.allowed_repositories);
    let puller = Puller::from_folder(&flags.registry_config, allowed).context("read --registry-config")?;
    let kernel = LinuxKernel::open(Host {
        livepatch: flags.livepatch_dir,
        proc: flags.proc_dir.clone(),
        sys: flags.sys_dir,
        modules: flags.modules_dir,
        real: true,
    })
    .context("look at the kernel")?;
    let settings = Settings {
        node: flags.node_name,
        lease_namespace: flags.lease_namespace,
        lease_name: flags.lease_name,
        state: flags.state_dir,
        stop: StopSwitches {
            config: flags.config_dir,
            proc: flags.proc_dir,
        },
        times: Times::default(),
    };
    tracing::info!(node = %settings.node, version = livepatch_agent::status::VERSION, "starting");
    let parts = Parts {
        settings,
        client: client().await?,
        kernel: Arc::new(kernel),
        source: Arc::new(Registry::new(Arc::new(puller))),
        metrics,
        health,
    };
    Agent::new(parts, leave).context("open the module store")
}

/// A client that does not retry by itself: what is tried again, and when, is decided where it is known what it means.
async fn client() -> anyhow::Result<Client> {
    let mut config = kube::Config::infer().await.context("find the API server")?;
    config.default_retry = false;
    config.connect_timeout = Some(Duration::from_secs(10));
    config.read_timeout = Some(SILENCE);
    let agent = HeaderValue::from_str(&format!("{MANAGER}/{}", livepatch_agent::status::VERSION))?;
    config.headers.push((USER_AGENT, agent));
    Client::try_from(config).context("make a client of the API server")
}
