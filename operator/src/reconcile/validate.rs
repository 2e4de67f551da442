//! Second stage: what there is, in the planner's terms; bad objects are sorted out here. Pure.

use super::fetch::{Look, NodeLook};
use crate::watch::seen::{RolloutContent, Seen, SetContent};
use crate::watch::world::Kind;
use jiff::Timestamp;
use livepatch_crds::bounded::{MAX_ENTRY_MESSAGE, bounded};
use livepatch_crds::node::Grant;
use livepatch_planner::fleet::observations::Looked;
use livepatch_planner::fleet::snapshot::{BundleView, Leave, NodeObject, NodeView, RolloutView, SetView, Snapshot};
use livepatch_planner::fleet::{Decision, Index, Observations, rollback};
use std::collections::{BTreeMap, BTreeSet};

/// What the operator knows, from one look to the next.
#[derive(Debug, Default)]
pub struct View {
    snapshot: Snapshot,
    observations: Observations,
    versions: Versions,
    unreadable: BTreeMap<(Kind, String), String>,
    inherited: Inherited,
    index: Index,
    /// Nodes that changed since the last decision.
    changed: BTreeSet<String>,
}

/// Grants of former leaderships that were there when the present one began: agents may have begun with those. Others were
/// on their way, and are late.
#[derive(Debug, Default)]
struct Inherited {
    epoch: String,
    grants: BTreeSet<(String, GrantId)>,
}

/// What tells a grant from every other of its node: the set's UID, the epoch, the rollout, its start and the attempt.
type GrantId = (String, String, String, i64, i32);

fn id(grant: &Grant) -> GrantId {
    let (set, epoch, rollout) = (grant.set.uid.clone(), grant.epoch.clone(), grant.rollout.clone());
    (set, epoch, rollout, grant.start, grant.attempt)
}

impl Inherited {
    /// Everything that is there at the beginning of a term.
    fn of(epoch: &str, nodes: &BTreeMap<String, NodeView>) -> Self {
        let grants = nodes.values().flat_map(|node| {
            let of_former = grants(node).filter(|grant| grant.epoch != epoch);
            of_former.map(|grant| (node.uid.clone(), id(grant)))
        });
        Self {
            epoch: epoch.to_owned(),
            grants: grants.collect(),
        }
    }

    /// The sets whose grants on a node came later.
    fn late(&self, node: &NodeView) -> BTreeSet<String> {
        let late = |grant: &&Grant| {
            let of_former = !self.epoch.is_empty() && grant.epoch != self.epoch;
            of_former && !self.grants.contains(&(node.uid.clone(), id(grant)))
        };
        grants(node).filter(late).map(|grant| grant.set.uid.clone()).collect()
    }
}

fn grants(node: &NodeView) -> impl Iterator<Item = &Grant> {
    node.object.iter().flat_map(|object| &object.spec.livepatches)
}

/// The objects on which a decision rests: the precondition of what is written to them.
#[derive(Clone, Debug, Default)]
pub struct Versions {
    /// Sets by name.
    pub sets: BTreeMap<String, Version>,
    /// Rollouts by name.
    pub rollouts: BTreeMap<String, Version>,
}

/// An object at one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// UID.
    pub uid: String,
    /// resourceVersion.
    pub version: u64,
}

impl Version {
    fn of<T>(seen: &Seen<T>) -> Self {
        Self {
            uid: seen.uid.clone(),
            version: seen.version,
        }
    }
}

