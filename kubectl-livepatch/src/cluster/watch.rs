//! Following a set as it changes. Does IO.

use std::fmt::Debug;
use std::pin::Pin;

use futures::stream::{self, BoxStream, Stream, StreamExt as _};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, ResourceExt as _};
use livepatch_crds::{LivepatchRollout, LivepatchSet, NodeLivepatch, SET_LABEL};
use serde::de::DeserializeOwned;

use crate::options::SetName;

/// Something that became known.
#[derive(Debug)]
pub enum Change {
    /// A set is as said, or gone.
    Set(String, Option<Box<LivepatchSet>>),
    /// A rollout is as said, or gone.
    Rollout(String, Option<Box<LivepatchRollout>>),
    /// A node's object is as said, or gone.
    Node(String, Option<Box<NodeLivepatch>>),
    /// One of the watches begins anew: what it told before may be gone.
    Anew(Kind),
    /// One of the watches has told everything there is at present.
    Known(Kind),
    /// A watch failed and is tried again.
    Trouble(String),
}

/// What a watch is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// `LivepatchSet`.
    Sets,
    /// `LivepatchRollout`.
    Rollouts,
    /// `NodeLivepatch`.
    Nodes,
}

/// Everything that changes, as it comes; it never ends by itself.
pub struct Changes {
    stream: Pin<Box<dyn Stream<Item = Change> + Send>>,
}

impl Changes {
    pub(super) fn start(client: &Client, name: Option<&SetName>, kinds: &[Kind]) -> Self {
        let config = watcher::Config::default;
        let streams = kinds.iter().map(|kind| match kind {
            Kind::Sets => {
                let set = name.map_or_else(config, |name| config().fields(&format!("metadata.name={name}")));
                watch::<LivepatchSet>(client, set, *kind, Change::Set)
            }
            Kind::Rollouts => {
                let of_set = name.map_or_else(config, |name| config().labels(&format!("{SET_LABEL}={name}")));
                watch::<LivepatchRollout>(client, of_set, *kind, Change::Rollout)
            }
            Kind::Nodes => watch::<NodeLivepatch>(client, config(), *kind, Change::Node),
        });
        Self {
            stream: stream::select_all(streams).boxed(),
        }
    }

    /// The next change.
    pub async fn next(&mut self) -> Option<Change> {
        self.stream.next().await
    }
}

fn watch<K>(
    client: &Client,
    config: watcher::Config,
    kind: Kind,
    told: fn(String, Option<Box<K>>) -> Change,
) -> BoxStream<'static, Change>
where
    K: kube::Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    watcher(Api::<K>::all(client.clone()), config)
        .default_backoff()
        .map(move |event| match event {
            Ok(watcher::Event::Apply(object) | watcher::Event::InitApply(object)) => {
                told(object.name_any(), Some(Box::new(object)))
            }
            Ok(watcher::Event::Delete(object)) => told(object.name_any(), None),
            Ok(watcher::Event::Init) => Change::Anew(kind),
            Ok(watcher::Event::InitDone) => Change::Known(kind),
            Err(error) => Change::Trouble(error.to_string()),
        })
        .boxed()
}
