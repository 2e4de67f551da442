//! What must hold when everything has healed and come to rest: what was asked for is there, or it is said why not.

use kube::core::SelectorExt as _;
use livepatch_crds::set::LivepatchSetSpec;
use livepatch_operator::watch::seen::SetContent;

use super::Violation;
use crate::machine::Machine;
use crate::modules::{Conduct, identity};
use crate::world::World;

/// What an agent says that loads nothing any more in its boot.
pub(crate) const CRASH_LOOP: &str = "CrashLoopSuspected";

/// Reasons of failures that a bad livepatch brings about again and again.
const BAD: [&str; 6] = [
    "SymbolNotFound",
    "KernelTainted",
    "NodeRebooted",
    "RebootedDuringLoad",
    "RebootedOnProbation",
    CRASH_LOOP,
];

/// Why a node failed that nobody hears of.
const NODE_LOST: &str = "NodeLost";

/// Reasons of failures that stay whatever people do: what was asked for cannot be.
const REFUSED: [&str; 9] = [
    "WouldRemoveOthers",
    "UpgradeNotSupported",
    "Conflict",
    "BlockedByOffBand",
    "NotCovered",
    "WantedByOthers",
    "RebootRequired",
    "PredecessorRemains",
    "FunctionsMissing",
];

impl World {
    pub fn check_end(&self) -> Result<(), Violation> {
        for set in self.server.sets.iter() {
            let Ok(content) = &set.content else { continue };
            self.check_set(&set.name, content)?;
        }
        for object in self.server.objects.iter() {
            let Ok(content) = &object.content else { continue };
            let stray = content
                .spec
                .livepatches
                .iter()
                .find(|grant| !self.server.sets.iter().any(|set| set.uid == grant.set.uid));
            if let Some(stray) = stray {
                let (node, set) = (&object.name, &stray.set.name);
                return Err(Violation::new(
                    "I8",
                    format!("{node} has a grant of {set}, which is gone"),
                ));
            }
        }
        Ok(())
    }

    fn check_set(&self, name: &str, set: &SetContent) -> Result<(), Violation> {
        let ready = set
            .status
            .conditions
            .iter()
            .find(|condition| condition.type_ == "Ready");
        let reason = ready.map_or("", |ready| ready.reason.as_str());
        let told = || {
            let message = ready.map_or("", |ready| ready.message.as_str());
            format!("{reason}: {message}")
        };
        match reason {
            "Complete" => self.check_complete(name, set),
            "Halted" => self.check_halted(name, set),
            "SetConflict" | "NoNodesSelected" | "Conflict" => Ok(()),
            _ if set.status.counts.settled == 0 && set.status.counts.failed > 0 && Self::nothing_waits(set) => {
                self.check_halted(name, set)
            }
            // Whoever leaves every node out gets nothing.
            _ if set.status.counts.excluded > 0 && set.status.counts.settled == 0 && Self::nothing_left(set) => Ok(()),
            // Nothing can settle if nothing can be served.
            _ if set.status.counts.settled == 0 && set.status.counts.not_applicable > 0 && Self::nothing_left(set) => {
                Ok(())
            }
            _ if Self::unreachable_remain(set) || self.has_crash_loop(name, set) => Ok(()),
            _ => Err(Violation::new(
                "I9",
                format!("{name} does not come to an end: {}", told()),
            )),
        }
    }

    /// A node went down again and again, and its agent says that it loads nothing any more.
    fn has_crash_loop(&self, name: &str, set: &SetContent) -> bool {
        self.selected(&set.spec).any(|machine| {
            let object = self.server.objects.get(&machine.name);
            let told = object.and_then(|object| Some(&object.content.as_ref().ok()?.status.livepatches));
            let mut told = told.into_iter().flatten();
            let past = self.checks.past_of(machine.index);
            past.is_some_and(|past| past.ended) && told.any(|told| told.set == name && told.reason == CRASH_LOOP)
        })
    }

    fn nothing_waits(set: &SetContent) -> bool {
        let counts = &set.status.counts;
        counts.pending + counts.in_flight + counts.unknown + counts.held == 0
    }

    fn nothing_left(set: &SetContent) -> bool {
        let counts = &set.status.counts;
        counts.pending + counts.in_flight + counts.unknown + counts.failed + counts.held == 0
    }

    fn unreachable_remain(set: &SetContent) -> bool {
        set.status.counts.unreachable > 0 && set.status.counts.unreachable == set.status.counts.selected
    }

