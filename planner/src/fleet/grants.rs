//! Which nodes are granted next.

use super::course::Course;
use super::progress::Progress;
use super::rollback;
use super::snapshot::{Leave, ModuleView, NodeView, RolloutView, SetView};
use super::standing::{Coverage, Standing, coverage, is_carried_out, is_effective, is_unresolved, report, set_grant};
use super::waves::place;
use livepatch_crds::node::{DesiredState, Grant, ModuleReference, SetReference};
use livepatch_crds::rollout::WaveState;
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
pub fn choose(course: &Course<'_>, cap: &mut Cap) -> Vec<Chosen> {
    let Some((rollout, epoch)) = course.may_grant() else {
        return Vec::new();
    };
    if course.progress.halted {
        return Vec::new();
    }
    let back = rollback::is_on(rollout);
    let mut acting = Budget::acting(course, rollout, epoch);
    let renewed = course.nodes.iter().filter_map(|(name, (wave, node, standing))| {
        let grant = renewed(course, rollout, name, node, standing, epoch)?;
        acting.take_again(*wave, node).then(|| Chosen {
            node: (*name).to_owned(),
            grant,
        })
    });
    let mut budget = Budget::new(course);
    let mut candidates: Vec<_> = course
        .nodes
        .iter()
        .filter(|(_, (wave, _, standing))| *standing == Standing::Pending && *wave <= budget.open_through)
        .filter_map(|(name, (wave, node, _))| {
            let module = if back { None } else { Some(module(course, node)?) };
            Some((*name, *wave, *node, module))
        })
        .collect();
    candidates.sort_by_cached_key(|(_, wave, node, _)| (*wave, place(&course.set.uid, &node.uid)));
    candidates
        .into_iter()
        .filter_map(|(name, wave, node, module)| {
            let grant = match module {
                Some(module) if budget.take(wave, node, cap) => grant(course, rollout, wave, node, module, epoch),
                Some(_) => return None,
                None => {
                    let grant = rollback::grant(course, rollout, node, epoch)?;
                    budget.take(wave, node, cap).then_some(grant)?
                }
            };
            Some(Chosen {
                node: name.to_owned(),
                grant,
            })
        })
        .chain(renewed)
        .collect()
}

/// The module for the kernel of a node that has reported.
fn module<'a>(course: &Course<'a>, node: &NodeView) -> Option<&'a ModuleView> {
    match coverage(&course.set.bundle, &report(node)?.status.kernel) {
        Coverage::Covered(module) => Some(module),
        _ => None,
    }
}

/// A grant that came to no end under a former leader, given again by this one: no agent begins with a grant of a former
/// epoch. The slot and the attempt stay the same. Whether there is room for it is [`Budget::take_again`]'s to say.
fn renewed(
    course: &Course<'_>,
    rollout: &RolloutView,
    name: &str,
    node: &NodeView,
    standing: &Standing,
    epoch: &str,
) -> Option<Grant> {
    let grant = set_grant(node, &course.set.uid)
        .filter(|grant| grant.rollout == rollout.name && grant.epoch != epoch && !course.leaving.contains_key(name))?;
    let open = *standing == Standing::InFlight && report(node).is_none_or(|object| !is_carried_out(object, grant));
    open.then(|| Grant {
        epoch: epoch.to_owned(),
        ..grant.clone()
    })
}

/// What may still be granted over all sets.
pub struct Cap {
    limit: usize,
    left: usize,
}

impl Cap {
    /// What `limit` leaves after all slots that are held.
    pub fn new(limit: Option<usize>, courses: &[Course<'_>]) -> Self {
        let limit = limit.unwrap_or(usize::MAX);
        let held: usize = courses.iter().map(|course| Budget::new(course).held()).sum();
        Self {
            limit,
            left: limit.saturating_sub(held),
        }
    }

    fn take(&mut self) -> bool {
        let free = self.left > 0;
        self.left = self.left.saturating_sub(1);
        free
    }

    /// What to say if it is the cap that keeps a rollout from going on.
    pub fn blocks(&self, course: &Course<'_>, granted: &[Chosen]) -> Option<String> {
        let waits = course
            .nodes
            .values()
            .any(|(_, _, standing)| *standing == Standing::Pending);
        let idle = granted.is_empty() && Budget::new(course).held() == 0;
        (self.left == 0 && waits && idle && course.may_grant().is_some()).then(|| {
            format!(
                "the operator allows {} grants in flight over all sets, and other sets hold them",
                self.limit
            )
        })
    }
}

/// What may still be granted of one rollout.
struct Budget<'a> {
    set: &'a SetView,
    /// On the way back no node goes first: what it runs then was proven before.
    back: bool,
    /// Waves up to this one are served.
    open_through: usize,
    limit: usize,
    selected: usize,
    /// Slots of this rollout by wave.
    running: BTreeMap<usize, usize>,
    /// Slots by wave that grants hold which came to no end and are none of this rollout: of a former revision, or of a
    /// node that is counted otherwise. They are handed on with the next grant.
    former: BTreeMap<usize, usize>,
    /// Kernel builds on which a node of this rollout has settled.
    proven: BTreeSet<&'a str>,
    /// Kernel builds on which the first node is on its way.
    trying: BTreeSet<&'a str>,
}

