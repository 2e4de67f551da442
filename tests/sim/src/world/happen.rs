//! Carries out the lines of a scenario.

use std::time::Duration;

use livepatch_kernel::Kernel as _;
use livepatch_operator::watch::seen::{NodeObjectContent, SetContent};
use livepatch_operator::watch::world::Kind;

use super::World;
use crate::event::{Event, OperatorTick};
use crate::scenario::Happening;

impl World {
    pub(super) fn happen(&mut self, happening: Happening) {
        self.ctx.say(|| format!("* {happening:?}"));
        let now = self.ctx.clock.now;
        match happening {
            Happening::KillOperator(operator) => self.kill_operator(operator),
            Happening::StopOperator(operator) => {
                if let Some(operator) = self.operators.get_mut(operator) {
                    operator.stop(&mut self.ctx);
                }
            }
            Happening::PauseOperator(operator, span) => {
                if let Some(operator) = self.operators.get_mut(operator) {
                    operator.paused_until = now + span;
                }
            }
            Happening::SilenceWatch(operator, kind, span) => {
                if let Some(operator) = self.operators.get_mut(operator) {
                    operator.silence(kind, now + span);
                }
            }
            Happening::BreakWatch(operator, kind) => self.with_operator(operator, kind, true),
            Happening::Reconnect(operator, kind) => self.with_operator(operator, kind, false),
            Happening::StallReplica(replica, span) => {
                if let Some(stalled) = self.stalled_until.get_mut(replica) {
                    *stalled = now + span;
                }
            }
            Happening::Trouble(trouble) => self.ctx.net.troubles.push(trouble),
            Happening::Arm(arm) => self.ctx.arms.push(arm),
            Happening::CreateSet(set) => self.create_set(set),
            Happening::DeleteSet(set) => self.delete_set(set),
            Happening::Revise(set, revision) => self.revise(set, revision),
            Happening::Strategy(set, field, value) => self.strategy(set, field, value),
            Happening::Pause(set) => self.pause(set),
            Happening::Resume(set) => self.resume(set),
            Happening::Abort(set) => self.abort(set),
            Happening::Exclude(set, machine) => {
                if let Some(name) = self.machines.get(machine).map(|machine| machine.name.clone()) {
                    self.exclude(set, &name);
                }
            }
            Happening::Retry(set) => self.retry(set),
            Happening::Promote(set, wave) => self.promote(set, &wave),
            Happening::RegistryAway(span) => self.shelf.away_until = now + span,
            Happening::RegistryDamaged(span) => self.shelf.damaged_until = now + span,
            Happening::Heal => self.heal(),
            Happening::Help => self.help(),
            other => self.happen_to_machine(other, now),
        }
    }

    fn with_operator(&mut self, operator: usize, kind: Kind, broken: bool) {
        let Some(operator) = self.operators.get_mut(operator).filter(|operator| operator.running) else {
            return;
        };
        if broken {
            operator.watch_failed(&mut self.ctx, kind);
        } else {
            operator.reconnect(&mut self.ctx, kind);
        }
    }

    fn happen_to_machine(&mut self, happening: Happening, now: Duration) {
        match happening {
            Happening::KillAgent(machine) => {
                if self.machines.get(machine).is_some_and(|machine| machine.agent.running) {
                    self.kill_agent(machine);
                }
            }
            Happening::SilenceAgent(machine, span) => {
                if let Some(machine) = self.machines.get_mut(machine) {
                    machine.agent.watch.silent_until = now + span;
                }
            }
            Happening::BreakAgentWatch(machine) => {
                if let Some(machine) = self.machines.get_mut(machine).filter(|machine| machine.agent.running) {
                    machine.agent.watch_failed(&mut self.ctx);
                }
            }
            Happening::PowerCut(machine, down) => self.power_cut(machine, down),
            Happening::Reboot(machine, down) => self.reboot(machine, down),
            Happening::Unreachable(machine, span) => self.unreachable(machine, span),
            Happening::Recreate(index, after) => {
                self.remove(index);
                if let Some(machine) = self.machines.get_mut(index) {
                    machine.make_anew();
                }
                self.checks.made_anew(index);
                self.ctx.clock.at(
                    now + after,
                    Event::Machine {
                        machine: index,
                        tick: crate::event::MachineTick::Joins,
                    },
                );
            }
            Happening::Remove(machine) => self.remove(machine),
            Happening::Join(machine) => self.join(machine),
            Happening::NewKernel(machine, build) => {
                if let Some(machine) = self.machines.get_mut(machine) {
                    machine.next_build = build;
                }
                self.reboot(machine, Duration::from_secs(30));
            }
            Happening::Label(machine, key, value) => self.label(machine, key, value),
            Happening::Skip(machine, skip) => self.skip(machine, skip),
            Happening::Unreadable(machine, span) => self.make_unreadable(machine, now + span),
            Happening::UnreadableSet(set) => self.hide_set(set),
            Happening::ReadableSet(set) => self.show_set(set),
            Happening::Touch(machine) => self.touch(machine),
            other => self.happen_inside(other, now),
        }
    }

