//! What `status` answers. Reads the kernel through the seam, and the agent's journal.

use livepatch_agent::journal::{Journal, JournalFile};
use livepatch_agent::lock::HostLock;
use livepatch_agent::stop::StopSwitches;
use livepatch_kernel::{Kernel, KernelError, Livepatch, Lockdown, PatchedObject, Seen, Straggler};
use serde::Serialize;

use crate::cli::args::Place;
use crate::cli::host;

/// Most tasks listed.
const LISTED: usize = 16;

/// The host at one moment.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HostStatus {
    pub kernel: livepatch_kernel::Identity,
    pub boot_id: String,
    pub taints: Vec<TaintFlag>,
    pub settings: Settings,
    /// In load order where the kernel shows it, else by name.
    pub livepatches: Vec<Loaded>,
    /// Modules of livepatches that are no longer in use.
    pub leftovers: Vec<Leftover>,
    pub transition: Option<Transition>,
    pub agent: AgentStatus,
    /// What could not be seen, and why.
    pub unknown: Vec<Unknown>,
}

/// One taint of the kernel.
#[derive(Debug, Serialize)]
pub struct TaintFlag {
    pub letter: char,
    pub meaning: &'static str,
}

/// Settings that decide about loads; null where they cannot be seen.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Settings {
    pub modules_disabled: Option<bool>,
    pub signature_enforced: Option<bool>,
    pub lockdown: Option<Lockdown>,
    pub ftrace_enabled: Option<bool>,
    pub loadpin_enforced: Option<bool>,
    pub replace_sets: Option<bool>,
}

/// Where a livepatch stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum State {
    /// Every task runs the patched functions.
    Enabled,
    /// Tasks are switching to them.
    Patching,
    /// Tasks are switching back.
    Unpatching,
    /// Disabled, about to go.
    Disabled,
}

/// One livepatch.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Loaded {
    pub name: String,
    pub state: State,
    /// Null where the kernel does not show it (before 6.11).
    pub replace: Option<bool>,
    /// Null where the kernel does not show it (before 6.14).
    pub stack_order: Option<u32>,
    pub build_id: Option<String>,
    pub references: Option<u32>,
    /// The set that the agent of this host loaded it for; null for a livepatch that somebody else loaded.
    pub set: Option<String>,
    /// False in a transition, when the kernel lists functions of others here too.
    pub functions_reliable: bool,
    pub objects: Vec<PatchedObject>,
}

/// A module of a livepatch that is no longer in use.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Leftover {
    pub name: String,
    /// With references it was forced out: only a reboot removes it.
    pub references: u32,
    pub build_id: Option<String>,
}

/// The transition that is running: there is at most one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Transition {
    pub name: String,
    /// True on the way into effect, false on the way out of it.
    pub patching: bool,
    /// Tasks that have not switched; null where tasks cannot be seen.
    pub waiting_for: Option<usize>,
    /// Whether all tasks could be looked at.
    pub complete: bool,
    /// The first of them.
    pub tasks: Vec<Task>,
}

/// A task that has not switched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Task {
    pub pid: u32,
    pub tid: u32,
    pub comm: String,
    pub pod_uid: Option<String>,
    /// Kernel stack, topmost first; null where it cannot be seen.
    pub stack: Option<Vec<String>>,
}

/// The agent of this host, as far as it is seen without asking it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentStatus {
    /// Whether an agent, or a command that changes the host, holds the lock of this host.
    pub lock_held: Option<bool>,
    /// Who holds it.
    pub holder: Option<String>,
    /// Why nothing is begun on this host, if a person said so here.
    pub stopped: Option<String>,
    /// Where journal, store and lock are.
    pub state_dir: String,
}

/// Something that could not be seen.
#[derive(Debug, Serialize)]
pub struct Unknown {
    pub what: String,
    pub why: String,
}

/// Collects what could not be seen.
#[derive(Default)]
struct Blind(Vec<Unknown>);

impl Blind {
    fn value<T>(&mut self, what: impl Into<String>, seen: Seen<T>) -> Option<T> {
        match seen {
            Seen::Known(value) => Some(value),
            Seen::Unknown(why) => {
                self.0.push(Unknown { what: what.into(), why });
                None
            }
        }
    }
}