    /// The machines that a set selects, with their nodes being there.
    fn selected<'a>(&'a self, spec: &'a LivepatchSetSpec) -> impl Iterator<Item = &'a Machine> {
        let selector = spec.node_selector.compile().ok();
        self.machines.iter().filter(move |machine| {
            let node = self.server.nodes.get(&machine.name);
            let labels = node
                .and_then(|node| node.content.as_ref().ok())
                .map(|node| &node.labels);
            labels
                .zip(selector.as_ref())
                .is_some_and(|(labels, selector)| selector.matches(labels))
        })
    }

    fn check_complete(&self, name: &str, set: &SetContent) -> Result<(), Violation> {
        let artefact = self
            .shelf
            .artefact(&set.spec.template.source.oci.reference)
            .unwrap_or_default();
        let rollout = set
            .status
            .rollout
            .as_deref()
            .and_then(|rollout| self.server.rollouts.get(rollout));
        let rollout = rollout.and_then(|rollout| rollout.content.as_ref().ok());
        let borne = |node: &str| {
            rollout.is_some_and(|rollout| {
                let control = &rollout.spec.control;
                let mut failures = rollout.status.failures.iter();
                control.excludes(node)
                    || failures.any(|failure| failure.node == node && failure.attempt == control.attempt)
            })
        };
        for machine in self
            .selected(&set.spec)
            .filter(|machine| machine.up && !borne(&machine.name))
        {
            let kernel = identity(machine.build).build_id.map(|id| id.to_string());
            let Some(module) = artefact.iter().find(|module| module.kernel_build_id == kernel) else {
                continue;
            };
            if !machine.runs(&module.build_id) {
                let (node, module) = (&machine.name, &module.name);
                return Err(Violation::new(
                    "I9",
                    format!("{name} is complete, and {node} does not run {module}"),
                ));
            }
        }
        Ok(())
    }

    /// A rollout that has stopped has a failure that nobody can mend by trying again.
    fn check_halted(&self, name: &str, set: &SetContent) -> Result<(), Violation> {
        let rollout = set
            .status
            .rollout
            .as_deref()
            .and_then(|rollout| self.server.rollouts.get(rollout));
        let Some(rollout) = rollout.and_then(|rollout| rollout.content.as_ref().ok()) else {
            return Err(Violation::new("I9", format!("{name} has stopped without a rollout")));
        };
        if set.status.blocked_by.is_none() {
            return Err(Violation::new("I9", format!("{name} has stopped and does not say why")));
        }
        let attempt = rollout.spec.control.attempt;
        for failure in rollout
            .status
            .failures
            .iter()
            .filter(|failure| failure.attempt == attempt)
        {
            let machine = self.machines.iter().find(|machine| machine.name == failure.node);
            let reference = &set.spec.template.source.oci.reference;
            let bad = machine.is_some_and(|machine| {
                let kernel = identity(machine.build).build_id.map(|id| id.to_string());
                self.shelf.modules().any(|module| {
                    module.conduct != Conduct::Good
                        && module.view.kernel_build_id == kernel
                        && self
                            .shelf
                            .artefact(reference)
                            .is_some_and(|views| views.contains(&module.view))
                })
            });
            let told_by_design = REFUSED.contains(&failure.reason.as_str());
            let gone = machine.is_none_or(|machine| !machine.up);
            let told_by_bad = bad && BAD.contains(&failure.reason.as_str());
            let excused = told_by_bad || told_by_design || gone || self.shares_boot(failure);
            if !excused {
                return Err(Violation::new(
                    "I9",
                    format!(
                        "{name} has stopped for {} on {}: {}",
                        failure.reason, failure.node, failure.message
                    ),
                ));
            }
        }
        Ok(())
    }

    /// A livepatch took the node down, or made its kernel warn: whatever was on its way there then has failed.
    fn shares_boot(&self, failure: &livepatch_crds::rollout::Failure) -> bool {
        let machine = self.machines.iter().find(|machine| machine.name == failure.node);
        let past = machine.and_then(|machine| self.checks.past_of(machine.index));
        past.is_some_and(|past| {
            // A node that panics is lost before it is known to have rebooted.
            let lost = past.panicked && failure.reason == NODE_LOST;
            lost || ((past.panicked || past.warned) && BAD.contains(&failure.reason.as_str()))
        })
    }
}
