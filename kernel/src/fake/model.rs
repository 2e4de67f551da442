//! The state of the fake kernel and how it moves with time. No IO.
//!
//! Behaviours are those of kernel/livepatch/{core,transition,state}.c, 6.1 to 7.2. Each is observed on real kernels by
//! a case of [`crate::cases`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use nix::errno::Errno;

use super::module::{FakeModule, FakeTask};
use crate::blockers::{Straggler, Stragglers};
use crate::clock::BootTime;
use crate::error::Call;
use crate::identity::{BootId, BuildId, Identity};
use crate::policy::{Lockdown, Policy};
use crate::seen::Seen;
use crate::state::{Livepatch, LoadedModule, ModuleState, PatchedObject, Standing};
use crate::taints::Taints;

/// The kernel retries a transition once a second.
const RETRY: Duration = Duration::from_secs(1);

/// Freeing a disabled or replaced livepatch is left to a workqueue: its entry and its reference go a little later.
const FREE_DELAY: Duration = Duration::from_millis(20);

#[derive(Debug)]
pub(super) struct Model {
    pub now: BootTime,
    pub boot_id: BootId,
    pub identity: Identity,
    pub taints: Taints,
    pub policy: Policy,
    /// Whether sysfs shows `replace` (6.11) and `stack_order` (6.14).
    pub shows: (bool, bool),
    pub images: Vec<(Vec<u8>, FakeModule)>,
    pub modules: BTreeMap<String, Loaded>,
    /// In load order.
    pub patches: Vec<Patch>,
    pub transition: Option<Transition>,
    frees: Vec<(BootTime, String)>,
    pub tasks: Vec<FakeTask>,
    /// Functions with another IPMODIFY user.
    pub held: BTreeSet<String>,
    pub log: Vec<String>,
    pub log_readable: bool,
    pub tasks_visible: bool,
    pub faults: VecDeque<(Call, Errno, Option<String>)>,
    pub call_takes: Duration,
    pub settle: Duration,
    pub free_delay: Duration,
    pub races: u32,
    /// Livepatches whose cancel lost such a race.
    pub raced: BTreeSet<String>,
    pub refuse_write: Option<(u32, Errno)>,
    /// Writes and calls in the order they were made, for tests.
    pub calls: Vec<String>,
}

#[derive(Debug, Clone)]
pub(super) struct Loaded {
    pub refcount: u32,
    pub livepatch: bool,
    pub build_id: Option<BuildId>,
}

#[derive(Debug, Clone)]
pub(super) struct Patch {
    pub module: FakeModule,
    pub enabled: bool,
    /// Disabled or replaced, its entry not yet removed.
    pub dying: bool,
}

#[derive(Debug)]
pub(super) struct Transition {
    pub patch: String,
    pub patching: bool,
    pub next_try: BootTime,
    /// Pids that have not switched.
    pub stuck: BTreeSet<u32>,
}

impl Model {
    pub fn new() -> Self {
        let known = |value| Seen::Known(value);
        Self {
            now: BootTime::from_nanos(60_000_000_000),
            boot_id: BootId("00000000-0000-4000-8000-000000000001".to_owned()),
            identity: Identity {
                release: "6.12.0-fake".to_owned(),
                version: "#1 SMP".to_owned(),
                architecture: "x86_64".to_owned(),
                build_id: BuildId::from_bytes(&[0xfa; 20]).ok(),
            },
            taints: Taints(0),
            policy: Policy {
                modules_disabled: known(false),
                signature_enforced: known(false),
                lockdown: Seen::Known(Lockdown::None),
                ftrace_enabled: known(true),
                loadpin_enforced: known(false),
                replace_set: known(false),
            },
            shows: (true, false),
            images: Vec::new(),
            modules: BTreeMap::new(),
            patches: Vec::new(),
            transition: None,
            frees: Vec::new(),
            tasks: Vec::new(),
            held: BTreeSet::new(),
            log: Vec::new(),
            log_readable: true,
            tasks_visible: true,
            faults: VecDeque::new(),
            call_takes: Duration::ZERO,
            settle: RETRY,
            free_delay: FREE_DELAY,
            races: 0,
            raced: BTreeSet::new(),
            refuse_write: None,
            calls: Vec::new(),
        }
    }