impl View {
    /// Takes in a look. Nodes which did not change stay as they were.
    pub fn take_in(&mut self, look: Look, now: Timestamp) {
        let Look {
            sets,
            rollouts,
            nodes,
            bundles,
            leave,
            limits,
            decide: _,
        } = look;
        self.snapshot.limits = limits;
        self.unreadable
            .retain(|(kind, _), _| matches!(kind, Kind::Node | Kind::NodeObject));
        self.versions = Versions::default();
        let mut by_set: BTreeMap<String, Vec<RolloutView>> = BTreeMap::new();
        for rollout in &rollouts {
            if let Some(content) = self.readable(Kind::Rollout, rollout) {
                self.versions
                    .rollouts
                    .insert(rollout.name.clone(), Version::of(rollout));
                let view = rollout_view(rollout, content);
                by_set.entry(content.set.clone()).or_default().push(view);
            }
        }
        self.snapshot.sets.clear();
        for set in &sets {
            if let Some(content) = self.readable(Kind::Set, set) {
                self.versions.sets.insert(set.name.clone(), Version::of(set));
                let bundle = bundles.get(&content.spec.template.source.oci.reference);
                let rollouts = by_set.remove(&set.name).unwrap_or_default();
                let mut view = set_view(set, content, bundle.cloned().unwrap_or_default(), rollouts);
                let former = rollback::former(&view).map(|rollout| &rollout.template.source.oci.reference);
                view.former = former.map(|reference| bundles.get(reference).cloned().unwrap_or_default());
                self.snapshot.sets.push(view);
            }
        }
        let changed: Vec<String> = nodes.iter().map(|look| look.name.clone()).collect();
        for node in nodes {
            self.take_in_node(node);
        }
        let nodes = &mut self.snapshot.nodes;
        let looked = self
            .observations
            .observe_changed(nodes, &changed, &self.snapshot.sets, now);
        if looked == Looked::AtAll {
            self.changed.extend(nodes.keys().cloned());
        }
        for name in changed {
            if let Some(node) = nodes.get_mut(&name) {
                node.late = self.inherited.late(node);
            }
            self.changed.insert(name);
        }
        self.give_leave(leave);
    }

    /// Whether grants may be given. Not while there is an object which cannot be read: its grants would not be counted.
    pub fn give_leave(&mut self, leave: Leave) {
        self.snapshot.leave = match (leave, self.unreadable.first_key_value()) {
            (Leave::Granted { .. }, Some(((kind, name), error))) => Leave::Withheld {
                reason: "UnreadableObject",
                message: format!(
                    "{kind}/{name} cannot be read, as {} objects in all: {error}",
                    self.unreadable.len()
                ),
            },
            (leave, _) => leave,
        };
        self.inherit();
    }

    /// When a term begins, everything that is there is inherited.
    fn inherit(&mut self) {
        if let Leave::Granted { epoch } = &self.snapshot.leave
            && *epoch != self.inherited.epoch
        {
            self.inherited = Inherited::of(epoch, &self.snapshot.nodes);
            for (name, node) in &mut self.snapshot.nodes {
                if !node.late.is_empty() {
                    node.late.clear();
                    self.changed.insert(name.clone());
                }
            }
        }
    }

    /// What to write next, as far as it rests on what the planner may know.
    pub fn decide(&mut self, now: Timestamp) -> Decision {
        let changed = std::mem::take(&mut self.changed);
        self.index.decide(&self.snapshot, &changed, now)
    }

    /// What the planner may know.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// The objects as they were seen.
    pub fn versions(&self) -> &Versions {
        &self.versions
    }

    /// Whether every object could be read. If not, what is missing in the snapshot may be there all the same.
    pub fn is_whole(&self) -> bool {
        self.unreadable.is_empty()
    }

