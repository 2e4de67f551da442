//! The operator as a whole: what runs, and in which order it ends.

use crate::bundles::{BundleSource, Library};
use crate::clients::Clients;
use crate::events::Events;
use crate::health::Health;
use crate::lease::Keeper;
use crate::lease::evaluate::Timing;
use crate::limits::LimitsReader;
use crate::metrics::Metrics;
use crate::reconcile::Reconciler;
use crate::reconcile::fetch::Fetch;
use crate::reconcile::report::Report;
use crate::reconcile::validate::View;
use crate::watch::Watches;
use crate::watch::world::World;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// After the stop, what is under way gets that long. The lease is given up meanwhile: grants of a former term are void.
const ENDING: Duration = Duration::from_secs(2);

/// What an operator is made of.
pub struct Settings {
    /// The API server.
    pub clients: Clients,
    /// Namespace of the lease.
    pub namespace: String,
    /// Name of the lease.
    pub lease_name: String,
    /// Who this is: unique for each process, since a container restart keeps its host name.
    pub identity: String,
    /// Times of the lease.
    pub timing: Timing,
    /// Where artefacts come from.
    pub source: Arc<dyn BundleSource>,
    /// Name of the `ConfigMap` with the limits over all sets, in the same namespace; without it there are none.
    pub limits: Option<String>,
}

/// A running operator.
#[derive(Debug)]
pub struct Operator {
    metrics: Metrics,
    health: Health,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl Operator {
    /// Starts it, on the current runtime.
    pub fn start(settings: Settings) -> Self {
        let Settings {
            clients,
            namespace,
            lease_name,
            identity,
            timing,
            source,
            limits,
        } = settings;
        let (metrics, health, stop) = (Metrics::default(), Health::default(), CancellationToken::new());
        let world = Arc::new(World::default());
        let stop_of_limits = stop.clone();
        let mut tasks = JoinSet::new();
        let watches = Watches::start(&clients.main, Arc::clone(&world), &stop, &mut tasks);
        let library = Library::new(source, Arc::clone(&world), metrics.clone(), stop.clone());
        let (keeper, terms) = Keeper::new(clients.lease, &namespace, &lease_name, &identity, timing);
        tasks.spawn(keeper.run(stop.clone()));
        let client = clients.main;
        let limits = match limits {
            None => LimitsReader::unlimited(),
            Some(name) => {
                let reader = LimitsReader::unread();
                let run = reader.clone().run(client.clone(), namespace, name, Arc::clone(&world));
                tasks.spawn(async move { _ = stop_of_limits.run_until_cancelled_owned(run).await });
                reader
            }
        };
        let reconciler = Reconciler {
            fetch: Fetch::new(
                client.clone(),
                metrics.clone(),
                Arc::clone(&world),
                watches,
                library,
                limits,
            ),
            view: View::default(),
            report: Report::new(Events::new(client.clone(), &identity)),
            client,
            metrics: metrics.clone(),
            health: health.clone(),
            world,
            terms,
            stop: stop.clone(),
        };
        tasks.spawn(reconciler.run());
        Self {
            metrics,
            health,
            stop,
            tasks,
        }
    }

    /// What Prometheus reads.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// What probes ask.
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// Waits until a part of it ends, which none does by itself.
    pub async fn ended(&mut self) {
        self.tasks.join_next().await;
    }

    /// Ends it: no more writes are begun, the lease is given up.
    pub async fn stop(mut self) {
        self.stop.cancel();
        let ended = timeout(ENDING, async { while self.tasks.join_next().await.is_some() {} });
        if ended.await.is_err() {
            tracing::warn!(
                reason = "SlowStop",
                "some requests were not answered; they are left behind"
            );
        }
    }

    /// Ends it as a crash would: nothing is given up.
    pub fn kill(mut self) {
        self.tasks.abort_all();
        self.stop.cancel();
    }
}
