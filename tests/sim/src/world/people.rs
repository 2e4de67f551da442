//! What people do: sets, revisions, pauses, promotions.

use std::time::Duration;

use livepatch_crds::revision::{revision, rollout_name};
use livepatch_crds::rollout::{Control, ControlState};
use livepatch_crds::set::LivepatchSetStatus;
use livepatch_crds::set::REST;
use livepatch_operator::watch::seen::{RolloutContent, SetContent};
use serde_json::Value;

use super::World;
use crate::checks::CRASH_LOOP;

impl World {
    pub(super) fn create_set(&mut self, index: usize) {
        let Some(plan) = self.scenario.sets.get(index) else {
            return;
        };
        let name = plan.name.clone();
        let content = SetContent {
            spec: plan.spec(self.revisions.get(index).copied().unwrap_or(0)),
            status: LivepatchSetStatus::default(),
        };
        self.ctx.say(|| format!("{name} is made: {}", plan.spec));
        let before = self.server.version();
        let wall = self.ctx.clock.wall(jiff::SignedDuration::ZERO);
        _ = self.server.make(&name, wall, content);
        self.replicate(before);
    }

    pub(super) fn delete_set(&mut self, index: usize) {
        let Some(name) = self.set_name(index) else { return };
        self.ctx.say(|| format!("{name} is deleted"));
        let before = self.server.version();
        _ = self.server.delete::<SetContent>(&name, None);
        self.replicate(before);
    }

    pub(super) fn revise(&mut self, index: usize, number: usize) {
        let Some(plan) = self.scenario.sets.get(index) else {
            return;
        };
        let (name, template) = (plan.name.clone(), plan.spec(number).template);
        if self.server.sets.get(&name).is_some_and(|set| set.content.is_err()) {
            return;
        }
        if let Some(known) = self.revisions.get_mut(index) {
            *known = number;
        }
        self.ctx.say(|| format!("{name} asks for revision {number}"));
        let before = self.server.version();
        _ = self
            .server
            .change::<SetContent>(&name, None, true, |set| set.spec.template = template);
        self.replicate(before);
    }

    pub(super) fn strategy(&mut self, index: usize, field: &str, value: Value) {
        let Some(name) = self.set_name(index) else { return };
        self.ctx.say(|| format!("{name}: {field} becomes {value}"));
        let before = self.server.version();
        _ = self.server.change::<SetContent>(&name, None, true, |set| {
            let mut strategy = serde_json::to_value(&set.spec.rollout).unwrap_or_default();
            strategy[field] = value;
            if let Ok(strategy) = serde_json::from_value(strategy) {
                set.spec.rollout = strategy;
            }
        });
        self.replicate(before);
    }

    fn set_name(&self, index: usize) -> Option<String> {
        Some(self.scenario.sets.get(index)?.name.clone())
    }

    /// Changes what people want done with the present rollout of a set.
    pub(super) fn control(&mut self, index: usize, change: impl FnOnce(&mut Control)) {
        let Some(name) = self.set_name(index) else { return };
        let Some(set) = self.server.sets.get(&name) else { return };
        let Ok(content) = &set.content else { return };
        let rollout = rollout_name(&name, &revision(&content.spec.template));
        let before = self.server.version();
        let changed = self
            .server
            .change::<RolloutContent>(&rollout, None, true, |content| change(&mut content.spec.control));
        if let Ok(changed) = changed
            && self.server.version() != before
        {
            let control = changed.content.as_ref().map(|content| content.spec.control.clone());
            self.ctx.say(|| format!("a person: {rollout}: {control:?}"));
        }
        self.replicate(before);
    }

    pub(super) fn pause(&mut self, index: usize) {
        self.control(index, |control| {
            if control.state == ControlState::Run {
                control.state = ControlState::Paused;
            }
        });
    }

    pub(super) fn resume(&mut self, index: usize) {
        self.control(index, |control| {
            if control.state == ControlState::Paused {
                control.state = ControlState::Run;
            }
        });
    }

    pub(super) fn abort(&mut self, index: usize) {
        self.control(index, |control| control.state = ControlState::Aborted);
    }

    pub(super) fn exclude(&mut self, index: usize, node: &str) {
        self.control(index, |control| {
            if !control.excludes(node) {
                control.exclude_nodes.push(node.to_owned());
            }
        });
    }

    /// An aborted rollout stays aborted: only another revision goes on.
    fn go_on_after_abort(&mut self, index: usize) {
        let mut aborted = false;
        self.control(index, |control| aborted = control.state == ControlState::Aborted);
        if aborted {
            let present = self.revisions.get(index).copied().unwrap_or(0);
            self.revise(index, (present + 1) % 3);
        }
    }

    pub(super) fn retry(&mut self, index: usize) {
        self.control(index, |control| control.attempt += 1);
    }

    pub(super) fn promote(&mut self, index: usize, wave: &str) {
        self.control(index, |control| control.promoted_through = Some(wave.to_owned()));
    }

    /// Whether the present rollout of a set has stopped for a failure.
    fn is_halted(&self, index: usize) -> bool {
        let set = self
            .set_name(index)
            .and_then(|name| self.server.sets.get(&name).cloned());
        let Some(set) = set else { return false };
        set.content.as_ref().is_ok_and(|content| {
            let mut conditions = content.status.conditions.iter();
            content.status.counts.failed > 0 || conditions.any(|one| one.type_ == "Ready" && one.reason == "Halted")
        })
    }

    /// Whether an agent that this set granted loads nothing any more until a person raises the attempt.
    fn asks_for_an_attempt(&self, index: usize) -> bool {
        let Some(name) = self.set_name(index) else { return false };
        let objects = self.server.objects.iter();
        let mut told = objects
            .filter_map(|object| object.content.as_ref().ok())
            .flat_map(|content| &content.status.livepatches);
        told.any(|told| told.set == name && told.reason == CRASH_LOOP)
    }

    /// Machines whose agents cannot say what is loaded, since nobody wrote it down.
    fn without_journal(&self) -> Vec<usize> {
        let asks = |name: &str| {
            let object = self.server.objects.get(name);
            let content = object.and_then(|object| object.content.as_ref().ok());
            content.is_some_and(|content| {
                let mut told = content.status.livepatches.iter();
                told.any(|told| told.reason == "JournalMissing")
            })
        };
        let machines = self.machines.iter().filter(|machine| asks(&machine.name));
        machines.map(|machine| machine.index).collect()
    }

    /// People do what they are asked for.
    pub(super) fn help(&mut self) {
        for index in self.without_journal() {
            self.reboot(index, Duration::from_secs(20));
        }
        for index in 0..self.scenario.sets.len() {
            self.go_on_after_abort(index);
            self.resume(index);
            self.promote(index, REST);
            if self.is_halted(index) || self.asks_for_an_attempt(index) {
                self.retry(index);
            }
        }
    }
}
