//! Watches, and the objects as they show them. Does IO: reads only.
//!
//! What grants rest on must not be older than the leadership under which they are given. The first list of kube's watcher
//! is a consistent read (`ListSemantic::MostRecent`), so a watch that began with such a list, asked for after some moment,
//! has all that was written before that moment. Freshness therefore is a new list: asked for at a takeover, and after any
//! error of a watch. The alternative, to compare resource versions with those of a list of one object, would have to wait
//! for a bookmark where nothing changes, which comes once a minute and which kube's watcher does not show.

pub mod cache;
pub mod seen;
pub mod world;

use crate::api_error::words;
use crate::backoff::Backoff;
use cache::{Cache, Shown};
use futures::StreamExt;
use k8s_openapi::api::core::v1::Node;
use kube::core::DeserializeGuard;
use kube::discovery::ApiResource;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Resource};
use livepatch_crds::bounded::{MAX_MESSAGE, bounded};
use seen::{Content, NodeContent, NodeObjectContent, RolloutContent, Seen, SetContent};
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use world::{Caches, Kind, World};

const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
/// The same trouble is logged again after this time.
const LOG_AGAIN: Duration = Duration::from_mins(1);

/// The four watches.
#[derive(Debug)]
pub struct Watches {
    world: Arc<World>,
    fresh_since: watch::Sender<Instant>,
}

impl Watches {
    /// Starts them as tasks that end with `stop`.
    pub fn start(client: &Client, world: Arc<World>, stop: &CancellationToken, tasks: &mut JoinSet<()>) -> Self {
        let (fresh_since, refresh) = watch::channel(Instant::now());
        let nodes = Api::all_with(client.clone(), &ApiResource::erase::<Node>(&()));
        let task = |kind| Task {
            kind,
            world: Arc::clone(&world),
            refresh: refresh.clone(),
        };
        let stop = || stop.clone();
        tasks.spawn(
            stop()
                .run_until_cancelled_owned(task(Kind::Set).run::<SetContent>(Api::all(client.clone())))
                .map_done(),
        );
        tasks.spawn(
            stop()
                .run_until_cancelled_owned(task(Kind::Rollout).run::<RolloutContent>(Api::all(client.clone())))
                .map_done(),
        );
        tasks.spawn(
            stop()
                .run_until_cancelled_owned(task(Kind::NodeObject).run::<NodeObjectContent>(Api::all(client.clone())))
                .map_done(),
        );
        tasks.spawn(
            stop()
                .run_until_cancelled_owned(task(Kind::Node).run::<NodeContent>(nodes))
                .map_done(),
        );
        Self { world, fresh_since }
    }

    /// Asks for new lists of all that is not known to be complete as of `moment`.
    pub fn refresh(&self, moment: Instant) {
        self.fresh_since.send_if_modified(|asked| {
            let later = moment > *asked;
            *asked = moment.max(*asked);
            later
        });
    }

    /// Whether everything that was written before `moment` is known.
    pub fn is_fresh(&self, moment: Instant) -> bool {
        self.world.lock().complete_as_of().is_some_and(|as_of| as_of >= moment)
    }
}

/// Kinds that are watched into a cache.
trait Watched: Content {
    fn cache(caches: &mut Caches) -> &mut Cache<Self>;

    /// Whether an object that was written looks as it did before. Its version counts where it is the precondition of a
    /// write.
    fn is_as_before(_before: &Seen<Self>, _now: &Seen<Self>) -> bool {
        false
    }
}

impl Watched for SetContent {
    fn cache(caches: &mut Caches) -> &mut Cache<Self> {
        &mut caches.sets
    }
}

impl Watched for RolloutContent {
    fn cache(caches: &mut Caches) -> &mut Cache<Self> {
        &mut caches.rollouts
    }
}

impl Watched for NodeObjectContent {
    fn cache(caches: &mut Caches) -> &mut Cache<Self> {
        &mut caches.node_objects
    }
}

impl Watched for NodeContent {
    fn cache(caches: &mut Caches) -> &mut Cache<Self> {
        &mut caches.nodes
    }

