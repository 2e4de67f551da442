//! First stage: what there is. Has the client: it settles writes whose outcome is unknown and reads the admission policies;
//! everything else comes from the watches.

use super::unsettled::Unsettled;
use crate::bundles::Library;
use crate::lease::term::Term;
use crate::limits::LimitsReader;
use crate::metrics::Metrics;
use crate::policies::Policies;
use crate::watch::Watches;
use crate::watch::seen::{NodeContent, NodeObjectContent, RolloutContent, Seen, SetContent};
use crate::watch::world::World;
use kube::Client;
use livepatch_planner::fleet::snapshot::{BundleView, Leave, Limits};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// For that long after a takeover nothing is decided until all is known: a status that only says so would be two writes.
const QUIET: Duration = Duration::from_secs(5);

/// Everything there is, as far as it changed since the last look.
#[derive(Debug)]
pub struct Look {
    /// All sets.
    pub sets: Vec<Arc<Seen<SetContent>>>,
    /// All rollouts.
    pub rollouts: Vec<Arc<Seen<RolloutContent>>>,
    /// The nodes that changed or whose NodeLivepatch did.
    pub nodes: Vec<NodeLook>,
    /// What is known of the artefact that each set names, by reference.
    pub bundles: BTreeMap<String, BundleView>,
    /// Whether grants may be given.
    pub leave: Leave,
    /// What holds for all sets together.
    pub limits: Limits,
    /// Whether to decide at all: not before all was seen once, and not right after a takeover.
    pub decide: bool,
}

/// A node that changed.
#[derive(Debug)]
pub struct NodeLook {
    /// Its name.
    pub name: String,
    /// The node, if it is there.
    pub node: Option<Arc<Seen<NodeContent>>>,
    /// Its NodeLivepatch, if it is there.
    pub object: Option<Arc<Seen<NodeObjectContent>>>,
}

/// Looks.
pub struct Fetch {
    client: Client,
    metrics: Metrics,
    world: Arc<World>,
    watches: Watches,
    library: Library,
    limits: LimitsReader,
    policies: Policies,
    /// Writes whose outcome is unknown.
    pub unsettled: Unsettled,
    synced: bool,
    news_since: Option<Instant>,
    stale_since: Option<Instant>,
}

impl Fetch {
    /// With what it reads from.
    pub fn new(
        client: Client,
        metrics: Metrics,
        world: Arc<World>,
        watches: Watches,
        library: Library,
        limits: LimitsReader,
    ) -> Self {
        Self {
            client,
            metrics,
            world,
            watches,
            library,
            limits,
            policies: Policies::default(),
            unsettled: Unsettled::default(),
            synced: false,
            news_since: None,
            stale_since: None,
        }
    }

    /// Everything there is.
    pub async fn look(&mut self, term: Option<&Term>) -> Look {
        self.unsettled.belong_to(term);
        if let Some(term) = term {
            self.watches.refresh(term.began());
            self.unsettled
                .settle(&self.client, &self.metrics, &self.world, term)
                .await;
            if self.policies.verdict().is_err() && self.policies.is_due() {
                self.look_at_policies().await;
            }
        } else {
            self.policies = Policies::default();
        }
        self.synced |= self.world.lock().complete_as_of().is_some();
        let leave = self.leave(term);
        let decide = self.may_decide(term);
        let (sets, rollouts, nodes) = self.read();
        Look {
            bundles: self.library.look_up(&references(&sets, &rollouts)),
            sets,
            rollouts,
            nodes,
            leave,
            limits: self.limits.limits(),
            decide,
        }
    }

    /// Reads the admission policies if they are not known to be there: before a grant is given.
    ///
    /// Whether something was read, so that it has to be decided again.
    pub async fn confirm_policies(&mut self) -> bool {
        let due = self.policies.is_due();
        if due {
            self.look_at_policies().await;
        }
        due
    }

    async fn look_at_policies(&mut self) {
        self.policies.look(&self.client).await;
    }

    /// Whether grants may be given now.
    pub fn leave(&self, term: Option<&Term>) -> Leave {
        let Some(term) = term else {
            return Leave::default();
        };
        if let Some(message) = self.unsettled.message() {
            return catching_up(message);
        }
        if !self.watches.is_fresh(term.began()) {
            let caches = self.world.lock();
            let trouble: Vec<&str> = caches.trouble.values().map(String::as_str).collect();
            let message = if trouble.is_empty() {
                "the operator is reading what there is".to_owned()
            } else {
                trouble.join("; ")
            };
            return catching_up(message);
        }
        match self.policies.verdict() {
            Ok(()) => Leave::Granted {
                epoch: term.epoch().to_owned(),
            },
            Err(error) => Leave::Withheld {
                reason: error.reason(),
                message: error.to_string(),
            },
        }
    }

    /// When to look again although nothing changes.
    pub fn look_again_in(&self) -> Option<Duration> {
        let policies = self.policies.verdict().is_err().then(|| self.policies.due_in());
        let quiet = self.stale_since.map(|since| QUIET.saturating_sub(since.elapsed()));
        let quiet = quiet.filter(|rest| !rest.is_zero());
        [policies, quiet, self.unsettled.due_in()].into_iter().flatten().min()
    }

    /// When the first of the changes came that the last look took in; `None` if none came.
    pub fn news_since(&self) -> Option<Instant> {
        self.news_since
    }

    /// Whether everything was seen once.
    pub fn is_synced(&self) -> bool {
        self.synced
    }

    fn may_decide(&mut self, term: Option<&Term>) -> bool {
        let Some(term) = term.filter(|_| self.synced) else {
            self.stale_since = None;
            return false;
        };
        if self.watches.is_fresh(term.began()) {
            self.stale_since = None;
            return true;
        }
        self.stale_since.get_or_insert_with(Instant::now).elapsed() >= QUIET
    }

    #[expect(
        clippy::type_complexity,
        reason = "three lists for one caller, which names them at once"
    )]
    fn read(
        &mut self,
    ) -> (
        Vec<Arc<Seen<SetContent>>>,
        Vec<Arc<Seen<RolloutContent>>>,
        Vec<NodeLook>,
    ) {
        let mut caches = self.world.lock();
        self.news_since = caches.news_since.take();
        let mut names = BTreeSet::new();
        // Not in parts: of the first look it is said since when what it shows has been so.
        if self.synced {
            names.append(&mut caches.nodes.take_changed());
            names.append(&mut caches.node_objects.take_changed());
        }
        let nodes = names
            .into_iter()
            .map(|name| NodeLook {
                node: caches.nodes.get(&name).cloned(),
                object: caches.node_objects.get(&name).cloned(),
                name,
            })
            .collect();
        (
            caches.sets.iter().cloned().collect(),
            caches.rollouts.iter().cloned().collect(),
            nodes,
        )
    }
}

/// The artefacts that sets and rollouts name. Those of the rollouts as well: what they hold tells whether there is a way
/// back.
pub fn references<'a>(
    sets: &'a [Arc<Seen<SetContent>>],
    rollouts: &'a [Arc<Seen<RolloutContent>>],
) -> BTreeSet<&'a str> {
    let present = sets
        .iter()
        .filter_map(|set| Some(&set.content.as_ref().ok()?.spec.template));
    let former = rollouts
        .iter()
        .filter_map(|rollout| Some(&rollout.content.as_ref().ok()?.spec.template));
    let templates = present.chain(former);
    templates
        .map(|template| template.source.oci.reference.as_str())
        .collect()
}

fn catching_up(message: String) -> Leave {
    Leave::Withheld {
        reason: "CatchingUp",
        message,
    }
}