    /// What happens on a machine itself.
    fn happen_inside(&mut self, happening: Happening, now: Duration) {
        let index = match &happening {
            Happening::Stop(index, _)
            | Happening::FailNext(index, ..)
            | Happening::Sleeper(index, ..)
            | Happening::Foreign(index, _)
            | Happening::Drift(index)
            | Happening::LostRace(index)
            | Happening::SlowCall(index, _)
            | Happening::DiskFull(index, _)
            | Happening::JournalLost(index)
            | Happening::JournalDamaged(index) => *index,
            _ => return,
        };
        let sets: Vec<String> = self.scenario.sets.iter().map(|set| set.name.clone()).collect();
        let Some(machine) = self.machines.get_mut(index) else {
            return;
        };
        machine.sync(now);
        let kernel = machine.seam.kernel.clone();
        match happening {
            Happening::Stop(_, stop) => machine.stop = stop.then(|| "/etc/livepatch/stop is there".to_owned()),
            Happening::FailNext(_, call, errno) => kernel.fail_next(call, errno, None),
            Happening::Sleeper(_, set, until) => {
                if let Some(set) = sets.get(set) {
                    machine.add_sleeper(&format!("{set}_function_0"), until);
                }
            }
            Happening::Foreign(_, replaces) => {
                let name = format!("foreign_{}", machine.foreign.len());
                if machine.up && machine.load_foreign(&name, replaces) && replaces {
                    machine.foreign.retain(|other| *other == name);
                    self.checks.disturbed(index);
                }
            }
            Happening::Drift(_) => {
                let ours = machine
                    .running_names()
                    .into_iter()
                    .find(|name| name.starts_with("set_"));
                if let Some(name) = ours
                    && kernel.set_enabled(&name, false).is_ok()
                {
                    self.checks.disturbed(index);
                }
            }
            Happening::LostRace(_) => kernel.complete_before_next_write(),
            Happening::SlowCall(_, span) => kernel.call_takes(span),
            Happening::DiskFull(_, full) => machine.disk.full = full,
            Happening::JournalLost(_) => {
                machine.disk.journal = None;
                machine.journal_lost = true;
                self.checks.journal_lost(index);
                self.kill_agent_of(index);
            }
            Happening::JournalDamaged(_) => {
                machine.disk.journal = Some("{".to_owned());
                machine.journal_lost = true;
                self.checks.journal_lost(index);
                self.kill_agent_of(index);
            }
            _ => {}
        }
    }

    fn kill_agent_of(&mut self, index: usize) {
        if self.machines.get(index).is_some_and(|machine| machine.agent.running) {
            self.kill_agent(index);
        }
    }

    /// Somebody writes a label to a node's object: another version of the same.
    fn touch(&mut self, index: usize) {
        let Some(machine) = self.machines.get(index) else {
            return;
        };
        let name = machine.name.clone();
        let Some(object) = self.server.objects.get(&name).cloned() else {
            return;
        };
        let before = self.server.version();
        self.server
            .replace_content::<NodeObjectContent>(&name, object.content.clone());
        self.replicate(before);
    }

    fn make_unreadable(&mut self, index: usize, until: Duration) {
        let Some(machine) = self.machines.get(index) else {
            return;
        };
        let name = machine.name.clone();
        let Some(object) = self.server.objects.get(&name).cloned() else {
            return;
        };
        let Ok(content) = &object.content else { return };
        self.hidden.push((name.clone(), object.uid.clone(), content.clone()));
        let before = self.server.version();
        self.server
            .replace_content::<NodeObjectContent>(&name, Err("a field of another version".to_owned()));
        self.replicate(before);
        let tick = crate::event::MachineTick::Readable;
        self.ctx.clock.at(until, Event::Machine { machine: index, tick });
    }