    pub fn log(&mut self, line: &str) {
        let time = self.now.as_nanos() / 1000;
        self.log
            .push(format!("<5>[{:5}.{:06}] {line}", time / 1_000_000, time % 1_000_000));
    }

    pub fn fault(&mut self, call: Call) -> Result<(), Errno> {
        let Some(index) = self.faults.iter().position(|(of, ..)| *of == call) else {
            return Ok(());
        };
        let Some((_, errno, line)) = self.faults.remove(index) else {
            return Ok(());
        };
        if let Some(line) = line {
            self.log(&line);
        }
        Err(errno)
    }

    /// Lets time pass, with everything that happens on the way.
    pub fn advance(&mut self, span: Duration) {
        let end = self.now + span;
        loop {
            let try_at = self.transition.as_ref().map(|t| t.next_try);
            let free_at = self.frees.first().map(|(at, _)| *at);
            let Some(at) = [try_at, free_at].into_iter().flatten().min().filter(|at| *at <= end) else {
                break;
            };
            self.now = self.now.max(at);
            if free_at == Some(at) {
                let (_, name) = self.frees.remove(0);
                self.free(&name);
            } else {
                self.try_complete();
            }
        }
        self.now = end;
    }

    fn free(&mut self, name: &str) {
        self.patches.retain(|patch| patch.module.name != name);
        if let Some(module) = self.modules.get_mut(name) {
            module.refcount = module.refcount.saturating_sub(1);
        }
    }

    fn try_complete(&mut self) {
        let now = self.now;
        let awake: BTreeSet<u32> = self
            .tasks
            .iter()
            .filter(|task| task.until.is_some_and(|until| until <= now))
            .map(|task| task.pid)
            .collect();
        let Some(transition) = &mut self.transition else { return };
        transition.stuck.retain(|pid| !awake.contains(pid));
        if transition.stuck.is_empty() {
            self.complete();
        } else {
            transition.next_try = transition.next_try + RETRY;
        }
    }

    /// Ends the transition at once, whether or not tasks are stuck.
    pub fn complete(&mut self) {
        let Some(transition) = self.transition.take() else {
            return;
        };
        let name = transition.patch;
        let word = if transition.patching { "patching" } else { "unpatching" };
        self.log(&format!("livepatch: '{name}': {word} complete"));
        let replaces = transition.patching
            && self
                .patches
                .iter()
                .any(|patch| patch.module.name == name && patch.module.replace);
        // Only those before it in the list: `klp_unpatch_replaced_patches()` returns when it comes to itself, so that one
        // whose disabling is reversed does not throw out what was loaded after it (kernel/livepatch/core.c, 5.1-7.2).
        let own = self.patches.iter().position(|patch| patch.module.name == name);
        for (index, patch) in self.patches.iter_mut().enumerate() {
            let itself = patch.module.name == name;
            let earlier = own.is_some_and(|own| index < own);
            if (itself && !transition.patching) || (earlier && replaces && !patch.dying) {
                patch.enabled = false;
                patch.dying = true;
                self.frees.push((self.now + self.free_delay, patch.module.name.clone()));
            }
        }
    }

    /// Ends a transition by force.
    pub fn force(&mut self, name: &str) {
        let Some(transition) = self.transition.as_ref().filter(|t| t.patch == name) else {
            return;
        };
        let patching = transition.patching;
        self.log("livepatch: forcing remaining tasks to the patched state");
        let replaces = patching
            && self
                .patches
                .iter()
                .any(|patch| patch.module.name == name && patch.module.replace);
        for patch in &self.patches {
            let removed = if patch.module.name == name { !patching } else { replaces };
            if removed && let Some(module) = self.modules.get_mut(&patch.module.name) {
                module.refcount += 1;
            }
        }
        self.complete();
    }

