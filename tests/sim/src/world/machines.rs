//! What happens to machines, and what the kubelet and the node controller tell of it.

use std::time::Duration;

use livepatch_crds::SKIP_LABEL;
use livepatch_operator::watch::seen::NodeContent;

use super::World;
use crate::event::{AgentTick, Event, MachineTick, OperatorTick};

/// The node controller gives a node up after that long.
const GRACE: Duration = Duration::from_secs(40);

impl World {
    pub(super) fn kill_operator(&mut self, index: usize) {
        let Some(operator) = self.operators.get_mut(index) else {
            return;
        };
        if !operator.running {
            return;
        }
        self.ctx.say(|| format!("operator {index} is gone"));
        operator.kill();
        let life = operator.life;
        let after = self.ctx.between(Duration::from_millis(500), Duration::from_secs(40));
        let (operator, tick) = (index, OperatorTick::Start);
        let starts = Event::Operator { operator, life, tick };
        self.ctx.clock.at(self.ctx.clock.now + after, starts);
    }

    pub(super) fn kill_agent(&mut self, index: usize) {
        let Some(machine) = self.machines.get_mut(index) else {
            return;
        };
        machine.agent.kill();
        let name = &machine.name;
        self.ctx.say(|| format!("{name}: the agent is gone"));
        let life = machine.agent.life;
        let after = self.ctx.between(Duration::from_millis(500), Duration::from_secs(30));
        let (machine, tick) = (index, AgentTick::Start);
        let starts = Event::Agent { machine, life, tick };
        self.ctx.clock.at(self.ctx.clock.now + after, starts);
    }

    /// The machine joins the cluster for the first time, or as another one under its name.
    pub(super) fn join(&mut self, index: usize) {
        let (Some(machine), Some(plan)) = (self.machines.get_mut(index), self.scenario.machines.get(index)) else {
            return;
        };
        if machine.up || self.server.nodes.get(&machine.name).is_some() {
            return;
        }
        let content = NodeContent {
            labels: plan.labels.clone(),
            boot_id: String::new(),
            ready: false,
            linux: true,
        };
        let name = machine.name.clone();
        self.ctx.say(|| format!("{name} joins"));
        let before = self.server.version();
        let wall = self.ctx.clock.wall(jiff::SignedDuration::ZERO);
        _ = self.server.make(&name, wall, content);
        self.replicate(before);
        self.boot(index);
    }

    fn boot(&mut self, index: usize) {
        let Some(machine) = self.machines.get_mut(index) else {
            return;
        };
        machine.boot(self.ctx.clock.now, &self.shelf);
        let (boot, life, name, build) = (machine.boot, machine.agent.life, machine.name.clone(), machine.build);
        self.ctx.say(|| format!("{name} boots kernel {build}, boot {boot}"));
        let now = self.ctx.clock.now;
        let kubelet = self.ctx.between(Duration::from_secs(1), Duration::from_secs(15));
        let agent = self.ctx.between(Duration::from_secs(1), Duration::from_secs(25));
        let tick = MachineTick::Kubelet { boot };
        self.ctx
            .clock
            .at(now + kubelet, Event::Machine { machine: index, tick });
        let tick = AgentTick::Start;
        self.ctx.clock.at(
            now + agent,
            Event::Agent {
                machine: index,
                life,
                tick,
            },
        );
    }

    /// The machine is shut down in good order, and comes back.
    pub(super) fn reboot(&mut self, index: usize, down: Duration) {
        if let Some(machine) = self.machines.get_mut(index).filter(|machine| machine.up) {
            let (mut host, agent) = machine.host_and_agent();
            agent.leave(&mut host);
        }
        self.power_cut(index, down);
    }

    pub(super) fn power_cut(&mut self, index: usize, down: Duration) {
        self.boot_ends(index, down, false);
    }

    fn boot_ends(&mut self, index: usize, down: Duration, panicked: bool) {
        let Some(machine) = self.machines.get_mut(index) else {
            return;
        };
        machine.agent.kill();
        if !machine.up {
            return;
        }
        machine.up = false;
        self.checks.boot_ended(&self.shelf, machine, panicked);
        let (boot, name) = (machine.boot, machine.name.clone());
        machine.outage += 1;
        let outage = machine.outage;
        self.ctx.say(|| format!("{name} is down"));
        let now = self.ctx.clock.now;
        let tick = MachineTick::NotReady { outage };
        self.ctx.clock.at(now + GRACE, Event::Machine { machine: index, tick });
        let tick = MachineTick::Up { boot };
        self.ctx.clock.at(now + down, Event::Machine { machine: index, tick });
    }

