//! A fleet in memory. It carries out what the planner decides, to the letter, and its nodes answer as they are told to.

use crate::transcript::Transcript;
use jiff::{SignedDuration, Timestamp};
use livepatch_crds::node::{DesiredState, Grant, GrantResult, GrantStatus, KernelIdentity, LoadedLivepatch, Owner};
use livepatch_crds::rollout::LivepatchRolloutStatus;
use livepatch_crds::set::{LivepatchSetSpec, LivepatchSetStatus};
use livepatch_planner::fleet::decision::{Happening, Regarding};
use livepatch_planner::fleet::snapshot::{
    BundleView, GrantKey, Leave, ModuleView, NodeObject, NodeView, RolloutView, SetView, Snapshot,
};
use livepatch_planner::fleet::standing::key;
use livepatch_planner::fleet::states::may_follow;
use livepatch_planner::fleet::{Decision, Index, Observations, decide};
use livepatch_planner::node::EPOCH_STALE;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// How a node answers a grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It loads after so many steps.
    Loads(u32),
    /// Its kernel refuses.
    Refuses,
    /// Its tasks do not switch in time.
    Stalls,
    /// It is never heard of again.
    Vanishes,
    /// It reboots.
    Reboots,
    /// It loads, and its kernel warns.
    Warns,
}

/// Name, labels and kernel of a node.
pub type NodeSketch<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a str);

pub struct World {
    pub snapshot: Snapshot,
    pub now: Timestamp,
    pub answers: BTreeMap<String, Answer>,
    pub happenings: Vec<Happening>,
    /// Whether agents can take livepatches away.
    pub removes: bool,
    /// What each agent last looked at, by node and set.
    seen: BTreeMap<(String, String), GrantKey>,
    observations: Observations,
    /// What a long-lived operator keeps, and the nodes as it saw them last.
    index: Index,
    known: BTreeMap<String, NodeView>,
    waited: BTreeMap<String, u32>,
    resource_version: u64,
    transcript: Transcript,
}

