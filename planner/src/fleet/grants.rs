//! Which nodes are granted next.

use super::course::Course;
use super::progress::Progress;
use super::rollback;
use super::roster::Waiting;
use super::slots::holds_former_grant;
use super::snapshot::{ModuleView, NodeView, RolloutView, SetView};
use super::standing::{Coverage, coverage, is_effective, own_object, report, set_grant};
use super::sums::OfKernel;
use livepatch_crds::LivepatchType::Cumulative;
use livepatch_crds::node::{DesiredState, Grant, KernelIdentity, ModuleReference, SetReference};
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
    let mut acting = Budget::acting(course);
    let renewed = course.roster.to_renew().filter_map(|(name, wave)| {
        let node = course.fleet.get(name)?;
        let grant = Grant {
            epoch: epoch.to_owned(),
            ..set_grant(node, &course.set.uid)?.clone()
        };
        acting.take_again(wave, node).then(|| Chosen {
            node: name.to_owned(),
            grant,
        })
    });
    let mut budget = Budget::new(course);
    let last = budget.open_through.min(course.set.spec.rollout.waves.len());
    let mut chosen = Vec::new();
    for wave in 0..=last {
        serve(course, rollout, wave, epoch, &mut budget, cap, &mut chosen);
    }
    chosen.extend(renewed);
    chosen
}

/// Nodes of one kernel that wait for a grant.
struct Queue<'a, I> {
    build: &'a str,
    /// What they shall load; `None` on the way back.
    module: Option<&'a ModuleView>,
    next: Option<Waiting<'a>>,
    others: I,
}

/// The nodes of one wave, in their order, for as long as there is a slot for one of them.
fn serve<'a>(
    course: &Course<'a>,
    rollout: &RolloutView,
    wave: usize,
    epoch: &str,
    budget: &mut Budget<'a>,
    cap: &mut Cap,
    chosen: &mut Vec<Chosen>,
) {
    let mut queues: Vec<_> = course
        .roster
        .pending(wave)
        .filter_map(|(kernel, mut waiting)| {
            let module = match coverage(&course.set.bundle, kernel) {
                _ if budget.back => None,
                Coverage::Covered(module) => Some(module),
                _ => return None,
            };
            Some(Queue {
                build: &kernel.build_id,
                module,
                next: waiting.next(),
                others: waiting,
            })
        })
        .collect();
    loop {
        queues.retain(|queue| queue.next.is_some() && budget.may_take(wave, queue.build, cap));
        let Some(queue) = queues.iter_mut().min_by_key(|queue| queue.next) else {
            return;
        };
        let Some(next) = queue.next else { return };
        queue.next = queue.others.next();
        let Some(node) = course.fleet.get(next.name).filter(|node| !is_taken(node, course.set)) else {
            continue;
        };
        let grant = match queue.module {
            Some(module) => Some(grant(course, rollout, wave, node, module, epoch)),
            None => rollback::grant(course, rollout, node, epoch),
        };
        if let Some(grant) = grant.filter(|_| budget.take(wave, node, cap)) {
            chosen.push(Chosen {
                node: next.name.to_owned(),
                grant,
            });
        }
    }
}

/// Whether another Cumulative set's grant is on the node: one that selects it no longer, and whose grant has not ended. A
/// node has one Cumulative set.
fn is_taken(node: &NodeView, set: &SetView) -> bool {
    let mut grants = own_object(node)
        .map_or(&[][..], |object| &object.spec.livepatches)
        .iter();
    let cumulative = |grant: &Grant| (grant.livepatch_type, grant.state) == (Cumulative, DesiredState::Loaded);
    set.spec.livepatch_type == Cumulative && grants.any(|grant| grant.set.uid != set.uid && cumulative(grant))
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
        let waits = course.roster.counts().pending > 0;
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
        let slots = course.roster.slots();
        let kernels = || course.roster.kernels();
        Self {
            set: course.set,
            back,
            open_through: match &course.rollout {
                Some(_) if back => usize::MAX,
                Some(rollout) => open_through(rollout, &course.progress),
                None => 0,
            },
            limit: course.set.spec.rollout.max_concurrent.of(course.roster.len()),
            selected: course.roster.len(),
            running: slots.iter().map(|(wave, slots)| (*wave, slots.running)).collect(),
            former: slots.iter().map(|(wave, slots)| (*wave, slots.former)).collect(),
            proven: builds(kernels(), |nodes| nodes.settled > 0),
            trying: builds(kernels(), |nodes| nodes.in_flight > 0),
        }
    }

    /// What agents may act on, or have acted on: slots of a former leadership are left out until they are given again.
    fn acting(course: &Course<'a>) -> Self {
        let slots = course.roster.slots();
        let running = slots.iter().map(|(wave, slots)| (*wave, slots.running - slots.again));
        let former = slots.iter().map(|(wave, slots)| (*wave, slots.former_current));
        Self {
            running: running.collect(),
            former: former.collect(),
            trying: builds(course.roster.kernels(), |nodes| nodes.in_flight > nodes.again),
            ..Self::new(course)
        }
    }

    /// Takes a slot for a grant that is given again, if agents may act on one more.
    ///
    /// There can be more than the budget: a node that was lost gave its slot away and came back with its grant.
    fn take_again(&mut self, wave: usize, node: &'a NodeView) -> bool {
        let build = kernel_build(node);
        let of = |slots: &BTreeMap<usize, usize>| slots.get(&wave).copied().unwrap_or(0);
        let in_wave = of(&self.running) + of(&self.former);
        let free = self.canary_allows(build) && self.held() < self.limit && in_wave < self.wave_limit(wave);
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

    /// Whether there may be a slot for a node of that wave and kernel build. Once there is none, there is none later.
    fn may_take(&self, wave: usize, build: &str, cap: &Cap) -> bool {
        let of = |slots: &BTreeMap<usize, usize>| slots.get(&wave).copied().unwrap_or(0);
        let (running, former, wave_limit) = (of(&self.running), of(&self.former), self.wave_limit(wave));
        let new = self.held() < self.limit && running + former < wave_limit && cap.left > 0;
        let handed_on = former > 0 && self.running.values().sum::<usize>() < self.limit && running < wave_limit;
        self.canary_allows(build) && (new || handed_on)
    }

    /// Whether the first node of a kernel build has settled, or is yet to be chosen.
    fn canary_allows(&self, build: &str) -> bool {
        self.back || self.proven.contains(build) || !self.trying.contains(build)
    }

    /// Takes a slot for `node`, if there is one.
    fn take(&mut self, wave: usize, node: &'a NodeView, cap: &mut Cap) -> bool {
        let build = kernel_build(node);
        if wave > self.open_through || !self.canary_allows(build) {
            return false;
        }
        let wave_limit = self.wave_limit(wave);
        let of = |slots: &BTreeMap<usize, usize>| slots.get(&wave).copied().unwrap_or(0);
        let running: usize = self.running.values().sum();
        let free = if holds_former_grant(node, &self.set.uid) {
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

/// The kernel builds whose nodes are such.
fn builds<'a>(
    kernels: impl Iterator<Item = (&'a KernelIdentity, &'a OfKernel)>,
    are_such: impl Fn(&OfKernel) -> bool,
) -> BTreeSet<&'a str> {
    let such = kernels.filter(|(_, nodes)| are_such(nodes));
    such.map(|(kernel, _)| kernel.build_id.as_str()).collect()
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
