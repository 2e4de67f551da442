//! What one state of the model is. Contents of objects are numbers into [`super::facts::Facts`], so that a state is small.

use std::collections::BTreeSet;

/// Nodes of the model; the first one is the canary.
pub(super) const NODES: usize = 3;
/// The place of the rollout among the objects; before it are the nodes' objects.
pub(super) const ROLLOUT: usize = NODES;
/// Objects of the model.
pub(super) const OBJECTS: usize = NODES + 1;
/// Operators of the model.
pub(super) const OPERATORS: usize = 2;

/// A content that was seen before.
pub(super) type Id = u16;

/// An object at one version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Stored {
    pub version: u8,
    pub spec: Id,
    pub status: Id,
}

/// Everything.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct State {
    /// Each object with those of its former versions that some watch has not shown yet; the last one is the present one.
    pub objects: [Vec<Stored>; OBJECTS],
    pub lease: Lease,
    pub operators: [Operator; OPERATORS],
    pub agents: [Agent; NODES],
    /// Nodes that nobody can reach, and that reach nobody.
    pub away: [bool; NODES],
    /// Requests that were sent and have not arrived.
    pub flying: BTreeSet<Write>,
    /// What may still go wrong.
    pub left: Faults,
    /// A leader has decided in the knowledge that the rollout was aborted, or has stopped.
    pub stop_known: bool,
    /// A grant that agents accept was stored after that.
    pub granted_after_stop: bool,
}

/// The Lease: who holds it, and how often it changed hands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Lease {
    pub holder: Option<Process>,
    pub transitions: u8,
}

/// An operator's process: which operator, and its how-manieth life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Process {
    pub operator: usize,
    pub life: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Operator {
    pub life: u8,
    /// It leads, by its own clock, under this number of the lease.
    pub term: Option<u8>,
    /// What it knows of the nodes' objects, and of the rollout, since it began to lead; nothing before the lists are there.
    pub objects: Option<[Known; NODES]>,
    pub rollout: Option<Known>,
    /// Nodes that held a grant of a former leadership when it first decided in this term.
    pub inherited: Option<[bool; NODES]>,
    pub turn: Turn,
    /// Writes of which it does not know whether they happened.
    pub unsettled: BTreeSet<Write>,
}

/// What an operator knows of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Known {
    /// As the watch has shown it.
    pub shown: Stored,
    /// As an own write returned it, if the watch has not shown that yet.
    pub own: Option<Stored>,
}

/// What an operator is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum Turn {
    #[default]
    Idle,
    /// It waits for the answers to these writes, and then writes the rollout's status.
    Granting {
        epoch: u8,
        waits: BTreeSet<Write>,
        unknown: BTreeSet<Write>,
        status: Option<Write>,
    },
    /// It waits for the answer to this one.
    Reporting(Write),
}

/// A request that changes an object: the spec of a node's object, or the status of the rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Write {
    pub by: Process,
    pub object: usize,
    /// The version it replaces.
    pub replaces: u8,
    pub content: Id,
    /// Whether the one who sent it still waits for the answer.
    pub awaited: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Agent {
    pub kernel: Kernel,
    pub reading: Option<Reading>,
}

/// What the kernel of a node holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Kernel {
    Nothing,
    Loaded,
    /// It refused the module, and the agent has written that down.
    Refused,
}

/// The two live reads before a load, in any order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Reading {
    /// The spec with the grant that is about to be acted on.
    pub grant: Id,
    pub object: bool,
    pub lease: bool,
}

impl Reading {
    /// Both were read, and allow it.
    pub fn is_allowed(self) -> bool {
        self.object && self.lease
    }
}

/// How often something may go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Faults {
    /// An operator dies, or its term ends: it was paused, or cut off.
    pub terms: u8,
    /// A request or its answer is lost, or late beyond patience.
    pub unheard: u8,
    /// A kernel refuses the module.
    pub refusals: u8,
    /// A person aborts the rollout.
    pub aborts: u8,
    /// A node is cut off for a while.
    pub away: u8,
}

impl State {
    pub fn is_away(&self, node: usize) -> bool {
        self.away.get(node).copied().unwrap_or_default()
    }

    /// The present version of an object.
    pub fn now(&self, object: usize) -> Stored {
        let log = self.objects.get(object).map_or(&[][..], Vec::as_slice);
        log.last().copied().unwrap_or(Stored {
            version: 0,
            spec: 0,
            status: 0,
        })
    }

    /// Stores a new version of an object.
    pub fn store(&mut self, object: usize, spec: Id, status: Id) -> Stored {
        let version = self.now(object).version + 1;
        let stored = Stored { version, spec, status };
        if let Some(log) = self.objects.get_mut(object) {
            log.push(stored);
        }
        self.forget();
        stored
    }

    /// Forgets the versions that every watch has shown.
    pub fn forget(&mut self) {
        for object in 0..OBJECTS {
            let shown = self.operators.iter().filter_map(|operator| operator.known(object));
            let shown = shown.map(|known| known.shown.version).min();
            if let Some(log) = self.objects.get_mut(object) {
                let last = log.last().map_or(0, |stored| stored.version);
                let from = shown.map_or(last, |shown| (shown + 1).min(last));
                log.retain(|stored| stored.version >= from);
            }
        }
    }

    /// The version that a watch shows after `shown`.
    pub fn after(&self, object: usize, shown: u8) -> Option<Stored> {
        let log = self.objects.get(object)?;
        log.iter().find(|stored| stored.version > shown).copied()
    }
}

impl Operator {
    pub fn known(&self, object: usize) -> Option<&Known> {
        match &self.objects {
            Some(objects) if object < NODES => objects.get(object),
            _ if object == ROLLOUT => self.rollout.as_ref(),
            _ => None,
        }
    }

    pub fn known_mut(&mut self, object: usize) -> Option<&mut Known> {
        match &mut self.objects {
            Some(objects) if object < NODES => objects.get_mut(object),
            _ if object == ROLLOUT => self.rollout.as_mut(),
            _ => None,
        }
    }

    /// The version of an object that its decisions rest on.
    pub fn sees(&self, object: usize) -> Option<Stored> {
        self.known(object).map(|known| known.own.unwrap_or(known.shown))
    }
}