    fn readable<'a, T>(&mut self, kind: Kind, seen: &'a Seen<T>) -> Option<&'a T> {
        match &seen.content {
            Ok(content) => Some(content),
            Err(error) => {
                let key = (kind, seen.name.clone());
                let error = bounded(error, MAX_ENTRY_MESSAGE);
                if self.unreadable.insert(key, error.clone()).is_none() {
                    tracing::error!(
                        reason = "UnreadableObject",
                        resource = kind.resource(),
                        name = seen.name,
                        "{error}"
                    );
                }
                None
            }
        }
    }

    fn take_in_node(&mut self, look: NodeLook) {
        let NodeLook { name, node, object } = look;
        self.unreadable.remove(&(Kind::Node, name.clone()));
        self.unreadable.remove(&(Kind::NodeObject, name.clone()));
        let node = node.as_deref();
        let content = node.and_then(|node| self.readable(Kind::Node, node));
        let Some((node, content)) = node.zip(content).filter(|(_, content)| content.linux) else {
            self.snapshot.nodes.remove(&name);
            return;
        };
        let object = object
            .as_deref()
            .map(|object| match self.readable(Kind::NodeObject, object) {
                Some(content) => NodeObject {
                    uid: object.uid.clone(),
                    resource_version: object.version.to_string(),
                    generation: object.generation,
                    deleting: object.deleting,
                    spec: content.spec.clone(),
                    status: content.status.clone(),
                },
                // As one that is being deleted: not to be touched, and nothing is known of it.
                None => NodeObject {
                    uid: object.uid.clone(),
                    resource_version: object.version.to_string(),
                    generation: object.generation,
                    deleting: true,
                    ..NodeObject::default()
                },
            });
        let mut view = NodeView {
            uid: node.uid.clone(),
            labels: content.labels.clone(),
            boot_id: content.boot_id.clone(),
            ready: content.ready,
            object,
            late: BTreeSet::new(),
            effective_since: BTreeMap::new(),
        };
        if let Some(before) = self
            .snapshot
            .nodes
            .remove(&name)
            .filter(|before| before.uid == view.uid)
        {
            view.effective_since = before.effective_since;
        }
        self.snapshot.nodes.insert(name, view);
    }
}

fn set_view(seen: &Seen<SetContent>, content: &SetContent, bundle: BundleView, rollouts: Vec<RolloutView>) -> SetView {
    SetView {
        name: seen.name.clone(),
        uid: seen.uid.clone(),
        generation: seen.generation,
        created: seen.created,
        deleting: seen.deleting,
        spec: content.spec.clone(),
        status: content.status.clone(),
        bundle,
        former: None,
        rollouts,
    }
}

