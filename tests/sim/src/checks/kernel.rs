//! What must hold of everything that is done to a kernel, and of what is said of one.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use livepatch_agent::journal::{Journal, Phase};
use livepatch_crds::NodeLivepatchStatus;
use livepatch_kernel::Kernel as _;

use super::Checks;
use crate::api::server::Server;
use crate::coverage::{Moment, Point};
use crate::ctx::Ctx;
use crate::event::{Event, MachineTick};
use crate::machine::Machine;
use crate::modules::{Conduct, Shelf};
use crate::seam::Act;

/// What was confirmed longer ago is not fresh: two calls of 15 s, and the beginning of the load.
const FRESH: Duration = Duration::from_secs(35);

/// Most calls of one attempt in one boot: what passes is tried again, and an agent that dies tries three times.
const MOST_CALLS: u32 = 15;

/// What is remembered of a machine's boots.
#[derive(Debug, Default)]
pub(crate) struct Boots {
    /// Loads in the present boot that the kernel agreed to, by module.
    loads: BTreeMap<String, u32>,
    /// Loads in the present boot that were asked for, by module and attempt.
    asked: BTreeMap<(String, i32), u32>,
    /// Modules that ran when the kernel panicked for them, with the attempt: rollout and number.
    panicked: BTreeSet<(String, String, i32)>,
    /// The attempt for which each module was last loaded.
    attempts: BTreeMap<String, (String, i32)>,
    /// UID of the set for which it was: another set of the same name is another attempt.
    sets: BTreeMap<String, String>,
    /// Its journal was lost or damaged: what was in it is nobody's fault.
    journal_lost: bool,
    /// Somebody else took livepatches out in this boot.
    disturbed: bool,
    pub past: Past,
}

/// What became of a machine's kernels, whenever.
#[derive(Debug, Default)]
pub(crate) struct Past {
    /// A livepatch of ours took the kernel down.
    pub panicked: bool,
    /// It lost its power, or its kernel gave up.
    pub ended: bool,
    /// A livepatch of ours made the kernel warn.
    pub warned: bool,
}

impl Checks {
    /// An agent has taken a step.
    pub fn agent_acted(&mut self, ctx: &mut Ctx, server: &Server, shelf: &Shelf, machine: &mut Machine) {
        let acts = std::mem::take(&mut machine.seam.heard().acts);
        for act in acts {
            ctx.coverage.visit(act.point, Moment::Before, None);
            ctx.coverage.visit(act.point, Moment::After, None);
            let name = &machine.name;
            ctx.say(|| {
                let how = if act.done { "" } else { " (refused)" };
                format!("{name}: {:?} {}{how}", act.point, act.module)
            });
            self.ours(shelf, machine, &act);
            if act.point == Point::FinitModule {
                self.loaded(ctx, server, shelf, machine, &act);
            }
        }
        self.foreign_stands(machine);
        if let Some(said) = machine.agent.just_said.take() {
            self.honest(machine, &said);
        }
    }

    /// Nothing is done to what is not ours.
    fn ours(&mut self, shelf: &Shelf, machine: &Machine, act: &Act) {
        if !shelf.modules().any(|module| module.view.name == act.module) {
            self.violated("I7", || {
                format!("{}: {:?} of {}, which is not ours", machine.name, act.point, act.module)
            });
        }
    }

    fn foreign_stands(&mut self, machine: &Machine) {
        if machine.foreign.is_empty() || !machine.up {
            return;
        }
        let running = machine.enabled_names();
        if let Some(gone) = machine.foreign.iter().find(|name| !running.contains(name)) {
            self.violated("I7", || {
                format!("{}: {gone} is gone, and nobody but the agent was there", machine.name)
            });
        }
    }

