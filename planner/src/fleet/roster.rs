//! The nodes of one set and where each of them stands, with sums: kept from one decision to the next.
//!
//! A node is judged again when it changed, when its time has come, or when what all of them are judged by changed. So what
//! happens costs what it changed, and not the fleet.

use super::outlived::is_outlived;
use super::progress::wave_names;
use super::slots::Holds;
use super::snapshot::{BundleView, Leave, NodeView, RolloutView, SetView};
use super::standing::{Standing, Yardstick, current_grant, is_leaving, report, standing};
use super::sums::{OfKernel, Slots, Sums, Waits};
use super::waves::{self, Selected, place};
use super::{starts, sums};
use jiff::{SignedDuration, Timestamp};
use kube::core::{Selector, SelectorExt};
use livepatch_crds::NodeSelector;
use livepatch_crds::node::KernelIdentity;
use livepatch_crds::revision::{revision, rollout_name};
use livepatch_crds::rollout::{LivepatchRolloutStatus, WaveState};
use livepatch_crds::set::{Counts, REST, Start, Wave};
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

/// All nodes, by name.
type Nodes = BTreeMap<String, NodeView>;

/// What all nodes of a set are judged by. Nothing else may be asked when one is judged: only when this changes are all of
/// them judged again.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Rule {
    set_uid: String,
    selector: NodeSelector,
    waves: Vec<Wave>,
    min_ready: SignedDuration,
    /// Cut down to what is asked of it.
    rollout: Option<RolloutView>,
    start: i64,
    bundle: BundleView,
    /// Whether grants may be given.
    leave: Leave,
    /// The same, but for a freeze.
    leave_of_leader: Leave,
}

impl Rule {
    pub fn of(set: &SetView, leave: &Leave, leave_of_leader: &Leave) -> Self {
        let started = started(set);
        Self {
            set_uid: set.uid.clone(),
            selector: set.spec.node_selector.clone(),
            waves: set.spec.rollout.waves.clone(),
            min_ready: SignedDuration::from_secs(i64::from(set.spec.rollout.min_ready_seconds)),
            start: started.as_ref().map_or(0, |(_, start)| start.number),
            rollout: started.map(|(rollout, _)| cut_down(rollout)),
            bundle: set.bundle.clone(),
            leave: leave.clone(),
            leave_of_leader: leave_of_leader.clone(),
        }
    }

    fn yardstick(&self, now: Timestamp) -> Yardstick<'_> {
        Yardstick {
            set_uid: &self.set_uid,
            rollout: self.rollout.as_ref(),
            start: self.start,
            bundle: &self.bundle,
            min_ready: self.min_ready,
            now,
        }
    }
}

/// The rollout of the revision that the set asks for, if it was made, with what was written in this start of it.
pub(super) fn started(set: &SetView) -> Option<(RolloutView, Start)> {
    let name = rollout_name(&set.name, &revision(&set.spec.template));
    let mut rollouts = set.rollouts.iter();
    let written = rollouts.find(|rollout| rollout.name == name && rollout.set_uid == set.uid && !rollout.deleting)?;
    let start = starts::start(set, written);
    Some((starts::of_this_start(written, &start), start))
}

/// Without what changes with every node: its counts, times and words.
fn cut_down(rollout: RolloutView) -> RolloutView {
    let mut waves = rollout.status.waves;
    waves.retain(|wave| wave.state == WaveState::Passed);
    for wave in &mut waves {
        (wave.selected, wave.settled, wave.settled_at) = (0, 0, None);
    }
    RolloutView {
        generation: 0,
        status: LivepatchRolloutStatus {
            waves,
            failures: rollout.status.failures,
            rolling_back: rollout.status.rolling_back,
            ..LivepatchRolloutStatus::default()
        },
        ..rollout
    }
}

/// The nodes of a set.
#[derive(Debug)]
pub(super) struct Roster {
    rule: Rule,
    places: BTreeMap<Arc<str>, Place>,
    sums: Sums,
}

/// A node that the set selects, or did when it got a grant that has not ended.
#[derive(Debug)]
pub(super) struct Place {
    /// Whether it is selected no longer.
    pub leaving: bool,
    /// A hash of all on which the share of a wave depends.
    pub layout: u64,
    /// The wave that it would be in without a grant.
    pub assigned: usize,
    pub wave: usize,
    pub standing: Standing,
    pub holds: Holds,
    /// Its place among those that wait.
    pub order: [u8; 32],
    pub kernel: Arc<KernelIdentity>,
    pub reported: bool,
    pub settles_at: Option<Timestamp>,
    /// Whether nobody begins with its grant any more.
    pub outlived: bool,
}

