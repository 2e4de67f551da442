//! Which nodes are granted next.

use super::progress::Progress;
use super::snapshot::{ModuleView, NodeView, RolloutView, SetView};
use super::standing::{Coverage, Standing, coverage, is_effective, is_unresolved, report, set_grant};
use super::waves::place;
use livepatch_crds::node::{DesiredState, Grant, ModuleReference, SetReference};
use livepatch_crds::rollout::{ControlState, WaveState};
use livepatch_crds::set::REST;
use std::collections::{BTreeMap, BTreeSet};

/// A node to be granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// Name of the node.
    pub node: String,
    /// The grant.
    pub grant: Grant,
}

/// The nodes of one rollout to be granted now, within every budget.
///
/// Budgets count grants, not what nodes report: a node holds its slot from the grant until it settles or fails.
pub fn choose(
    set: &SetView,
    rollout: &RolloutView,
    nodes: &BTreeMap<&str, (usize, &NodeView, Standing)>,
    progress: &Progress,
    epoch: &str,
) -> Vec<Chosen> {
    if progress.halted || rollout.control.state != ControlState::Run {
        return Vec::new();
    }
    let renewed = nodes.iter().filter_map(|(name, (_, node, standing))| {
        let grant = renewed(set, rollout, node, standing, epoch)?;
        Some(Chosen {
            node: (*name).to_owned(),
            grant,
        })
    });
    let mut budget = Budget::new(set, rollout, nodes, progress);
    let mut candidates: Vec<_> = nodes
        .iter()
        .filter(|(_, (_, _, standing))| *standing == Standing::Pending)
        .filter_map(|(name, (wave, node, _))| {
            let object = report(node)?;
            let Coverage::Covered(module) = coverage(&set.bundle, &object.status.kernel) else {
                return None;
            };
            Some((*name, *wave, *node, module))
        })
        .collect();
    candidates.sort_by_key(|(_, wave, node, _)| (*wave, place(&set.uid, &node.uid)));
    candidates
        .into_iter()
        .filter(|(_, wave, node, _)| budget.take(*wave, node))
        .map(|(name, wave, node, module)| Chosen {
            node: name.to_owned(),
            grant: grant(set, rollout, wave, node, module, epoch),
        })
        .chain(renewed)
        .collect()
}

/// A grant that came to no end under a former leader, given again by this one: no agent begins with a grant of a former
/// epoch. The slot and the attempt stay the same.
fn renewed(set: &SetView, rollout: &RolloutView, node: &NodeView, standing: &Standing, epoch: &str) -> Option<Grant> {
    let grant = set_grant(node, &set.uid).filter(|grant| grant.rollout == rollout.name && grant.epoch != epoch)?;
    let open = *standing == Standing::InFlight && report(node).is_none_or(|object| is_unresolved(object, grant));
    open.then(|| Grant {
        epoch: epoch.to_owned(),
        ..grant.clone()
    })
}

/// What may still be granted.
struct Budget<'a> {
    set: &'a SetView,
    /// Waves up to this one are served.
    open_through: usize,
    total: usize,
    in_wave: BTreeMap<usize, usize>,
    limit: usize,
    selected: usize,
    /// Kernel builds on which a node of this rollout has settled.
    proven: BTreeSet<&'a str>,
    /// Kernel builds on which the first node is on its way.
    trying: BTreeSet<&'a str>,
}