    /// A load was asked for.
    fn loaded(&mut self, ctx: &mut Ctx, server: &Server, shelf: &Shelf, machine: &Machine, act: &Act) {
        let node = machine.name.clone();
        let Some(module) = shelf.by_bytes(&act.image) else {
            return self.violated("I3", || {
                format!("{node}: {} is loaded from bytes that nobody published", act.module)
            });
        };
        let kernel = machine.seam.identity().ok().and_then(|identity| identity.build_id);
        if module.view.kernel_build_id.as_deref() != kernel.as_ref().map(livepatch_kernel::BuildId::as_str) {
            self.violated("R1", || format!("{node}: {} is for another kernel build", act.module));
        }
        if let Some(running) = &act.during_transition {
            // The kernel is asked anew only by who wants to put back what a lost race took.
            self.violated("R10", || {
                format!("{node}: {} is loaded while {running} is in transition", act.module)
            });
        }
        let journal = machine.disk.journal.as_deref();
        let journal: Option<Journal> = journal.and_then(|text| serde_json::from_str(text).ok());
        let entry = journal.and_then(|journal| {
            let boot = machine.boot_id();
            let mut entries = journal.entries.into_iter();
            entries.find(|entry| {
                let is_module = entry.module == act.module && entry.pair.sha256 == module.view.sha256;
                is_module && entry.boot.0 == boot && matches!(entry.phase, Phase::Starting { .. })
            })
        });
        let Some(entry) = entry else {
            return self.violated("R11", || {
                format!("{node}: {} is loaded without an intent on the disk", act.module)
            });
        };
        let restored = matches!(entry.phase, Phase::Starting { again: true });
        // What had taken effect when its cancel came too late is brought back like anything else that was in effect.
        let repaired = machine.seam.kernel.lost_race(&act.module);
        if !restored && !repaired {
            self.granted(ctx, server, machine, act);
        }
        let attempt = (entry.rollout.clone(), entry.attempt);
        let Some(boots) = self.boots.get_mut(machine.index) else {
            return;
        };
        let panicked = boots
            .panicked
            .contains(&(act.module.clone(), attempt.0.clone(), attempt.1));
        let lost = boots.journal_lost;
        boots.attempts.insert(act.module.clone(), attempt.clone());
        let former = boots.sets.insert(act.module.clone(), entry.set_uid.clone());
        if former.is_some_and(|former| former != entry.set_uid) {
            boots.loads.remove(&act.module);
            boots.asked.retain(|(name, _), _| *name != act.module);
        }
        let asked = boots.asked.entry((act.module.clone(), attempt.1)).or_default();
        *asked += 1;
        let often = *asked > MOST_CALLS && !boots.journal_lost;
        if panicked && !lost {
            self.violated("R12", || {
                format!(
                    "{node}: {} is loaded again after the kernel panicked with it",
                    act.module
                )
            });
        }
        if often {
            self.violated("I6", || {
                format!("{node}: {} is loaded again and again in one attempt", act.module)
            });
        }
        if !act.done {
            return;
        }
        let Some(boots) = self.boots.get_mut(machine.index) else {
            return;
        };
        if module.fake.replace {
            // What it replaces may come back one day.
            boots.loads.retain(|name, _| *name == act.module);
        }
        let loads = boots.loads.entry(act.module.clone()).or_default();
        *loads += 1;
        let again = *loads > 1 && !boots.disturbed && !boots.journal_lost;
        if again && !restored && !repaired && !entry_is_retried(boots, &act.module) {
            self.violated("I6", || format!("{node}: {} is loaded twice in one boot", act.module));
        }
        self.slots.begun(&node, &act.module);
        let (index, boot, now) = (machine.index, machine.boot, ctx.clock.now);
        let tick = match module.conduct {
            Conduct::Panics(after) => Some((after, MachineTick::Panic { boot })),
            Conduct::Warns(after) => Some((after, MachineTick::Warn { boot })),
            Conduct::Good | Conduct::Refused => None,
        };
        if let Some((after, tick)) = tick {
            ctx.clock.at(now + after, Event::Machine { machine: index, tick });
        }
    }