impl World {
    pub fn new(nodes: &[NodeSketch<'_>]) -> Self {
        let mut snapshot = Snapshot {
            leave: Leave::Granted {
                epoch: "lease/1".into(),
            },
            ..Snapshot::default()
        };
        for (name, labels, kernel) in nodes {
            snapshot.nodes.insert((*name).to_owned(), node(name, labels, kernel));
        }
        Self {
            snapshot,
            now: Timestamp::from_second(1_000_000).unwrap(),
            answers: BTreeMap::new(),
            happenings: Vec::new(),
            removes: false,
            seen: BTreeMap::new(),
            observations: Observations::default(),
            index: Index::default(),
            known: BTreeMap::new(),
            waited: BTreeMap::new(),
            resource_version: 0,
            transcript: Transcript::default(),
        }
    }

    pub fn add_set(&mut self, name: &str, spec: &str, modules: &[(&str, &str)]) {
        let spec: LivepatchSetSpec = serde_saphyr::from_str(spec).unwrap();
        let bundle = BundleView::Read(Arc::new(
            modules.iter().map(|(kernel, name)| module(kernel, name)).collect(),
        ));
        self.snapshot.sets.push(SetView {
            name: name.to_owned(),
            uid: format!("uid-{name}"),
            generation: 1,
            created: self.now,
            deleting: false,
            spec,
            status: LivepatchSetStatus::default(),
            bundle,
            former: None,
            rollouts: Vec::new(),
        });
        self.now += SignedDuration::from_secs(1);
    }

    pub fn set(&mut self, name: &str) -> &mut SetView {
        self.snapshot.sets.iter_mut().find(|set| set.name == name).unwrap()
    }

    /// The rollout of a set that was made last.
    pub fn rollout(&mut self, set: &str) -> &mut RolloutView {
        self.set(set).rollouts.last_mut().unwrap()
    }

    pub fn ready_reason(&mut self, set: &str) -> String {
        let conditions = &self.set(set).status.conditions;
        conditions
            .iter()
            .find(|c| c.type_ == "Ready")
            .map(|c| c.reason.clone())
            .unwrap_or_default()
    }

    fn ready_reasons(&mut self) -> Vec<(String, String)> {
        let names: Vec<String> = self.snapshot.sets.iter().map(|set| set.name.clone()).collect();
        let reasons = names.into_iter().map(|name| (name.clone(), self.ready_reason(&name)));
        reasons.filter(|(_, reason)| !reason.is_empty()).collect()
    }

    /// Nodes with a grant of that set.
    pub fn granted(&self, set: &str) -> BTreeSet<String> {
        self.snapshot
            .nodes
            .iter()
            .filter(|(_, node)| {
                node.object
                    .as_ref()
                    .is_some_and(|object| object.spec.livepatches.iter().any(|g| g.set.name == set))
            })
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// What the planner decides now.
    pub fn look(&mut self) -> Decision {
        self.observations
            .observe(&mut self.snapshot.nodes, &self.snapshot.sets, self.now);
        let changed = self.changed();
        let decision = self.index.decide(&self.snapshot, &changed, self.now);
        assert_eq!(
            decision,
            decide(&self.snapshot, self.now),
            "what was kept tells something else, after changes of {changed:?}"
        );
        decision
    }

    /// The nodes that changed since the last look.
    fn changed(&mut self) -> BTreeSet<String> {
        let now = &self.snapshot.nodes;
        let names = self.known.keys().chain(now.keys());
        let changed = names.filter(|name| self.known.get(*name) != now.get(*name));
        let changed = changed.cloned().collect();
        self.known.clone_from(now);
        changed
    }

    /// One look of the operator, its writes, and one answer of every node; then a second passes.
    pub fn step(&mut self) -> Decision {
        let before: Vec<(String, String)> = self.ready_reasons();
        let decision = self.pass();
        for (set, from) in before {
            let to = self.ready_reason(&set);
            assert!(from == to || may_follow(&from, &to), "{set} went from {from} to {to}");
        }
        decision
    }

    /// The same, whatever is said of it.
    pub fn pass(&mut self) -> Decision {
        let decision = self.look();
        self.transcript.record(&decision, self.now);
        self.carry_out(&decision);
        let names: Vec<String> = self.snapshot.nodes.keys().cloned().collect();
        for name in names {
            self.answer(&name);
        }
        self.now += SignedDuration::from_secs(1);
        decision
    }

    pub fn steps(&mut self, number: usize) {
        for _ in 0..number {
            self.step();
        }
    }

    /// What was written so far, as a text.
    pub fn told(&self) -> &str {
        self.transcript.text()
    }

    /// Another operator takes over: it has seen nothing.
    pub fn take_over(&mut self) {
        self.observations = Observations::default();
    }

    fn carry_out(&mut self, decision: &Decision) {
        let Decision {
            new_rollouts,
            expired_rollouts,
            new_node_objects,
            stale_node_objects,
            node_changes,
            set_statuses,
            rollout_statuses,
            happenings,
            wake_at: _,
        } = decision.clone();
        for new in new_rollouts {
            let created = self.now;
            let set = self.set(&new.set);
            assert!(
                set.rollouts.iter().all(|rollout| rollout.name != new.name),
                "{} made twice",
                new.name
            );
            set.rollouts.push(RolloutView {
                name: new.name,
                set_uid: new.spec.set_uid,
                generation: 1,
                created,
                deleting: false,
                template: new.spec.template,
                control: new.spec.control,
                status: LivepatchRolloutStatus::default(),
            });
        }
        for set in &mut self.snapshot.sets {
            set.rollouts.retain(|rollout| !expired_rollouts.contains(&rollout.name));
        }
        for new in new_node_objects {
            let node = self.snapshot.nodes.get_mut(&new.node).unwrap();
            assert!(node.object.is_none());
            node.object = Some(NodeObject {
                uid: format!("object-{}", new.node),
                spec: new.spec,
                ..NodeObject::default()
            });
        }
        for stale in stale_node_objects {
            self.snapshot.nodes.get_mut(&stale.node).unwrap().object = None;
        }
        for change in node_changes {
            self.resource_version += 1;
            let object = self
                .snapshot
                .nodes
                .get_mut(&change.node)
                .unwrap()
                .object
                .as_mut()
                .unwrap();
            assert_eq!(
                object.resource_version, change.resource_version,
                "the write would be refused"
            );
            object.spec = change.spec;
            object.generation += 1;
            object.resource_version = self.resource_version.to_string();
        }
        for (name, status) in set_statuses {
            self.set(&name).status = status;
        }
        for (name, status) in rollout_statuses {
            let rollout = self
                .snapshot
                .sets
                .iter_mut()
                .flat_map(|set| &mut set.rollouts)
                .find(|r| r.name == name);
            rollout.unwrap().status = status;
        }
        self.happenings.extend(happenings);
    }

    fn answer(&mut self, name: &str) {
        let answer = self.answers.get(name).copied().unwrap_or(Answer::Loads(1));
        let waited = self.waited.entry(name.to_owned()).or_default();
        let node = self.snapshot.nodes.get_mut(name).unwrap();
        let (kernel, boot_id) = (kernel_of(node), node.boot_id.clone());
        let Some(object) = node.object.as_mut().filter(|_| node.ready) else {
            return;
        };
        if object.status.boot_id != boot_id {
            object.status.loaded.clear();
        }
        object.status.boot_id = boot_id;
        object.status.kernel = kernel;
        object.status.observed_generation = object.generation;
        if self.removes {
            object.status.features = vec!["Absent".into()];
        }
        let grants = object.spec.livepatches.clone();
        let told = &mut object.status.livepatches;
        told.retain(|status| status.result != GrantResult::Pending);
        for grant in grants {
            let looked_at = self.seen.insert((name.to_owned(), grant.set.name.clone()), key(&grant));
            if looked_at.is_some_and(|looked_at| looked_at != key(&grant)) {
                object.status.livepatches.retain(|status| status.set != grant.set.name);
            }
            if grant.state == DesiredState::Absent && self.removes {
                object
                    .status
                    .loaded
                    .retain(|loaded| loaded.build_id != grant.module.build_id);
                if object.status.livepatches.is_empty() {
                    object
                        .status
                        .livepatches
                        .push(outcome(&grant, GrantResult::Absent, "Absent", ""));
                }
                continue;
            }
            if object
                .status
                .loaded
                .iter()
                .any(|loaded| loaded.build_id == grant.module.build_id)
            {
                continue;
            }
            let failed = |s: &GrantStatus| s.rollout == grant.rollout && s.attempt == grant.attempt;
            if object.status.livepatches.iter().any(failed) {
                continue;
            }
            if let Leave::Granted { epoch } = &self.snapshot.leave
                && *epoch != grant.epoch
            {
                let told = outcome(&grant, GrantResult::Pending, EPOCH_STALE, "");
                object.status.livepatches.push(told);
                continue;
            }
            *waited += 1;
            match answer {
                Answer::Loads(after) if *waited < after => {}
                Answer::Loads(_) | Answer::Warns => {
                    *waited = 0;
                    if answer == Answer::Warns {
                        object.status.kernel_taints.push('W');
                    }
                    let of_the_set = |loaded: &LoadedLivepatch| loaded.set.as_ref() == Some(&grant.set.name);
                    object.status.loaded.retain(|loaded| !of_the_set(loaded));
                    object.status.loaded.push(LoadedLivepatch {
                        module: grant.module.name.clone(),
                        build_id: grant.module.build_id.clone(),
                        owner: Owner::Set,
                        set: Some(grant.set.name.clone()),
                        enabled: true,
                        transition: false,
                        function_count: Some(1),
                    });
                }
                Answer::Refuses => {
                    let message = "finit_module: EINVAL (22) Invalid argument";
                    object
                        .status
                        .livepatches
                        .push(failure(&grant, "SymbolNotFound", message));
                }
                Answer::Stalls => {
                    let message = "2 tasks did not switch";
                    object
                        .status
                        .livepatches
                        .push(failure(&grant, "TransitionTimedOut", message));
                }
                Answer::Vanishes => node.ready = false,
                Answer::Reboots => node.boot_id = format!("{}-again", node.boot_id),
            }
        }
    }
}

pub fn failure(grant: &Grant, reason: &str, message: &str) -> GrantStatus {
    outcome(grant, GrantResult::Failed, reason, message)
}

pub fn outcome(grant: &Grant, result: GrantResult, reason: &str, message: &str) -> GrantStatus {
    GrantStatus {
        set: grant.set.name.clone(),
        rollout: grant.rollout.clone(),
        attempt: grant.attempt,
        result,
        reason: reason.into(),
        message: message.into(),
        blockers: Vec::new(),
        gap_milliseconds: None,
    }
}

/// A node; its kernel is told by a label, so that the agent can be asked for it.
pub fn node(name: &str, labels: &[(&str, &str)], kernel: &str) -> NodeView {
    let mut labels: BTreeMap<String, String> = labels.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
    labels.insert("kernel".into(), kernel.into());
    NodeView {
        uid: format!("uid-{name}"),
        labels,
        boot_id: format!("boot-{name}"),
        ready: true,
        ..NodeView::default()
    }
}

fn kernel_of(node: &NodeView) -> KernelIdentity {
    let release = node.labels["kernel"].clone();
    KernelIdentity {
        build_id: format!("id-{release}"),
        release,
        architecture: "amd64".into(),
    }
}

pub fn module(kernel: &str, module: &str) -> ModuleView {
    ModuleView {
        kernel_release: kernel.into(),
        kernel_build_id: None,
        architecture: "amd64".into(),
        name: module.into(),
        repository: "registry.example.com/livepatches".into(),
        digest: format!("sha256:{}", "0".repeat(64)),
        sha256: format!("{module}-{kernel}"),
        build_id: format!("{module}-{kernel}"),
        described: None,
    }
}

pub fn happened(world: &World, on: &Regarding, reason: &str) -> usize {
    world
        .happenings
        .iter()
        .filter(|happening| happening.regarding == *on && happening.reason == reason)
        .count()
}