    /// Kubelets write their nodes' statuses again and again, with times in them: some 50 a second from 15,000 nodes.
    fn is_as_before(before: &Seen<Self>, now: &Seen<Self>) -> bool {
        (&before.uid, before.deleting, &before.content) == (&now.uid, now.deleting, &now.content)
    }
}

/// One watch.
struct Task {
    kind: Kind,
    world: Arc<World>,
    refresh: watch::Receiver<Instant>,
}

impl Task {
    async fn run<T>(mut self, api: Api<DeserializeGuard<T::Object>>)
    where
        T: Watched,
        T::Object: DeserializeOwned + Debug,
        <T::Object as Resource>::DynamicType: Clone,
    {
        let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
        let mut logged: Option<(String, Instant)> = None;
        loop {
            let Some(error) = self.watch::<T>(&api, &mut backoff, &mut logged).await else {
                continue;
            };
            let trouble = bounded(&self.explain(&error), MAX_MESSAGE);
            let news = logged
                .as_ref()
                .is_none_or(|(last, at)| *last != trouble || at.elapsed() > LOG_AGAIN);
            if news {
                tracing::warn!(reason = "WatchFailed", resource = self.kind.resource(), "{trouble}");
                logged = Some((trouble.clone(), Instant::now()));
            }
            {
                let mut caches = self.world.lock();
                T::cache(&mut caches).lose();
                caches.trouble.insert(self.kind, trouble);
            }
            self.world.wake();
            tokio::time::sleep(backoff.pause()).await;
        }
    }

    /// Watches until there is an error, or until a fresher list is asked for (`None`).
    async fn watch<T>(
        &mut self,
        api: &Api<DeserializeGuard<T::Object>>,
        backoff: &mut Backoff,
        logged: &mut Option<(String, Instant)>,
    ) -> Option<watcher::Error>
    where
        T: Watched,
        T::Object: DeserializeOwned + Debug,
        <T::Object as Resource>::DynamicType: Clone,
    {
        let began = Instant::now();
        let mut stream = pin!(watcher(api.clone(), watcher::Config::default()));
        loop {
            let event = tokio::select! {
                biased;
                // An error means that nobody asks any more: the watch goes on until it is stopped.
                Ok(_) = self.refresh.wait_for(|asked| *asked > began) => return None,
                event = stream.next() => event?,
            };
            let shown = match event {
                Ok(Event::Init) => Shown::ListBegins,
                Ok(Event::InitApply(object)) => Shown::Listed(Seen::of_guarded(object)),
                Ok(Event::InitDone) => Shown::ListEnds,
                Ok(Event::Apply(object)) => Shown::Changed(Seen::of_guarded(object)),
                Ok(Event::Delete(object)) => Shown::Deleted(Seen::of_guarded(object)),
                Err(error) => return Some(error),
            };
            let complete = matches!(shown, Shown::ListEnds);
            let now = Instant::now();
            let news = {
                let mut caches = self.world.lock();
                let cache = T::cache(&mut caches);
                let shown = cache.without_news(shown, T::is_as_before);
                let news = !matches!(shown, Shown::ListBegins | Shown::Listed(_) | Shown::Touched(_));
                cache.show(shown, now);
                if complete {
                    caches.trouble.remove(&self.kind);
                }
                if news {
                    caches.news_since.get_or_insert(now);
                }
                news
            };
            if complete {
                backoff.reset();
                if logged.take().is_some() {
                    tracing::info!(resource = self.kind.resource(), "watching again");
                }
            }
            if news {
                self.world.wake();
            }
        }
    }

    fn explain(&self, error: &watcher::Error) -> String {
        let kind = self.kind;
        match error {
            watcher::Error::InitialListFailed(kube::Error::Api(status)) if status.code == 404 => format!(
                "the API server does not serve {kind}: are the custom resource definitions installed? It is tried again"
            ),
            watcher::Error::InitialListFailed(error) => format!("list {kind}: {}", words(error)),
            watcher::Error::WatchStartFailed(error) | watcher::Error::WatchFailed(error) => {
                format!("watch {kind}: {}", words(error))
            }
            error => format!("watch {kind}: {error}"),
        }
    }
}

/// The output of a task that is only waited for.
trait MapDone: Future + Sized {
    async fn map_done(self) {
        self.await;
    }
}

impl<F: Future> MapDone for F {}