    /// A new load has a grant that was there, under the leadership that was the present one, a moment ago.
    fn granted(&mut self, ctx: &Ctx, server: &Server, machine: &Machine, act: &Act) {
        let (now, node) = (ctx.clock.now, &machine.name);
        let from = now.saturating_sub(FRESH);
        let versions = server.objects.since(node, from);
        let contents: Vec<_> = versions
            .iter()
            .flatten()
            .filter_map(|object| object.content.as_ref().ok())
            .collect();
        let mut grants = contents
            .iter()
            .flat_map(|content| content.spec.livepatches.iter().map(move |grant| (content, grant)))
            .filter(|(_, grant)| grant.module.name == act.module)
            .peekable();
        if grants.peek().is_none() {
            return self.violated("R3", || {
                format!("{node}: {} is loaded, and no grant of it was stored", act.module)
            });
        }
        let current = |epoch: &str| epoch == self.epoch || self.ended.get(epoch).is_some_and(|ended| *ended >= from);
        let standing: Vec<_> = grants.filter(|(_, grant)| current(&grant.epoch)).collect();
        if standing.is_empty() {
            return self.violated("R3", || {
                format!("{node}: {} is loaded under a leadership that has ended", act.module)
            });
        }
        if standing.iter().all(|(content, _)| !content.spec.hold.is_empty()) {
            return self.violated("R18", || {
                format!("{node}: {} is loaded although the node is held", act.module)
            });
        }
        self.was_allowed(machine.index, machine.agent.life, node, act);
        let confirmed = machine.agent.confirmed.as_ref();
        if !confirmed.is_some_and(|confirmed| confirmed.at >= from && confirmed.grant.module.name == act.module) {
            self.violated("R3", || {
                format!("{node}: {} is loaded without a look at the API server", act.module)
            });
        }
    }

    /// A status says what the kernel says.
    fn honest(&mut self, machine: &Machine, said: &NodeLivepatchStatus) {
        let node = &machine.name;
        if said.boot_id.is_empty() {
            return;
        }
        if said.boot_id != machine.boot_id() {
            return self.violated("R16", || format!("{node} speaks of boot {}", said.boot_id));
        }
        for one in said.loaded.iter().filter(|one| one.enabled && !one.transition) {
            if !machine.runs(&one.build_id) {
                self.violated("R16", || {
                    format!("{node} says that {} is in effect, and it is not", one.module)
                });
            }
        }
    }

    /// A machine lost its power, or its kernel gave up.
    pub fn boot_ended(&mut self, shelf: &Shelf, machine: &Machine, panicked: bool) {
        let panics = |name: &String| {
            let mut modules = shelf.modules();
            modules.any(|module| module.view.name == *name && matches!(module.conduct, Conduct::Panics(_)))
        };
        let running: Vec<String> = machine.enabled_names().into_iter().filter(panics).collect();
        let Some(boots) = self.boots.get_mut(machine.index) else {
            return;
        };
        boots.past.panicked |= panicked;
        boots.past.ended = true;
        if panicked {
            for module in running {
                if let Some((rollout, attempt)) = boots.attempts.get(&module).cloned() {
                    boots.panicked.insert((module, rollout, attempt));
                }
            }
        }
        boots.loads.clear();
        boots.asked.clear();
        boots.disturbed = false;
    }

    /// A kernel warned for a livepatch.
    pub fn warned(&mut self, machine: usize) {
        if let Some(boots) = self.boots.get_mut(machine) {
            boots.past.warned = true;
        }
    }

    /// What became of a machine's kernels.
    pub(super) fn past_of(&self, machine: usize) -> Option<&Past> {
        self.boots.get(machine).map(|boots| &boots.past)
    }

    /// Another machine stands in its place.
    pub fn made_anew(&mut self, machine: usize) {
        if let Some(boots) = self.boots.get_mut(machine) {
            *boots = Boots::default();
        }
    }

    /// Somebody else took livepatches out.
    pub fn disturbed(&mut self, machine: usize) {
        if let Some(boots) = self.boots.get_mut(machine) {
            boots.disturbed = true;
        }
    }

    /// The journal is no more.
    pub fn journal_lost(&mut self, machine: usize) {
        if let Some(boots) = self.boots.get_mut(machine) {
            boots.journal_lost = true;
        }
    }
}

/// A load that was taken back, or failed, may be tried again by a person.
fn entry_is_retried(boots: &Boots, module: &str) -> bool {
    boots.attempts.get(module).is_some_and(|(_, attempt)| *attempt > 1)
}

impl super::slots::Slots {
    /// An agent has acted on a grant.
    fn begun(&mut self, node: &str, module: &str) {
        for ((of, _), slot) in &mut self.all {
            if of == node && slot.grant.module.name == module {
                slot.begun = true;
            }
        }
    }
}
