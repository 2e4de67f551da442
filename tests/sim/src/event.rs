//! What can happen at a moment.

use livepatch_operator::watch::world::Kind;

use crate::api::ask::{Answer, Ask};

/// Something that happens at a moment.
#[derive(Debug)]
pub(crate) enum Event {
    /// A request reaches the API server.
    Arrive(Box<Request>),
    /// An answer, or a timeout, reaches who asked.
    Answered { caller: Caller, id: u64, answer: Answer },
    /// A replica's cache takes in a version of a kind.
    Replicated { replica: usize, kind: Kind, version: u64 },
    /// An operator's timer.
    Operator {
        operator: usize,
        life: u32,
        tick: OperatorTick,
    },
    /// An agent's timer.
    Agent { machine: usize, life: u32, tick: AgentTick },
    /// Something about a machine itself.
    Machine { machine: usize, tick: MachineTick },
    /// A line of the scenario.
    Plan(usize),
    /// The garbage collector of the cluster looks.
    GarbageCollection,
}

/// A request on its way.
#[derive(Debug)]
pub(crate) struct Request {
    pub caller: Caller,
    pub id: u64,
    pub ask: Ask,
    /// When it was sent.
    pub sent: std::time::Duration,
    /// The answer is lost.
    pub answer_lost: bool,
    /// It is refused with this in place of being carried out; or, if `Unknown`, carried out and answered with 504.
    pub fault: Option<crate::api::ask::Fault>,
}

/// Who asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Caller {
    Keeper {
        operator: usize,
        life: u32,
    },
    Turn {
        operator: usize,
        life: u32,
    },
    List {
        operator: usize,
        life: u32,
        kind: Kind,
        generation: u64,
    },
    Agent {
        machine: usize,
        life: u32,
    },
    AgentList {
        machine: usize,
        life: u32,
        generation: u64,
    },
}

#[derive(Clone, Debug)]
pub(crate) enum OperatorTick {
    /// The lease's keeper has slept.
    Keeper,
    /// A turn may be due.
    Turn,
    /// A watch has something to show.
    Watch { kind: Kind, generation: u64 },
    /// A watch is begun again after an error.
    Rewatch { kind: Kind, generation: u64 },
    /// An artefact was read.
    Artefact(String),
    /// It starts, or starts again.
    Start,
}

#[derive(Clone, Debug)]
pub(crate) enum AgentTick {
    /// The next step of a pass, or the next pass.
    Pass(u64),
    /// The running operation looks at the kernel again.
    Operation,
    /// What takes long is reported.
    Progress,
    /// A module has been pulled, or has not.
    Pulled,
    /// The watch has something to show.
    Watch { generation: u64 },
    /// The watch is begun again.
    Rewatch { generation: u64 },
    /// It starts, or starts again.
    Start,
}

#[derive(Clone, Debug)]
pub(crate) enum MachineTick {
    /// The machine has booted.
    Up { boot: u32 },
    /// The kubelet tells the API server of the boot.
    Kubelet { boot: u32 },
    /// The node controller has heard nothing for long enough.
    NotReady { outage: u32 },
    /// The network is back.
    Reachable { outage: u32 },
    /// The kernel gives up.
    Panic { boot: u32 },
    /// The kernel warns.
    Warn { boot: u32 },
    /// It joins the cluster.
    Joins,
    /// Its object can be read again.
    Readable,
}