fn rollout_view(seen: &Seen<RolloutContent>, content: &RolloutContent) -> RolloutView {
    RolloutView {
        name: seen.name.clone(),
        set_uid: content.spec.set_uid.clone(),
        generation: seen.generation,
        created: seen.created,
        deleting: seen.deleting,
        template: content.spec.template.clone(),
        control: content.spec.control.clone(),
        status: content.status.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::seen::{NodeContent, NodeObjectContent};
    use livepatch_crds::node::{NodeLivepatchSpec, NodeLivepatchStatus};
    use livepatch_planner::fleet::snapshot::Limits;
    use std::sync::Arc;

    fn seen<T>(name: &str, content: Result<T, String>) -> Arc<Seen<T>> {
        Arc::new(Seen {
            name: name.to_owned(),
            uid: format!("uid of {name}"),
            version: 7,
            generation: 1,
            created: Timestamp::UNIX_EPOCH,
            deleting: false,
            content,
        })
    }

    fn node(linux: bool) -> NodeContent {
        NodeContent {
            labels: BTreeMap::new(),
            boot_id: "boot".to_owned(),
            ready: true,
            linux,
        }
    }

    fn object() -> NodeObjectContent {
        let spec = NodeLivepatchSpec {
            node_uid: "uid of a".to_owned(),
            ..NodeLivepatchSpec::default()
        };
        let status = NodeLivepatchStatus::default();
        NodeObjectContent { spec, status }
    }

    fn look(name: &str, node: Option<NodeContent>, object: Option<Result<NodeObjectContent, String>>) -> Look {
        Look {
            sets: Vec::new(),
            rollouts: Vec::new(),
            nodes: vec![NodeLook {
                name: name.to_owned(),
                node: node.map(|content| seen(name, Ok(content))),
                object: object.map(|content| seen(name, content)),
            }],
            bundles: BTreeMap::new(),
            leave: Leave::Granted {
                epoch: "lease/1".to_owned(),
            },
            limits: Limits::default(),
            decide: true,
        }
    }

    fn take(view: &mut View, look: Look) {
        view.take_in(look, Timestamp::UNIX_EPOCH);
    }

    #[test]
    fn only_what_changed_has_to_be_told() {
        let mut view = View::default();
        take(&mut view, look("a", Some(node(true)), Some(Ok(object()))));
        take(&mut view, look("b", Some(node(true)), None));
        let nodes = &view.snapshot().nodes;
        assert_eq!(nodes.keys().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(nodes["a"].object.as_ref().unwrap().resource_version, "7");
        assert!(nodes["b"].object.is_none());
        take(&mut view, look("a", None, Some(Ok(object()))));
        assert_eq!(view.snapshot().nodes.keys().collect::<Vec<_>>(), ["b"]);
    }

    #[test]
    fn a_node_that_does_not_run_linux_is_not_there() {
        let mut view = View::default();
        take(&mut view, look("a", Some(node(false)), None));
        assert!(view.snapshot().nodes.is_empty());
        take(&mut view, look("a", Some(node(true)), None));
        take(&mut view, look("a", Some(node(false)), None));
        assert!(view.snapshot().nodes.is_empty());
    }

    #[test]
    fn a_grant_of_a_former_leader_is_late_if_it_was_not_there_when_the_term_began() {
        let granted = |epoch: &str, attempt: i32| {
            let grant = serde_json::json!({
                "set": {"name": "fix", "uid": "set"}, "rollout": "fix-1", "wave": "rest", "epoch": epoch, "attempt": attempt,
                "state": "Loaded", "type": "OffBand", "bootID": "boot", "kernelTaints": "", "transitionTimeoutSeconds": 30,
                "module": {"name": "m", "repository": "r", "digest": "d", "sha256": "s", "buildID": "b", "kernelBuildID": "k"},
            });
            let mut object = object();
            object.spec.livepatches.push(serde_json::from_value(grant).unwrap());
            Some(Ok(object))
        };
        let mut view = View::default();
        let is_late = |view: &View, name: &str| view.snapshot().nodes[name].late.contains("set");
        take(&mut view, look("a", Some(node(true)), granted("lease/0", 1)));
        assert!(!is_late(&view, "a"), "it was there, and its agent may have begun");
        take(&mut view, look("b", Some(node(true)), granted("lease/0", 1)));
        assert!(is_late(&view, "b"), "its agent cannot have begun");
        take(&mut view, look("b", Some(node(true)), granted("lease/1", 1)));
        assert!(!is_late(&view, "b"), "it was given again");
        take(&mut view, look("a", Some(node(true)), granted("lease/0", 2)));
        assert!(is_late(&view, "a"), "it is another one");

        let mut next = look("c", Some(node(true)), None);
        next.leave = Leave::Granted {
            epoch: "lease/2".to_owned(),
        };
        take(&mut view, next);
        assert!(!is_late(&view, "a"), "another term inherits what is there");
        take(&mut view, look("c", Some(node(true)), granted("lease/2", 1)));
        assert!(!is_late(&view, "c"), "it is this leader's own");
    }

    #[test]
    fn an_object_that_cannot_be_read_stops_every_grant_until_it_can() {
        let mut view = View::default();
        take(
            &mut view,
            look("a", Some(node(true)), Some(Err("bad field".to_owned()))),
        );
        assert!(!view.is_whole());
        let Leave::Withheld { reason, message } = &view.snapshot().leave else {
            panic!("grants that cannot be read cannot be counted");
        };
        assert_eq!(*reason, "UnreadableObject");
        assert!(
            message.contains("nodelivepatches/a") && message.contains("bad field"),
            "{message}"
        );
        let unreadable = view.snapshot().nodes["a"].object.as_ref().unwrap();
        assert!(unreadable.deleting, "it is not to be touched");

        take(&mut view, look("b", Some(node(true)), None));
        assert!(!view.is_whole(), "it is remembered while others change");
        take(&mut view, look("a", Some(node(true)), Some(Ok(object()))));
        assert!(view.is_whole());
        assert!(matches!(view.snapshot().leave, Leave::Granted { .. }));
    }
}