    /// Somebody stores a set with a field that no version of ours knows.
    fn hide_set(&mut self, index: usize) {
        let Some(name) = self.scenario.sets.get(index).map(|set| set.name.clone()) else {
            return;
        };
        let Some(set) = self.server.sets.get(&name).cloned() else {
            return;
        };
        let Ok(content) = &set.content else { return };
        self.hidden_sets.push((name.clone(), set.uid.clone(), content.clone()));
        let before = self.server.version();
        self.server
            .replace_content::<SetContent>(&name, Err("a field of another version".to_owned()));
        self.replicate(before);
    }

    fn show_set(&mut self, index: usize) {
        let Some(name) = self.scenario.sets.get(index).map(|set| set.name.clone()) else {
            return;
        };
        let before = self.server.version();
        for (hidden, uid, content) in std::mem::take(&mut self.hidden_sets) {
            if hidden != name {
                self.hidden_sets.push((hidden, uid, content));
            } else if self.server.sets.get(&name).is_some_and(|set| set.uid == uid) {
                self.server.replace_content::<SetContent>(&name, Ok(content));
            }
        }
        self.replicate(before);
    }

    /// What was made unreadable is as it was.
    pub(super) fn make_readable(&mut self, name: &str) {
        let before = self.server.version();
        for (hidden, uid, content) in std::mem::take(&mut self.hidden) {
            if hidden == name {
                if self.server.objects.get(name).is_some_and(|object| object.uid == uid) {
                    self.server.replace_content::<NodeObjectContent>(name, Ok(content));
                }
            } else {
                self.hidden.push((hidden, uid, content));
            }
        }
        self.replicate(before);
    }

    /// Nothing goes wrong any more.
    fn heal(&mut self) {
        let now = self.ctx.clock.now;
        self.ctx.net.troubles.clear();
        self.ctx.arms.clear();
        self.stalled_until = [now; crate::api::server::REPLICAS];
        self.shelf.away_until = now;
        self.shelf.damaged_until = now;
        for index in 0..self.operators.len() {
            if let Some(operator) = self.operators.get_mut(index) {
                operator.paused_until = now;
                for kind in Kind::ALL {
                    operator.silence(kind, now);
                    if operator.running {
                        // Whatever was late comes now.
                        operator.reconnect(&mut self.ctx, kind);
                    }
                }
                let (operator, life, tick) = (operator.id, operator.life, OperatorTick::Turn);
                self.ctx.clock.at(now, Event::Operator { operator, life, tick });
            }
        }
        for index in 0..self.machines.len() {
            self.heal_machine(index, now);
        }
        for index in 0..self.scenario.sets.len() {
            self.show_set(index);
        }
        self.help();
        self.healed = true;
    }

    fn heal_machine(&mut self, index: usize, now: Duration) {
        self.skip(index, false);
        let Some(machine) = self.machines.get_mut(index) else {
            return;
        };
        let name = machine.name.clone();
        machine.sync(now);
        machine.stop = None;
        machine.disk.full = false;
        machine.agent.watch.silent_until = now;
        machine.seam.kernel.wake("sleeper");
        machine.seam.kernel.call_takes(Duration::ZERO);
        machine.use_up_faults();
        if machine.agent.running {
            machine.agent.watch_failed(&mut self.ctx);
        }
        if machine.disk.journal.as_deref() == Some("{") {
            // A person has looked at the node, and found nothing that must be kept.
            machine.disk.journal = None;
            machine.agent.kill();
            let (life, tick) = (machine.agent.life, crate::event::AgentTick::Start);
            self.ctx.clock.at(
                now,
                Event::Agent {
                    machine: index,
                    life,
                    tick,
                },
            );
        }
        for foreign in std::mem::take(&mut machine.foreign) {
            // Whoever loaded it takes it out.
            _ = machine.seam.kernel.set_enabled(&foreign, false);
        }
        let reboots = std::mem::take(&mut machine.journal_lost);
        if !machine.reachable {
            machine.reachable = true;
            machine.outage += 1;
            if machine.up {
                self.tell_node(index, true);
            }
        }
        if reboots {
            // Without a journal nobody knows what is loaded: a person reboots the node.
            self.reboot(index, Duration::from_secs(20));
        }
        self.make_readable(&name);
    }
}