impl Roster {
    /// All nodes, judged.
    pub fn of(rule: Rule, nodes: &Nodes, now: Timestamp) -> Self {
        let mut roster = Self {
            rule,
            places: BTreeMap::new(),
            sums: Sums::default(),
        };
        roster.take_in(nodes, nodes.keys().map(String::as_str), now);
        roster
    }

    pub fn is_by(&self, rule: &Rule) -> bool {
        self.rule == *rule
    }

    /// Judges the nodes that changed, and those whose time has come.
    pub fn take_in<'a>(&mut self, nodes: &Nodes, changed: impl Iterator<Item = &'a str>, now: Timestamp) {
        let selector = self.rule.selector.compile().ok();
        let by_labels = waves::by_labels(&self.rule.waves);
        let mut moved = false;
        for name in changed {
            let node = nodes.get(name);
            let selected = node.is_some_and(|node| selector.as_ref().is_some_and(|by| by.matches(&node.labels)));
            let leaving =
                !selected && node.is_some_and(|node| is_leaving(node, &self.rule.set_uid, &self.rule.leave_of_leader));
            let before = self.remove(name);
            let name: Arc<str> = before
                .as_ref()
                .map_or_else(|| name.into(), |(name, _)| Arc::clone(name));
            let before = before.map(|(_, place)| place);
            let layout = node.filter(|_| selected).map(layout);
            moved |= before
                .as_ref()
                .filter(|before| !before.leaving)
                .map(|before| before.layout)
                != layout;
            let Some(node) = node.filter(|_| selected || leaving) else {
                continue;
            };
            let assigned = match (&by_labels, before) {
                (Some(waves), _) if selected => wave_of(waves, node),
                (None, Some(before)) if selected => before.assigned,
                _ => self.rule.waves.len(),
            };
            let place = self.judge(&name, node, leaving, assigned, now);
            self.insert(name, place);
        }
        if by_labels.is_none() && moved {
            self.share(nodes, now);
        }
        for name in self.sums.due(now) {
            if let Some((name, place)) = self.remove(&name)
                && let Some(node) = nodes.get(&*name)
            {
                let place = self.judge(&name, node, place.leaving, place.assigned, now);
                self.insert(name, place);
            }
        }
    }

    /// Shares the nodes out over the waves anew: where a node goes depends on all the others.
    fn share(&mut self, nodes: &Nodes, now: Timestamp) {
        let selected: Selected<'_> = self
            .places
            .iter()
            .filter(|(_, place)| !place.leaving)
            .filter_map(|(name, _)| nodes.get_key_value(&**name))
            .map(|(name, node)| (name.as_str(), node))
            .collect();
        let assigned = waves::assign(&self.rule.waves, &selected, &self.rule.set_uid).unwrap_or_default();
        for (name, node) in selected {
            let wave = assigned.get(name).copied().unwrap_or(self.rule.waves.len());
            if self.places.get(name).is_some_and(|place| place.assigned != wave)
                && let Some((name, _)) = self.remove(name)
            {
                let place = self.judge(&name, node, false, wave, now);
                self.insert(name, place);
            }
        }
    }

    fn judge(&self, name: &str, node: &NodeView, leaving: bool, assigned: usize, now: Timestamp) -> Place {
        let (waves, by) = (&self.rule.waves, self.rule.yardstick(now));
        let grant = current_grant(node, &by);
        let granted_in = grant.and_then(|grant| wave_names(waves).position(|wave| wave == grant.wave));
        let wave = granted_in.unwrap_or(assigned);
        let name_of_wave = waves.get(wave).map_or(REST, |wave| &wave.name);
        let passed = by.rollout.is_some_and(|rollout| rollout.has_passed(name_of_wave));
        let standing = match standing(name, node, passed, &by) {
            standing if !leaving => standing,
            standing => until_it_ended(standing),
        };
        let in_flight = grant.filter(|_| standing == Standing::InFlight);
        let since = in_flight.and_then(|grant| node.effective_since(grant));
        let kernel = node.object.as_ref().map(|object| &object.status.kernel);
        Place {
            leaving,
            layout: layout(node),
            assigned,
            wave,
            holds: Holds::of(node, &standing, leaving, &self.rule.leave, &by),
            standing,
            order: place(&self.rule.set_uid, &node.uid),
            kernel: self.sums.kernel(kernel),
            reported: report(node).is_some(),
            settles_at: since.and_then(|since| since.checked_add(by.min_ready).ok()),
            outlived: !leaving && is_outlived(node, &self.rule.set_uid, &self.rule.leave),
        }
    }

    fn insert(&mut self, name: Arc<str>, place: Place) {
        self.sums.change(&name, &place, true);
        self.places.insert(name, place);
    }

    fn remove(&mut self, name: &str) -> Option<(Arc<str>, Place)> {
        let (name, place) = self.places.remove_entry(name)?;
        self.sums.change(&name, &place, false);
        Some((name, place))
    }

    /// Whether the set selects the node of that name.
    pub fn selects(&self, name: &str) -> bool {
        self.places.get(name).is_some_and(|place| !place.leaving)
    }

    /// How many nodes there are.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// All of them, counted.
    pub fn counts(&self) -> Counts {
        let mut all = Counts::default();
        for counts in self.sums.counts.values() {
            sums::add(&mut all, counts);
        }
        all
    }

    /// Those of a wave, counted.
    pub fn counts_of(&self, wave: usize) -> Counts {
        self.sums.counts.get(&wave).copied().unwrap_or_default()
    }

    /// The first of a wave that stand so, by name.
    pub fn first(&self, wave: usize, waits: Waits) -> Option<&str> {
        let mut names = self.sums.waiting.get(&(wave, waits))?.iter();
        names.next().map(|name| &**name)
    }

    /// Those that failed: name, wave, reason and message, by name.
    pub fn failed(&self) -> impl Iterator<Item = (&str, usize, &str, &str)> {
        let failed = self.sums.failed.iter();
        failed.filter_map(|name| match self.places.get(name)? {
            Place {
                wave,
                standing: Standing::Failed { reason, message },
                ..
            } => Some((&**name, *wave, reason.as_str(), message.as_str())),
            _ => None,
        })
    }

    /// Those whose grant of a former leadership is to be given again: name and wave, by name.
    pub fn to_renew(&self) -> impl Iterator<Item = (&str, usize)> {
        let again = self.sums.again.iter();
        again.filter_map(|name| Some((&**name, self.places.get(name)?.wave)))
    }

    /// Those with a grant that nobody begins any more: name and where they stand, by name.
    pub fn outlived(&self) -> impl Iterator<Item = (&str, &Standing)> {
        let outlived = self.sums.outlived.iter();
        outlived.filter_map(|name| Some((&**name, &self.places.get(name)?.standing)))
    }

    /// Those of a wave that wait for a grant, by kernel, each in the order in which they are served.
    pub fn pending(&self, wave: usize) -> impl Iterator<Item = (&KernelIdentity, impl Iterator<Item = Waiting<'_>>)> {
        let of_wave = self.sums.pending.range((wave, Arc::default())..);
        of_wave
            .take_while(move |((of, _), _)| *of == wave)
            .map(|((_, kernel), names)| {
                let waiting = names.iter().map(|(order, name)| Waiting { order, name });
                (&**kernel, waiting)
            })
    }

    /// The slots that are held, by wave.
    pub fn slots(&self) -> &BTreeMap<usize, Slots> {
        &self.sums.slots
    }

    /// The nodes by their kernel.
    pub fn kernels(&self) -> impl Iterator<Item = (&KernelIdentity, &OfKernel)> {
        self.sums.kernels.iter().map(|(kernel, sum)| (&**kernel, sum))
    }

    /// When the next one in flight settles, if nothing happens to it.
    pub fn next_settled(&self) -> Option<Timestamp> {
        self.sums.settling.first().map(|(at, _)| *at)
    }
}

/// A node that waits for a grant. The least is served first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Waiting<'a> {
    order: &'a [u8; 32],
    pub name: &'a str,
}

/// What the node's share of the waves depends on.
fn layout(node: &NodeView) -> u64 {
    let mut hasher = DefaultHasher::new();
    (&node.uid, &node.labels).hash(&mut hasher);
    hasher.finish()
}

/// The first wave whose selector matches.
fn wave_of(waves: &[Selector], node: &NodeView) -> usize {
    let mut waves_in_order = waves.iter();
    let first = waves_in_order.position(|selector| selector.matches(&node.labels));
    first.unwrap_or(waves.len())
}

/// A node that is selected no longer is waited for, and given nothing more.
fn until_it_ended(standing: Standing) -> Standing {
    match standing {
        Standing::Failed { .. } | Standing::Unreachable => standing,
        _ => Standing::InFlight,
    }
}