impl<'a> Budget<'a> {
    fn new(course: &Course<'a>) -> Self {
        let back = course.rollout.as_ref().is_some_and(rollback::is_on);
        let mut budget = Self {
            set: course.set,
            back,
            open_through: match &course.rollout {
                Some(_) if back => usize::MAX,
                Some(rollout) => open_through(rollout, &course.progress),
                None => 0,
            },
            limit: course.set.spec.rollout.max_concurrent.of(course.nodes.len()),
            selected: course.nodes.len(),
            running: BTreeMap::new(),
            former: BTreeMap::new(),
            proven: BTreeSet::new(),
            trying: BTreeSet::new(),
        };
        for (wave, node, standing) in course.nodes.values() {
            let build = kernel_build(node);
            match standing {
                Standing::Settled => _ = budget.proven.insert(build),
                Standing::InFlight => {
                    *budget.running.entry(*wave).or_default() += 1;
                    budget.trying.insert(build);
                }
                Standing::Failed { .. } if cannot_begin(course, node) => {}
                _ if holds_former_grant(course.set, node) => *budget.former.entry(*wave).or_default() += 1,
                _ => {}
            }
        }
        budget
    }

    /// What agents may act on, or have acted on: slots of a former leadership are left out until they are given again.
    fn acting(course: &Course<'a>, rollout: &RolloutView, epoch: &str) -> Self {
        let mut budget = Self::new(course);
        budget.running.clear();
        budget.former.clear();
        budget.trying.clear();
        for (name, (wave, node, standing)) in &course.nodes {
            let is_current = || set_grant(node, &course.set.uid).is_some_and(|grant| grant.epoch == epoch);
            match standing {
                Standing::InFlight if renewed(course, rollout, name, node, standing, epoch).is_some() => {}
                Standing::InFlight => {
                    *budget.running.entry(*wave).or_default() += 1;
                    budget.trying.insert(kernel_build(node));
                }
                Standing::Failed { .. } if cannot_begin(course, node) => {}
                _ if holds_former_grant(course.set, node) && is_current() => {
                    *budget.former.entry(*wave).or_default() += 1;
                }
                _ => {}
            }
        }
        budget
    }

    /// Takes a slot for a grant that is given again, if agents may act on one more.
    ///
    /// There can be more than the budget: a node that was lost gave its slot away and came back with its grant.
    fn take_again(&mut self, wave: usize, node: &'a NodeView) -> bool {
        let build = kernel_build(node);
        let canary_allows = self.back || self.proven.contains(build) || !self.trying.contains(build);
        let of = |slots: &BTreeMap<usize, usize>| slots.get(&wave).copied().unwrap_or(0);
        let in_wave = of(&self.running) + of(&self.former);
        let free = canary_allows && self.held() < self.limit && in_wave < self.wave_limit(wave);
        if free {
            self.trying.insert(build);
            *self.running.entry(wave).or_default() += 1;
        }
        free
    }

    /// How many slots a wave may have.
    fn wave_limit(&self, wave: usize) -> usize {
        let waves = &self.set.spec.rollout.waves;
        let limit = waves.get(wave).and_then(|wave| wave.max_concurrent.as_ref());
        limit.map_or(usize::MAX, |limit| limit.of(self.selected))
    }

    /// All slots that are held.
    fn held(&self) -> usize {
        self.running.values().chain(self.former.values()).sum()
    }

    /// Takes a slot for `node`, if there is one.
    fn take(&mut self, wave: usize, node: &'a NodeView, cap: &mut Cap) -> bool {
        let build = kernel_build(node);
        let canary_allows = self.back || self.proven.contains(build) || !self.trying.contains(build);
        if wave > self.open_through || !canary_allows {
            return false;
        }
        let wave_limit = self.wave_limit(wave);
        let of = |slots: &BTreeMap<usize, usize>| slots.get(&wave).copied().unwrap_or(0);
        let running: usize = self.running.values().sum();
        let free = if holds_former_grant(self.set, node) {
            // Its slot is counted already, and is handed on to the new grant.
            let free = running < self.limit && of(&self.running) < wave_limit;
            if let Some(former) = self.former.get_mut(&wave).filter(|_| free) {
                *former = former.saturating_sub(1);
            }
            free
        } else {
            self.held() < self.limit && of(&self.running) + of(&self.former) < wave_limit && cap.take()
        };
        if free {
            self.trying.insert(build);
            *self.running.entry(wave).or_default() += 1;
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

/// Whether the agent of a failed node will not begin: the node is gone, which must not hold a slot for ever, or its grant
/// is of a former leadership.
fn cannot_begin(course: &Course<'_>, node: &NodeView) -> bool {
    !node.ready
        || set_grant(node, &course.set.uid)
            .is_some_and(|grant| !matches!(course.leave, Leave::Granted { epoch } if *epoch == grant.epoch))
}

fn grant(
    course: &Course<'_>,
    rollout: &RolloutView,
    wave: usize,
    node: &NodeView,
    module: &ModuleView,
    epoch: &str,
) -> Grant {
    let set = course.set;
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
        start: course.start.as_ref().map_or(0, |start| start.number),
        failed: None,
        back: false,
    }
}

/// What the set had in effect on the node before, if that is another module for the same kernel: what the former grant
/// put there, or else what it found.
fn previous(set: &SetView, node: &NodeView, module: &ModuleView) -> Option<ModuleReference> {
    let former = set_grant(node, &set.uid)?;
    let object = report(node)?;
    let is_there = former.state == DesiredState::Loaded
        && former.module.sha256 != module.sha256
        && former.failed.is_none()
        && is_effective(object, former);
    let previous = if is_there {
        Some(&former.module)
    } else {
        former.previous.as_ref()
    };
    let fits = |previous: &&ModuleReference| {
        previous.sha256 != module.sha256 && previous.kernel_build_id == object.status.kernel.build_id
    };
    previous.filter(fits).cloned()
}