    pub(super) fn unreachable(&mut self, index: usize, span: Duration) {
        let Some(machine) = self
            .machines
            .get_mut(index)
            .filter(|machine| machine.up && machine.reachable)
        else {
            return;
        };
        machine.reachable = false;
        machine.outage += 1;
        let outage = machine.outage;
        let now = self.ctx.clock.now;
        self.ctx.net.troubles.push(crate::net::Trouble {
            from: now,
            until: now + span,
            who: crate::net::Who::Machine(index),
            kind: crate::net::TroubleKind::LosesRequests,
            probability: 1.0,
        });
        machine.agent.watch.silent_until = now + span;
        let tick = MachineTick::NotReady { outage };
        self.ctx.clock.at(now + GRACE, Event::Machine { machine: index, tick });
        let tick = MachineTick::Reachable { outage };
        self.ctx.clock.at(now + span, Event::Machine { machine: index, tick });
    }

    /// The node's object is deleted; the machine is switched off.
    pub(super) fn remove(&mut self, index: usize) {
        let Some(machine) = self.machines.get_mut(index).filter(|machine| !machine.removed) else {
            return;
        };
        let name = machine.name.clone();
        machine.agent.kill();
        if machine.up {
            self.checks.boot_ended(&self.shelf, machine, false);
        }
        machine.up = false;
        machine.removed = true;
        machine.outage += 1;
        self.ctx.say(|| format!("{name} is removed"));
        let before = self.server.version();
        _ = self.server.delete::<NodeContent>(&name, None);
        self.checks.node_told(&self.ctx, &self.server, &name);
        self.replicate(before);
    }

    pub(super) fn machine_tick(&mut self, index: usize, tick: MachineTick) {
        let Some(machine) = self.machines.get_mut(index) else {
            return;
        };
        match tick {
            MachineTick::Up { boot } if machine.boot == boot && !machine.up && !machine.removed => self.boot(index),
            MachineTick::Kubelet { boot } if machine.boot == boot && machine.up && machine.reachable => {
                self.tell_node(index, true);
            }
            // A machine that came back meanwhile has a kubelet that says so.
            MachineTick::NotReady { outage } if machine.outage == outage && !(machine.up && machine.reachable) => {
                self.tell_node(index, false);
            }
            MachineTick::Reachable { outage } if machine.outage == outage => {
                machine.reachable = true;
                if machine.up {
                    self.tell_node(index, true);
                }
            }
            MachineTick::Panic { boot } if machine.boot == boot && machine.up => {
                let name = machine.name.clone();
                self.ctx.say(|| format!("{name}: the kernel panics"));
                let down = self.ctx.between(Duration::from_secs(15), Duration::from_mins(1));
                self.boot_ends(index, down, true);
            }
            MachineTick::Joins => self.join(index),
            MachineTick::Readable => {
                let name = machine.name.clone();
                self.make_readable(&name);
            }
            MachineTick::Warn { boot } if machine.boot == boot && machine.up => {
                machine.warn();
                self.checks.warned(index);
            }
            _ => {}
        }
    }

    /// The node's object says whether it is ready, and in which boot.
    pub(super) fn tell_node(&mut self, index: usize, ready: bool) {
        let Some(machine) = self.machines.get(index) else {
            return;
        };
        let boot_id = machine.boot_id();
        let before = self.server.version();
        _ = self.server.change::<NodeContent>(&machine.name, None, false, |node| {
            node.ready = ready;
            if ready {
                node.boot_id.clone_from(&boot_id);
            }
        });
        let name = &machine.name;
        self.ctx
            .say(|| format!("{name} is {}", if ready { "ready" } else { "not ready" }));
        self.checks.node_told(&self.ctx, &self.server, name);
        self.replicate(before);
    }

    pub(super) fn label(&mut self, index: usize, key: &str, value: &str) {
        let Some(machine) = self.machines.get(index) else {
            return;
        };
        let name = machine.name.clone();
        self.ctx.say(|| format!("{name}: label {key}={value}"));
        let before = self.server.version();
        _ = self.server.change::<NodeContent>(&name, None, false, |node| {
            if value.is_empty() {
                node.labels.remove(key);
            } else {
                node.labels.insert(key.to_owned(), value.to_owned());
            }
        });
        self.replicate(before);
    }

    pub(super) fn skip(&mut self, index: usize, skip: bool) {
        self.label(index, SKIP_LABEL, if skip { "true" } else { "" });
    }
}
