//! What is asked of all nodes of a set together: sums, and names in order. They follow each node that comes or goes.

use super::roster::Place;
use super::slots::Holds;
use super::standing::{Standing, tally};
use jiff::Timestamp;
use livepatch_crds::node::KernelIdentity;
use livepatch_crds::set::Counts;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What a node waits for, of those that hold a wave up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Waits {
    InFlight,
    Pending,
    Unknown,
}

impl Waits {
    fn of(standing: &Standing) -> Option<Self> {
        match standing {
            Standing::InFlight => Some(Self::InFlight),
            Standing::Pending => Some(Self::Pending),
            Standing::Unknown => Some(Self::Unknown),
            _ => None,
        }
    }
}

/// Slots of one wave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Slots {
    /// Nodes in flight.
    pub running: usize,
    /// Those of them whose grant is to be given again.
    pub again: usize,
    /// Slots that grants hold which came to no end and are none of this rollout.
    pub former: usize,
    /// Those of them whose grant is of the present leadership.
    pub former_current: usize,
}

/// Nodes with one kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct OfKernel {
    /// All whose agent has reported on their boot.
    pub reported: usize,
    pub settled: usize,
    pub in_flight: usize,
    /// Those in flight whose grant is to be given again.
    pub again: usize,
    all: usize,
}

/// Names of nodes in the order in which they are served.
type InOrder = BTreeSet<([u8; 32], Arc<str>)>;

/// Everything that is asked of all nodes together.
#[derive(Debug, Default)]
pub(super) struct Sums {
    pub counts: BTreeMap<usize, Counts>,
    pub slots: BTreeMap<usize, Slots>,
    pub kernels: BTreeMap<Arc<KernelIdentity>, OfKernel>,
    pub waiting: BTreeMap<(usize, Waits), BTreeSet<Arc<str>>>,
    pub pending: BTreeMap<(usize, Arc<KernelIdentity>), InOrder>,
    pub failed: BTreeSet<Arc<str>>,
    pub again: BTreeSet<Arc<str>>,
    pub outlived: BTreeSet<Arc<str>>,
    pub settling: BTreeSet<(Timestamp, Arc<str>)>,
}

impl Sums {
    /// A node comes or goes: one function for both, so that they cannot differ.
    pub fn change(&mut self, name: &Arc<str>, place: &Place, comes: bool) {
        // Without `..`: what a sum may be made of cannot be forgotten.
        let Place {
            leaving: _,
            layout: _,
            assigned: _,
            wave,
            standing,
            holds,
            order,
            kernel,
            reported,
            settles_at,
            outlived,
        } = place;
        tally(
            self.counts.entry(*wave).or_default(),
            standing,
            if comes { 1 } else { -1 },
        );
        let step = |sum: &mut usize, counts: bool| {
            let by = usize::from(counts);
            *sum = if comes { *sum + by } else { sum.saturating_sub(by) };
        };
        let again = *holds == Holds::SlotOfFormerLeader;
        let slots = self.slots.entry(*wave).or_default();
        step(&mut slots.running, *standing == Standing::InFlight);
        step(&mut slots.again, again);
        step(&mut slots.former, matches!(holds, Holds::SlotOfFormerGrant { .. }));
        step(
            &mut slots.former_current,
            *holds == Holds::SlotOfFormerGrant { current: true },
        );
        let sum = self.kernels.entry(Arc::clone(kernel)).or_default();
        step(&mut sum.all, true);
        step(&mut sum.reported, *reported);
        step(&mut sum.settled, *standing == Standing::Settled);
        step(&mut sum.in_flight, *standing == Standing::InFlight);
        step(&mut sum.again, again);
        if sum.all == 0 {
            self.kernels.remove(kernel);
        }
        let put = |names: &mut BTreeSet<Arc<str>>, is_one: bool| {
            if is_one && comes {
                names.insert(Arc::clone(name));
            } else if is_one {
                names.remove(name);
            }
        };
        put(&mut self.failed, matches!(standing, Standing::Failed { .. }));
        put(&mut self.again, again);
        put(&mut self.outlived, *outlived);
        if let Some(waits) = Waits::of(standing) {
            put(self.waiting.entry((*wave, waits)).or_default(), true);
        }
        if *standing == Standing::Pending {
            let key = (*wave, Arc::clone(kernel));
            let pending = self.pending.entry(key.clone()).or_default();
            if comes {
                pending.insert((*order, Arc::clone(name)));
            } else {
                pending.remove(&(*order, Arc::clone(name)));
            }
            if pending.is_empty() {
                self.pending.remove(&key);
            }
        }
        if let Some(at) = settles_at {
            if comes {
                self.settling.insert((*at, Arc::clone(name)));
            } else {
                self.settling.remove(&(*at, Arc::clone(name)));
            }
        }
    }

    /// Those whose time has come.
    pub fn due(&self, now: Timestamp) -> Vec<Arc<str>> {
        let settling = self.settling.iter();
        let due = settling.take_while(|(at, _)| *at <= now);
        due.map(|(_, name)| Arc::clone(name)).collect()
    }

    /// The kernel, the same for all nodes that run it.
    pub fn kernel(&self, kernel: Option<&KernelIdentity>) -> Arc<KernelIdentity> {
        let Some(kernel) = kernel else { return Arc::default() };
        let known = self.kernels.get_key_value(kernel);
        known.map_or_else(|| Arc::new(kernel.clone()), |(known, _)| Arc::clone(known))
    }
}

pub(super) fn add(all: &mut Counts, some: &Counts) {
    // Without `..`: no state can be forgotten.
    let Counts {
        selected,
        pending,
        in_flight,
        settled,
        failed,
        not_applicable,
        unreachable,
        held,
        unknown,
        excluded,
        rolled_back,
    } = some;
    all.selected += selected;
    all.pending += pending;
    all.in_flight += in_flight;
    all.settled += settled;
    all.failed += failed;
    all.not_applicable += not_applicable;
    all.unreachable += unreachable;
    all.held += held;
    all.unknown += unknown;
    all.excluded += excluded;
    all.rolled_back += rolled_back;
}
