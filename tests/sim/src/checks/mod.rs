//! What must hold, whatever happens. It is judged by the storage, the kernels and the disks themselves, and not by asking
//! the code that is under test.
//!
//! An operator can only go by what it has been shown. Where a rule is about what it knows, it is judged by the history of
//! the storage up to the places its watches had reached.

mod end;
mod gates;
mod grants;
mod kernel;
mod knowledge;
mod slots;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use livepatch_operator::watch::seen::{NodeObjectContent, RolloutContent, Seen};

use crate::api::ask::{Ask, Basis};
use crate::api::server::Server;
use crate::api::store::Store;
use crate::ctx::Ctx;
use crate::scenario::Scenario;
pub(crate) use end::CRASH_LOOP;
use kernel::Boots;
use knowledge::Knowledge;
use slots::Slots;

/// Something that must hold and did not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which invariant or rule.
    pub rule: &'static str,
    /// What was seen.
    pub what: String,
}

impl Violation {
    pub(crate) fn new(rule: &'static str, what: String) -> Self {
        Self { rule, what }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule, self.what)
    }
}

/// What is remembered of the past, to judge the present by.
#[derive(Debug)]
pub(crate) struct Checks {
    /// The first thing that did not hold.
    pub found: Option<Violation>,
    slots: Slots,
    knowledge: Knowledge,
    boots: Vec<Boots>,
    /// Who wrote under each epoch.
    epochs: BTreeMap<String, (usize, u32)>,
    /// Until when each epoch was the present one, once it was not any more.
    ended: BTreeMap<String, Duration>,
    epoch: String,
    /// Builds of modules that were seen on a node without a grant of ours.
    ungranted: BTreeSet<String>,
}

impl Checks {
    pub fn new(scenario: &Scenario) -> Self {
        Self {
            found: None,
            slots: Slots::default(),
            knowledge: Knowledge::default(),
            boots: scenario.machines.iter().map(|_| Boots::default()).collect(),
            epochs: BTreeMap::new(),
            ended: BTreeMap::new(),
            epoch: String::new(),
            ungranted: BTreeSet::new(),
        }
    }

    fn violated(&mut self, rule: &'static str, what: impl FnOnce() -> String) {
        if self.found.is_none() {
            self.found = Some(Violation::new(rule, what()));
        }
    }

    /// A request changed the storage.
    pub fn written(
        &mut self,
        ctx: &mut Ctx,
        server: &Server,
        ask: &Ask,
        object: Option<&Seen<NodeObjectContent>>,
        rollout: Option<&Seen<RolloutContent>>,
    ) {
        let now = ctx.now();
        match ask {
            Ask::ChangeNode(patch) => {
                self.wrote_under(&patch.basis);
                if let Some(before) = object {
                    self.spec_written(now, server, patch, before);
                }
                self.slots.look(server, &patch.node, now);
                self.note_ungranted(server, &patch.node);
            }
            Ask::AgentStatus { node, .. } => {
                self.slots.look(server, node, now);
                self.note_ungranted(server, node);
            }
            Ask::RolloutStatus {
                name, status, basis, ..
            } => {
                self.wrote_under(basis);
                self.counted(name, &status.counts);
                if let Some(before) = rollout {
                    self.rollout_told(server, name, status, before, basis);
                }
            }
            Ask::SetStatus {
                name, status, basis, ..
            } => {
                self.wrote_under(basis);
                self.counted(name, &status.counts);
            }
            Ask::DeleteNodeObject { node, .. } => self.slots.look(server, node, now),
            _ => {}
        }
    }

    /// The lease changed hands, or was renewed.
    pub fn lease_written(&mut self, server: &Server, sent: Duration, now: Duration) {
        let epoch = server
            .lease
            .as_ref()
            .map(super::api::ask::Lease::epoch)
            .unwrap_or_default();
        self.knowledge.renewed(&epoch, sent, now);
        if epoch != self.epoch {
            self.ended.insert(std::mem::replace(&mut self.epoch, epoch), now);
        }
    }

    /// A node's object, or the node, changed by other hands than a request's.
    pub fn node_told(&mut self, ctx: &Ctx, server: &Server, name: &str) {
        self.slots.look(server, name, ctx.now());
    }

    /// No two processes ever write under one epoch.
    fn wrote_under(&mut self, basis: &Basis) {
        let who = (basis.operator, basis.life);
        let first = *self.epochs.entry(basis.epoch.clone()).or_insert(who);
        if first != who {
            self.violated("F8", || {
                format!("{first:?} and {who:?} both write under epoch {}", basis.epoch)
            });
        }
    }

    /// The states partition the selected nodes.
    fn counted(&mut self, name: &str, counts: &livepatch_crds::set::Counts) {
        let states = [
            counts.pending,
            counts.in_flight,
            counts.settled,
            counts.failed,
            counts.not_applicable,
            counts.unreachable,
            counts.held,
            counts.unknown,
            counts.excluded,
            counts.rolled_back,
        ];
        if states.iter().sum::<i32>() != counts.selected {
            self.violated("counts", || {
                format!("{name}: {counts:?} do not partition what is selected")
            });
        }
    }

    fn note_ungranted(&mut self, server: &Server, node: &str) {
        let Some(object) = server.objects.get(node) else { return };
        let Ok(content) = &object.content else { return };
        for loaded in content
            .status
            .loaded
            .iter()
            .filter(|one| one.enabled && !one.transition)
        {
            let granted = content
                .spec
                .livepatches
                .iter()
                .any(|grant| grant.module.build_id == loaded.build_id);
            if !granted {
                self.ungranted.insert(loaded.build_id.clone());
            }
        }
    }
}

/// The moment up to which an operator knew all of a kind.
fn horizon<T: Clone>(store: &Store<T>, place: usize, basis: &Basis) -> Duration {
    let unseen = store.between(place, place + 1).first();
    unseen.map_or(basis.at, |record| record.at.min(basis.at))
}
