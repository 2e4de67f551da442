//! One node's agent. What it decides on is decided by the real code (`livepatch_agent::{decide, journal, truth, status,
//! verify, conclude, retry}` and the operations of `livepatch_kernel` on its fake kernel); the loop around it, which in the
//! real program waits for sockets, files and threads, is taken step by step here as `livepatch_agent::Agent` takes it.

mod conclude;
mod confirm;
mod load;
mod pass;
mod prepare;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use livepatch_agent::decide::JournalState;
use livepatch_agent::journal::{Failure, Journal};
use livepatch_agent::references::References;
use livepatch_agent::retry::Retries;
use livepatch_agent::watch::Desired;
use livepatch_crds::node::{Blocker, Grant};
use livepatch_crds::{NodeLivepatch, NodeLivepatchStatus};
use livepatch_module::Inspection;
use livepatch_operator::watch::seen::{NodeObjectContent, Seen};

use crate::api::ask::Answer;
use crate::api::server::Server;
use crate::coverage::{Death, Moment, Point};
use crate::ctx::Ctx;
use crate::event::{AgentTick, Caller, Event};
use crate::modules::Shelf;
use crate::seam::Seam;
use load::Working;
use prepare::Preparing;
use watch::Watch;

/// Limit of one call to the API server.
const CALL: Duration = Duration::from_secs(15);
/// Interval of reporting something that goes on for long.
const PROGRESS: Duration = Duration::from_secs(10);
/// How long several changes of the object are gathered into one pass.
const DEBOUNCE: Duration = Duration::from_millis(20);

/// What survives the agent's process, and the machine's power.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    /// The journal's text; `None` if there is none.
    pub journal: Option<String>,
    /// Modules by their SHA-256.
    pub store: BTreeMap<String, Arc<[u8]>>,
    /// It takes no writes.
    pub full: bool,
}

/// What an agent remembers between two passes.
#[derive(Debug)]
struct Memory {
    journal: JournalState,
    prepared: BTreeMap<String, Inspection>,
    retries: Retries,
    blockers: Vec<Blocker>,
    unreturned: BTreeSet<String>,
    references: References,
    reported: Option<Reported>,
    tidied: bool,
}

#[derive(Debug)]
struct Reported {
    uid: String,
    version: u64,
    status: NodeLivepatchStatus,
}

/// What it waits for.
#[derive(Debug, Default)]
enum Doing {
    /// The next pass.
    #[default]
    Resting,
    /// The next step of a pass.
    Stepping,
    Preparing(Box<Preparing>),
    Working(Box<Working>),
    Removing {
        name: String,
        unload: livepatch_kernel::operation::Unload,
    },
}

/// One agent process, or the place of one.
#[derive(Debug)]
pub(crate) struct Agent {
    pub machine: usize,
    pub node: String,
    pub life: u32,
    pub running: bool,
    pub watch: Watch,
    desired: Desired,
    memory: Memory,
    doing: Doing,
    /// A status on its way: its request, and what it says.
    reporting: Option<(u64, String, NodeLivepatchStatus)>,
    /// The pass ends when the status is answered.
    rest_after_report: Option<Duration>,
    steps: u32,
    /// Numbers the timers of passes: an older one is void.
    timer: u64,
    pub dying: Option<Death>,
    /// What it was told in the two live reads before the load it is about to begin.
    pub confirmed: Option<Confirmed>,
    /// The status it has just sent.
    pub just_said: Option<NodeLivepatchStatus>,
}

/// What the API server said when a grant was confirmed.
#[derive(Clone, Debug)]
pub(crate) struct Confirmed {
    pub at: Duration,
    pub grant: Grant,
}

/// Everything an agent can reach on its own machine.
pub(crate) struct Host<'a> {
    pub seam: &'a Seam,
    pub disk: &'a mut Disk,
    /// Length of the probation.
    pub settle: Duration,
    /// Why a person on the node stopped the agent.
    pub stop: Option<&'a str>,
}