    pub fn effective(&self, function: &str) -> Option<String> {
        let patches = self.patches.iter().rev().filter(|patch| !patch.dying);
        patches
            .filter(|patch| patch.module.has_function(function))
            .map(|patch| patch.module.name.clone())
            .next()
    }

    pub fn standing(&self, name: &str) -> Option<Standing> {
        let patch = self.patches.iter().find(|patch| patch.module.name == name)?;
        let transition = self.transition.as_ref().is_some_and(|t| t.patch == name);
        Some(Standing {
            enabled: patch.enabled,
            transition,
        })
    }

    pub fn livepatches(&self) -> Vec<Livepatch> {
        let listed = self.patches.iter().enumerate().filter_map(|(index, patch)| {
            let name = patch.module.name.clone();
            let standing = self.standing(&name)?;
            Some(Livepatch {
                standing,
                replace: self.shows.0.then_some(patch.module.replace),
                stack_order: self.shows.1.then(|| u32::try_from(index + 1).unwrap_or(u32::MAX)),
                objects: self.objects(patch, standing.transition),
                functions_reliable: !standing.transition,
                build_id: Seen::Known(patch.module.build_id.clone()),
                refcount: self
                    .modules
                    .get(&name)
                    .map_or_else(|| Seen::unknown("module gone"), |module| Seen::Known(module.refcount)),
                name,
            })
        });
        let mut all: Vec<Livepatch> = listed.collect();
        all.sort_by(|a, b| (a.stack_order, &a.name).cmp(&(b.stack_order, &b.name)));
        all
    }

    /// During a replacing transition the functions that will no longer be patched are listed under the new livepatch.
    fn objects(&self, patch: &Patch, transition: bool) -> Vec<PatchedObject> {
        let mut objects = patch.module.objects.clone();
        if transition && patch.module.replace && patch.enabled {
            for (object, function) in self.patches.iter().flat_map(|other| other.module.functions()) {
                match objects.iter_mut().find(|own| own.name == object) {
                    Some(own) if own.functions.contains(function) => {}
                    Some(own) => own.functions.push(function.clone()),
                    None => objects.push(PatchedObject {
                        name: object.to_owned(),
                        patched: Some(true),
                        functions: vec![function.clone()],
                    }),
                }
            }
        }
        for object in &mut objects {
            object.functions.sort();
        }
        objects.sort_by(|a, b| a.name.cmp(&b.name));
        objects
    }

    pub fn module(&self, name: &str) -> Option<LoadedModule> {
        let module = self.modules.get(name)?;
        Some(LoadedModule {
            name: name.to_owned(),
            state: ModuleState::Live,
            refcount: module.refcount,
            livepatch: Seen::Known(module.livepatch),
            build_id: Seen::Known(module.build_id.clone()),
        })
    }

    pub fn stragglers(&self, target: bool, limit: usize) -> Stragglers {
        let pids = self
            .transition
            .as_ref()
            .map(|t| self.not_at(t, target))
            .unwrap_or_default();
        let listed = self
            .tasks
            .iter()
            .filter(|task| pids.contains(&task.pid))
            .map(|task| Straggler {
                pid: task.pid,
                tid: task.pid,
                comm: task.comm.clone(),
                pod_uid: task.pod_uid.clone(),
                stack: Seen::unknown("stack not permitted"),
            });
        Stragglers {
            seen: pids.len(),
            listed: listed.take(limit).collect(),
            unreadable: 0,
            complete: true,
        }
    }

    /// Who is not at the target: the stuck ones if that is where the transition goes, the others if it is not.
    fn not_at(&self, transition: &Transition, target: bool) -> BTreeSet<u32> {
        if transition.patching == target {
            transition.stuck.clone()
        } else {
            self.tasks
                .iter()
                .map(|task| task.pid)
                .filter(|pid| !transition.stuck.contains(pid))
                .collect()
        }
    }
}
