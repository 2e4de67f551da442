//! Which nodes a set would reach, in which waves, and in which situations they are. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Node;
use livepatch_artifact::BundleEntry;
use livepatch_crds::node::{Grant, KernelIdentity, LoadedLivepatch};
use livepatch_crds::set::REST;
use livepatch_crds::{LivepatchSet, NodeLivepatch};
use livepatch_planner::fleet::snapshot::NodeView;
use livepatch_planner::fleet::waves::{assign, select};
use livepatch_planner::node::Answer;

use super::situation::{Case, answers};
use crate::family::{self, Family};
use crate::registry::Artefacts;

/// What is known.
pub struct Facts<'a> {
    /// What is planned.
    pub set: &'a LivepatchSet,
    /// What is there.
    pub families: &'a [Family],
    pub artefacts: &'a Artefacts,
    pub nodes: &'a [(String, NodeView)],
    pub running: &'a BTreeMap<String, Running>,
}

/// What a node's agent said.
#[derive(Clone, Debug)]
pub struct Running {
    pub boot_id: String,
    pub kernel: KernelIdentity,
    pub loaded: Vec<LoadedLivepatch>,
    pub grants: Vec<Grant>,
}

/// What would come.
pub struct Outlook {
    pub name: String,
    /// Whether a set of that name is there: the choice of percent waves goes by its UID.
    pub exists: bool,
    pub selected: usize,
    /// Name and number of nodes of each wave, in order.
    pub waves: Vec<(String, usize)>,
    pub kernels: Vec<Kernel>,
    /// Nodes of which nobody has reported on their present boot.
    pub silent: Vec<String>,
    pub outcomes: Vec<Outcome>,
    /// What is wrong with the set as a whole.
    pub wrong: Vec<String>,
}

/// A kernel build among the selected nodes.
pub struct Kernel {
    pub identity: KernelIdentity,
    pub nodes: usize,
    pub module: Option<String>,
}

/// What would happen on nodes that are alike.
pub struct Outcome {
    pub kernel: KernelIdentity,
    /// What is loaded there.
    pub loaded: Vec<String>,
    pub nodes: Vec<String>,
    pub answer: Answer,
    /// The way back, where there is a way forward.
    pub back: Option<Answer>,
}

impl Outlook {
    /// Whether something keeps the set from any node that it could reach.
    pub fn is_blocked(&self) -> bool {
        !self.wrong.is_empty()
            || self
                .outcomes
                .iter()
                .any(|outcome| !matches!(outcome.answer, Answer::Plan(_)))
    }
}

/// A Linux node.
pub fn node(node: Node) -> Option<(String, NodeView)> {
    const OS: &str = "kubernetes.io/os";
    let labels = node.metadata.labels.unwrap_or_default();
    let info = node.status.and_then(|status| status.node_info);
    let view = NodeView {
        uid: node.metadata.uid.unwrap_or_default(),
        boot_id: info.map(|info| info.boot_id).unwrap_or_default(),
        labels,
        ..NodeView::default()
    };
    let is_linux = view.labels.get(OS).is_some_and(|os| os == "linux");
    is_linux.then_some((node.metadata.name?, view))
}

/// What a node runs and was granted.
pub fn running(object: NodeLivepatch) -> Option<(String, Running)> {
    let status = object.status?;
    let running = Running {
        boot_id: status.boot_id,
        kernel: status.kernel,
        loaded: status.loaded,
        grants: object.spec.livepatches,
    };
    Some((object.metadata.name?, running))
}

/// What would come of the set.
pub fn outlook(facts: &Facts<'_>) -> Outlook {
    let name = family::name(&facts.set.metadata).to_owned();
    let there = facts.families.iter().find(|family| family.name() == name);
    let uid = there
        .and_then(|family| family.set.metadata.uid.as_deref())
        .unwrap_or_default();
    let spec = &facts.set.spec;
    let reference = &spec.template.source.oci.reference;
    let mut outlook = Outlook {
        exists: there.is_some(),
        selected: 0,
        waves: Vec::new(),
        kernels: Vec::new(),
        silent: Vec::new(),
        outcomes: Vec::new(),
        wrong: Vec::new(),
        name,
    };
    if there.is_some_and(|family| family.set.spec.livepatch_type != spec.livepatch_type) {
        outlook
            .wrong
            .push("type is immutable: make another LivepatchSet".to_owned());
    }
    let Some(bundle) = facts.artefacts.read.get(reference) else {
        let why = facts
            .artefacts
            .unread
            .get(reference)
            .map_or("it was not read", String::as_str);
        outlook.wrong.push(format!("the artefact cannot be read: {why}"));
        return outlook;
    };
    let nodes: BTreeMap<String, NodeView> = facts.nodes.iter().cloned().collect();
    let chosen = select(&spec.node_selector, &nodes)
        .and_then(|selected| Ok((assign(&spec.rollout.waves, &selected, uid)?, selected)));
    let (waves, selected) = match chosen {
        Ok(chosen) => chosen,
        Err(error) => {
            outlook.wrong.push(format!("a selector is not valid: {error}"));
            return outlook;
        }
    };
    outlook.selected = selected.len();
    let names = spec.rollout.waves.iter().map(|wave| wave.name.as_str()).chain([REST]);
    outlook.waves = names
        .enumerate()
        .map(|(index, name)| (name.to_owned(), waves.values().filter(|wave| **wave == index).count()))
        .collect();
    let mut kernels: BTreeMap<&KernelIdentity, (usize, Option<&BundleEntry>)> = BTreeMap::new();
    let mut cases: BTreeMap<String, (Case<'_>, Vec<String>)> = BTreeMap::new();
    for (name, view) in &selected {
        let running = facts.running.get(*name);
        let Some(running) = running.filter(|one| !one.boot_id.is_empty() && one.boot_id == view.boot_id) else {
            outlook.silent.push((*name).to_owned());
            continue;
        };
        let kernel = &running.kernel;
        let entry = || bundle.entry_for(&kernel.release, Some(&kernel.build_id), &kernel.architecture);
        let (nodes, entry) = kernels.entry(kernel).or_insert_with(|| (0, entry()));
        *nodes += 1;
        if let Some(entry) = entry {
            let case = Case { running, entry, uid };
            let alike = cases.entry(case.likeness()).or_insert_with(|| (case, Vec::new()));
            alike.1.push((*name).to_owned());
        }
    }
    outlook.kernels = kernels
        .into_iter()
        .map(|(identity, (nodes, entry))| Kernel {
            identity: identity.clone(),
            nodes,
            module: entry.map(|entry| entry.module.name.clone()),
        })
        .collect();
    outlook.outcomes = cases
        .into_values()
        .map(|(case, nodes)| {
            let (answer, back) = answers(facts, &case);
            Outcome {
                kernel: case.running.kernel.clone(),
                loaded: case.running.loaded.iter().map(|one| one.module.clone()).collect(),
                nodes,
                answer,
                back,
            }
        })
        .collect();
    outlook
}

#[cfg(test)]
mod tests;