/// Looks.
pub fn look(kernel: &dyn Kernel, place: &Place) -> Result<HostStatus, KernelError> {
    let mut blind = Blind::default();
    let policy = kernel.policy();
    let settings = Settings {
        modules_disabled: blind.value("settings.modulesDisabled", policy.modules_disabled),
        signature_enforced: blind.value("settings.signatureEnforced", policy.signature_enforced),
        lockdown: blind.value("settings.lockdown", policy.lockdown),
        ftrace_enabled: blind.value("settings.ftraceEnabled", policy.ftrace_enabled),
        loadpin_enforced: blind.value("settings.loadpinEnforced", policy.loadpin_enforced),
        replace_sets: blind.value("settings.replaceSets", policy.replace_set),
    };
    let journal = journal(&mut blind, place);
    let livepatches = kernel
        .livepatches()?
        .into_iter()
        .map(|livepatch| loaded(&mut blind, livepatch, journal.as_ref()))
        .collect();
    let leftovers = kernel.leftovers()?.into_iter().map(|module| Leftover {
        references: module.refcount,
        build_id: blind
            .value(format!("leftovers.{}.buildId", module.name), module.build_id)
            .flatten()
            .map(Into::into),
        name: module.name,
    });
    let leftovers = leftovers.collect();
    let (transition, why) = transition(kernel)?;
    if let Some(why) = why {
        let what = "transition.tasks".to_owned();
        blind.0.push(Unknown { what, why });
    }
    Ok(HostStatus {
        kernel: kernel.identity()?,
        boot_id: kernel.boot_id()?.0,
        taints: kernel
            .taints()?
            .flags()
            .map(|taint| TaintFlag {
                letter: taint.letter,
                meaning: taint.meaning,
            })
            .collect(),
        settings,
        livepatches,
        leftovers,
        transition,
        agent: agent(&mut blind, place),
        unknown: blind.0,
    })
}

/// The transition that is running with the tasks it waits for, and why these are not seen if they are not.
pub fn transition(kernel: &dyn Kernel) -> Result<(Option<Transition>, Option<String>), KernelError> {
    let Some(name) = kernel.in_transition()? else {
        return Ok((None, None));
    };
    let Some(standing) = kernel.standing(&name)?.filter(|standing| standing.transition) else {
        return Ok((None, None));
    };
    let mut found = Transition {
        name,
        patching: standing.enabled,
        waiting_for: None,
        complete: false,
        tasks: Vec::new(),
    };
    let mut seen = kernel.stragglers(standing.enabled, LISTED);
    // Turned round while its tasks were looked at: who was on the way is in the way now.
    if let Some(now) = kernel
        .standing(&found.name)?
        .filter(|now| now.transition && *now != standing)
    {
        found.patching = now.enabled;
        seen = kernel.stragglers(now.enabled, LISTED);
    }
    match seen {
        Seen::Known(stragglers) => {
            found.waiting_for = Some(stragglers.seen);
            found.complete = stragglers.complete;
            found.tasks = stragglers.listed.into_iter().map(task).collect();
            Ok((Some(found), None))
        }
        Seen::Unknown(why) => Ok((Some(found), Some(why))),
    }
}

fn task(straggler: Straggler) -> Task {
    Task {
        pid: straggler.pid,
        tid: straggler.tid,
        comm: straggler.comm,
        pod_uid: straggler.pod_uid,
        stack: straggler.stack.into_known(),
    }
}

fn loaded(blind: &mut Blind, livepatch: Livepatch, journal: Option<&Journal>) -> Loaded {
    let state = match (livepatch.standing.enabled, livepatch.standing.transition) {
        (true, false) => State::Enabled,
        (true, true) => State::Patching,
        (false, true) => State::Unpatching,
        (false, false) => State::Disabled,
    };
    let build_id = blind
        .value(format!("livepatches.{}.buildId", livepatch.name), livepatch.build_id)
        .flatten()
        .map(String::from);
    let set = build_id.as_deref().and_then(|build_id| {
        let entries = journal.map_or(&[][..], |journal| &journal.entries);
        entries
            .iter()
            .find(|entry| entry.is_in_effect() && entry.module == livepatch.name && entry.build_id == build_id)
            .map(|entry| entry.set.clone())
    });
    Loaded {
        state,
        replace: livepatch.replace,
        stack_order: livepatch.stack_order,
        build_id,
        references: blind.value(format!("livepatches.{}.references", livepatch.name), livepatch.refcount),
        set,
        functions_reliable: livepatch.functions_reliable,
        objects: livepatch.objects,
        name: livepatch.name,
    }
}

fn journal(blind: &mut Blind, place: &Place) -> Option<Journal> {
    let read = JournalFile::in_directory(&place.state_dir).read();
    let seen = read.map_or_else(
        |error| Seen::Unknown(crate::cli::chain(error.reason(), &error)),
        Seen::Known,
    );
    blind.value("livepatches.*.set", seen).flatten()
}

fn agent(blind: &mut Blind, place: &Place) -> AgentStatus {
    let held = HostLock::is_held(&place.state_dir).map_or_else(|error| Seen::Unknown(error.to_string()), Seen::Known);
    let proc = host::paths().proc;
    let lock_held = blind.value("agent.lockHeld", held);
    AgentStatus {
        lock_held,
        holder: (lock_held == Some(true))
            .then(|| host::lock_holder(&HostLock::file(&place.state_dir), &proc))
            .flatten(),
        stopped: StopSwitches {
            config: place.config_dir.clone(),
            proc,
        }
        .read(),
        state_dir: place.state_dir.display().to_string(),
    }
}
