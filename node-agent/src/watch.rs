//! The one watch of an agent: on its own object. IO.

use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use kube::core::DeserializeGuard;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt as _, watcher as watch_events};
use kube::{Api, Client};
use livepatch_crds::NodeLivepatch;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// What the watch last said of the object.
#[derive(Debug, Clone, Default)]
pub enum Desired {
    /// Nothing yet.
    #[default]
    Unknown,
    /// There is none.
    Absent,
    /// It is there, and this version cannot read it: an older agent and a newer API. Nothing follows from it.
    Unreadable,
    /// This.
    Object(Arc<NodeLivepatch>),
}

impl Desired {
    /// The object, if it is there and can be read.
    pub fn object(&self) -> Option<&Arc<NodeLivepatch>> {
        match self {
            Self::Object(object) => Some(object),
            Self::Unknown | Self::Absent | Self::Unreadable => None,
        }
    }
}

/// Watches until cancelled and keeps what was last seen in `desired`. While the API server is away that stays as it is.
pub async fn run(client: Client, node: &str, desired: watch::Sender<Desired>, cancel: CancellationToken) {
    let api: Api<DeserializeGuard<NodeLivepatch>> = Api::all(client);
    // Any replica's cache may answer the list: before something is begun the object is read again, from the source.
    let config = watcher::Config::default()
        .fields(&format!("metadata.name={node}"))
        .any_semantic();
    let events = watch_events(api, config).default_backoff();
    let events = std::pin::pin!(events);
    tokio::select! {
        () = follow(events, &desired) => {}
        () = cancel.cancelled() => {}
    }
}

async fn follow(
    mut events: impl Stream<Item = Result<Event<DeserializeGuard<NodeLivepatch>>, watcher::Error>> + Unpin,
    desired: &watch::Sender<Desired>,
) {
    let mut listed = Desired::Absent;
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => listed = Desired::Absent,
            Ok(Event::InitApply(object)) => listed = read(object),
            Ok(Event::InitDone) => {
                desired.send_replace(listed.clone());
            }
            Ok(Event::Apply(object)) => {
                desired.send_replace(read(object));
            }
            Ok(Event::Delete(_)) => {
                desired.send_replace(Desired::Absent);
            }
            Err(error) => tracing::warn!(reason = "WatchLost", "watch of the NodeLivepatch: {error}"),
        }
    }
    // The stream of a watcher has no end; should it have one, a loop around it must not spin.
    tokio::time::sleep(Duration::from_secs(1)).await;
}

fn read(object: DeserializeGuard<NodeLivepatch>) -> Desired {
    match object.0 {
        Ok(object) => Desired::Object(Arc::new(object)),
        Err(invalid) => {
            tracing::error!(
                reason = "ObjectUnreadable",
                "the NodeLivepatch cannot be read: {}",
                invalid.error
            );
            Desired::Unreadable
        }
    }
}