impl Agent {
    pub fn new(machine: usize, node: &str) -> Self {
        Self {
            machine,
            node: node.to_owned(),
            life: 0,
            running: false,
            watch: Watch::default(),
            desired: Desired::Unknown,
            memory: Memory {
                journal: JournalState::Missing,
                prepared: BTreeMap::new(),
                retries: Retries::default(),
                blockers: Vec::new(),
                unreturned: BTreeSet::new(),
                references: References::default(),
                reported: None,
                tidied: false,
            },
            doing: Doing::Resting,
            reporting: None,
            rest_after_report: None,
            steps: 0,
            timer: 0,
            dying: None,
            confirmed: None,
            just_said: None,
        }
    }

    /// A new process: it knows what is on the disk.
    pub fn start(&mut self, ctx: &mut Ctx, host: &mut Host<'_>) {
        let (machine, node, life) = (self.machine, self.node.clone(), self.life);
        *self = Self::new(machine, &node);
        self.life = life;
        self.running = true;
        self.memory.journal = match &host.disk.journal {
            None => JournalState::Missing,
            Some(text) => match serde_json::from_str::<Journal>(text) {
                Ok(journal) => JournalState::Known(journal),
                Err(error) => JournalState::Unreadable(Failure::new("JournalUnreadable", &error.to_string())),
            },
        };
        ctx.say(|| format!("{node}: the agent starts"));
        self.begin_watch(ctx);
        self.pass_at(ctx, Duration::ZERO);
    }

    /// The process ends at once.
    pub fn kill(&mut self) {
        self.life += 1;
        self.running = false;
        self.dying = None;
        self.confirmed = None;
        self.doing = Doing::Resting;
    }

    pub fn tick(&mut self, ctx: &mut Ctx, server: &Server, shelf: &Shelf, host: &mut Host<'_>, tick: AgentTick) {
        match tick {
            AgentTick::Start => self.start(ctx, host),
            AgentTick::Pass(timer) if timer == self.timer => self.pass(ctx, shelf, host),
            AgentTick::Pass(_) => {}
            AgentTick::Operation => self.operate(ctx, host),
            AgentTick::Progress => self.progress(ctx, host),
            AgentTick::Pulled => self.pulled(ctx, shelf, host),
            AgentTick::Watch { generation } => self.watch_shows(ctx, server, generation),
            AgentTick::Rewatch { generation } => self.rewatch(ctx, generation),
        }
    }

    pub fn answered(&mut self, ctx: &mut Ctx, host: &mut Host<'_>, caller: Caller, id: u64, answer: Answer) {
        match caller {
            Caller::AgentList { generation, .. } => self.listed(ctx, generation, answer),
            _ if self.reporting.as_ref().is_some_and(|(asked, ..)| *asked == id) => self.reported(ctx, host, answer),
            _ => self.confirmation(ctx, host, id, answer),
        }
    }

    fn schedule(&self, ctx: &mut Ctx, after: Duration, tick: AgentTick) {
        let (machine, life) = (self.machine, self.life);
        ctx.clock
            .at(ctx.clock.now + after, Event::Agent { machine, life, tick });
    }

    /// The next step or pass, in place of any other that was asked for.
    fn pass_at(&mut self, ctx: &mut Ctx, after: Duration) {
        self.timer += 1;
        self.schedule(ctx, after, AgentTick::Pass(self.timer));
    }

    fn dies(&mut self, ctx: &mut Ctx, point: Point, moment: Moment) -> bool {
        if self.dying.is_none() {
            self.dying = ctx.point(self.machine, point, moment);
        }
        self.dying.is_some()
    }

    fn caller(&self) -> Caller {
        Caller::Agent {
            machine: self.machine,
            life: self.life,
        }
    }

    /// The journal, if it is known.
    pub fn journal(&self) -> Option<&Journal> {
        match &self.memory.journal {
            JournalState::Known(journal) => Some(journal),
            JournalState::Missing | JournalState::Unreadable(_) => None,
        }
    }
}

/// An object as the agent's client decodes it.
fn object_of(seen: &Seen<NodeObjectContent>) -> Desired {
    let Ok(content) = &seen.content else {
        return Desired::Unreadable;
    };
    let mut object = NodeLivepatch::new(&seen.name, content.spec.clone());
    object.metadata.uid = Some(seen.uid.clone());
    object.metadata.resource_version = Some(seen.version.to_string());
    object.metadata.generation = Some(seen.generation);
    object.status = (content.status != NodeLivepatchStatus::default()).then(|| content.status.clone());
    Desired::Object(Arc::new(object))
}