impl<'a> Budget<'a> {
    fn new(
        set: &'a SetView,
        rollout: &RolloutView,
        nodes: &BTreeMap<&str, (usize, &'a NodeView, Standing)>,
        progress: &Progress,
    ) -> Self {
        let mut budget = Self {
            set,
            open_through: open_through(rollout, progress),
            total: 0,
            in_wave: BTreeMap::new(),
            limit: set.spec.rollout.max_concurrent.of(nodes.len()),
            selected: nodes.len(),
            proven: BTreeSet::new(),
            trying: BTreeSet::new(),
        };
        for (wave, node, standing) in nodes.values() {
            let build = kernel_build(node);
            match standing {
                Standing::Settled => _ = budget.proven.insert(build),
                Standing::InFlight => {
                    budget.occupy(*wave);
                    budget.trying.insert(build);
                }
                // A grant of a former revision that came to no end holds its slot as well.
                _ if holds_former_grant(set, node) => budget.occupy(*wave),
                _ => {}
            }
        }
        budget
    }

    fn occupy(&mut self, wave: usize) {
        self.total += 1;
        *self.in_wave.entry(wave).or_default() += 1;
    }

    /// Takes a slot for `node`, if there is one.
    fn take(&mut self, wave: usize, node: &'a NodeView) -> bool {
        let build = kernel_build(node);
        let canary_allows = self.proven.contains(build) || !self.trying.contains(build);
        if wave > self.open_through || !canary_allows {
            return false;
        }
        let wave_limit = self
            .set
            .spec
            .rollout
            .waves
            .get(wave)
            .and_then(|wave| wave.max_concurrent.as_ref());
        let wave_limit = wave_limit.map_or(usize::MAX, |limit| limit.of(self.selected));
        let in_wave = self.in_wave.get(&wave).copied().unwrap_or(0);
        // The slot of a former grant is counted already, and is handed on to the new one.
        let has_slot = holds_former_grant(self.set, node);
        let free = has_slot || (self.total < self.limit && in_wave < wave_limit);
        if free {
            self.trying.insert(build);
            if !has_slot {
                self.occupy(wave);
            }
        }
        free
    }
}

/// The last wave that is served: the first one that is not written down as passed.
///
/// What is only about to be written does not count. Whoever finds a grant of a wave can so find in the rollout's status
/// that the waves before it have passed, and a new operator never has to judge anew what the former one went by.
fn open_through(rollout: &RolloutView, progress: &Progress) -> usize {
    progress
        .waves
        .iter()
        .position(|wave| wave.state != WaveState::Passed || !rollout.has_passed(&wave.name))
        .unwrap_or(progress.waves.len())
}

/// The kernel build of a node, as far as it is known.
fn kernel_build(node: &NodeView) -> &str {
    node.object.as_ref().map_or("", |object| &object.status.kernel.build_id)
}

fn holds_former_grant(set: &SetView, node: &NodeView) -> bool {
    set_grant(node, &set.uid)
        .zip(report(node))
        .is_some_and(|(grant, object)| is_unresolved(object, grant))
}

fn grant(
    set: &SetView,
    rollout: &RolloutView,
    wave: usize,
    node: &NodeView,
    module: &ModuleView,
    epoch: &str,
) -> Grant {
    let status = node
        .object
        .as_ref()
        .map(|object| object.status.clone())
        .unwrap_or_default();
    Grant {
        set: SetReference {
            name: set.name.clone(),
            uid: set.uid.clone(),
        },
        rollout: rollout.name.clone(),
        wave: set
            .spec
            .rollout
            .waves
            .get(wave)
            .map_or_else(|| REST.to_owned(), |wave| wave.name.clone()),
        epoch: epoch.to_owned(),
        attempt: rollout.control.attempt,
        state: DesiredState::Loaded,
        livepatch_type: set.spec.livepatch_type,
        module: ModuleReference {
            name: module.name.clone(),
            repository: module.repository.clone(),
            digest: module.digest.clone(),
            sha256: module.sha256.clone(),
            build_id: module.build_id.clone(),
            kernel_build_id: status.kernel.build_id,
        },
        previous: previous(set, node, module),
        policy: set.spec.grant_policy(&rollout.template),
        boot_id: node.boot_id.clone(),
        kernel_taints: status.kernel_taints,
        transition_timeout_seconds: set.spec.transition.timeout_seconds,
    }
}

/// What the set has in effect on the node now, if that is another module for the same kernel.
fn previous(set: &SetView, node: &NodeView, module: &ModuleView) -> Option<ModuleReference> {
    let former = set_grant(node, &set.uid)?;
    let object = report(node)?;
    (former.module.sha256 != module.sha256 && is_effective(object, former)).then(|| former.module.clone())
}
