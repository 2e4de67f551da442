//! The tree: set, rollout, wave, kernel build, node. Pure.

mod branch;

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use livepatch_crds::LivepatchRollout;
use livepatch_crds::node::{Blocker, GrantResult, KernelIdentity};
use livepatch_crds::rollout::{ControlState, Failure, KernelStatus, WaveState, WaveStatus};

use self::branch::Branch;
use crate::family::{self, Family, created};
use crate::nodes::{GrantGist, NodeGist};
use crate::text::{Table, Tone, age, count, moment};

/// Most nodes that are named of one kernel build in one wave.
const MAX_NODES: usize = 10;
/// Most former rollouts that are named.
const MAX_FORMER: usize = 3;
/// Digits of a build id that tell two builds apart.
const BUILD_ID_DIGITS: usize = 12;

/// The trees of these sets.
pub fn tree<'a>(
    families: &[Family],
    nodes: impl IntoIterator<Item = &'a NodeGist>,
    wide: bool,
    now: Timestamp,
) -> Table {
    let mut by_rollout: BTreeMap<&str, Vec<Granted<'_>>> = BTreeMap::new();
    for node in nodes {
        for grant in &node.grants {
            by_rollout
                .entry(&grant.rollout)
                .or_default()
                .push(Granted { node, grant });
        }
    }
    let view = View { by_rollout, wide, now };
    let mut table = Table::headed(["NAME", "STATE", "NODES", "INFO"]);
    for family in families {
        view.set(family).write_into(&mut table);
    }
    table
}

struct View<'a> {
    by_rollout: BTreeMap<&'a str, Vec<Granted<'a>>>,
    wide: bool,
    now: Timestamp,
}

/// A node with a grant of the rollout in question.
#[derive(Clone, Copy)]
struct Granted<'a> {
    node: &'a NodeGist,
    grant: &'a GrantGist,
}

impl View<'_> {
    fn set(&self, family: &Family) -> Branch {
        let status = family.status();
        let state = family::state(&status.conditions);
        let mut info = status.blocked_by.clone().unwrap_or_default();
        if !family.is_observed() {
            info = "the operator has not looked at the latest change yet".to_owned();
        } else if info.is_empty() && state.tone != Tone::Good {
            info = state.message.to_owned();
        }
        let mut branch = Branch::new(state.tone, format!("LivepatchSet {}", family.name()))
            .state(state.reason)
            .nodes(status.counts.settled, status.counts.selected)
            .info(info);
        branch
            .children
            .extend(family.current().map(|rollout| self.current(family, rollout)));
        let former: Vec<&LivepatchRollout> = family.rollouts.iter().filter(|r| !family.is_current(r)).collect();
        branch
            .children
            .extend(former.iter().take(MAX_FORMER).map(|rollout| self.former(rollout)));
        if former.len() > MAX_FORMER {
            let more = count(former.len() - MAX_FORMER, "rollout");
            branch.children.push(Branch::remark(format!(
                "… {more} before, see kubectl livepatch history {}",
                family.name()
            )));
        }
        branch
    }

    fn current(&self, family: &Family, rollout: &LivepatchRollout) -> Branch {
        let status = family::rollout_status(rollout);
        let state = family::state(&status.conditions);
        let mut branch = Branch::new(state.tone, format!("rollout {}", family::name(&rollout.metadata)))
            .state(state.reason)
            .nodes(status.counts.settled, status.counts.selected)
            .info(self.about(rollout));
        let of_rollout = self.by_rollout.get(family::name(&rollout.metadata));
        let granted = of_rollout.map_or(&[][..], Vec::as_slice);
        let wave_branch = |wave| self.wave(family, rollout, wave, granted, &status.failures);
        branch.children.extend(status.waves.iter().map(wave_branch));
        branch
            .children
            .extend(status.kernels.iter().filter(|k| !k.covered).map(uncovered));
        branch
    }

    fn former(&self, rollout: &LivepatchRollout) -> Branch {
        let status = family::rollout_status(rollout);
        let state = family::state(&status.conditions);
        Branch::new(Tone::Faint, format!("rollout {}", family::name(&rollout.metadata)))
            .state(state.reason)
            .info(self.about(rollout))
    }

    /// What people did with a rollout, and when it began.
    fn about(&self, rollout: &LivepatchRollout) -> String {
        let control = family::control(rollout);
        let mut told = Vec::new();
        if let Some(then) = created(&rollout.metadata) {
            told.push(format!("{} old", age(then, self.now)));
        }
        if control.attempt > 1 {
            told.push(format!("attempt {}", control.attempt));
        }
        if let Some(wave) = &control.promoted_through {
            told.push(format!("promoted through {wave}"));
        }
        match control.state {
            ControlState::Run => {}
            ControlState::Paused => told.push("paused by a person".to_owned()),
            ControlState::Aborted => told.push("aborted by a person".to_owned()),
            ControlState::RolledBack => told.push("rolled back by a person".to_owned()),
        }
        if !control.exclude_nodes.is_empty() {
            told.push(format!("{} left out", count(control.exclude_nodes.len(), "node")));
        }
        told.join(", ")
    }

    fn wave(
        &self,
        family: &Family,
        rollout: &LivepatchRollout,
        wave: &WaveStatus,
        granted: &[Granted<'_>],
        failures: &[Failure],
    ) -> Branch {
        let attempt = family::control(rollout).attempt;
        let failures: Vec<&Failure> = failures
            .iter()
            .filter(|failure| failure.wave == wave.name && failure.attempt == attempt)
            .collect();
        let mut kernels: BTreeMap<&KernelIdentity, Vec<Granted<'_>>> = BTreeMap::new();
        for one in granted.iter().filter(|one| one.grant.wave == wave.name) {
            kernels.entry(&one.node.kernel).or_default().push(*one);
        }
        let (tone, info) = self.wave_state(family, wave);
        let mut branch = Branch::new(tone, format!("wave {}", wave.name))
            .state(&format!("{:?}", wave.state))
            .nodes(wave.settled, wave.selected)
            .info(info);
        for (kernel, members) in &kernels {
            let namesakes = kernels.keys().filter(|other| other.release == kernel.release).count();
            let told = self.kernel(kernel, namesakes > 1, members, &failures, attempt);
            // Of a wave that has passed only what is wrong is of interest.
            if wave.state != WaveState::Passed || !told.children.is_empty() {
                branch.children.push(told);
            }
        }
        // Nodes that are gone have no kernel any more.
        let gone = failures
            .iter()
            .filter(|failure| !granted.iter().any(|one| one.node.name == failure.node));
        branch
            .children
            .extend(gone.map(|failure| failed(&failure.node, &failure.reason, &failure.message)));
        branch
    }

    fn wave_state(&self, family: &Family, wave: &WaveStatus) -> (Tone, String) {
        let promote = || format!("kubectl livepatch promote {}", family.name());
        match wave.state {
            WaveState::Waiting => (Tone::Faint, String::new()),
            WaveState::Running => (Tone::Busy, String::new()),
            WaveState::Soaking => (Tone::Wait, self.soak(family, wave)),
            WaveState::AwaitingPromotion | WaveState::Empty => (Tone::Wait, promote()),
            WaveState::Halted => (Tone::Bad, format!("kubectl livepatch retry {}", family.name())),
            WaveState::Passed => (Tone::Good, String::new()),
        }
    }

    fn soak(&self, family: &Family, wave: &WaveStatus) -> String {
        let spec = family.set.spec.rollout.waves.iter().find(|spec| spec.name == wave.name);
        let soak = SignedDuration::from_secs(spec.map_or(0, |spec| i64::from(spec.soak_seconds)));
        let over = wave.settled_at.as_ref().and_then(|at| at.0.checked_add(soak).ok());
        over.map_or_else(String::new, |over| {
            format!("until {}, in {}", moment(over), age(self.now, over))
        })
    }

    fn kernel(
        &self,
        kernel: &KernelIdentity,
        has_namesake: bool,
        members: &[Granted<'_>],
        failures: &[&Failure],
        attempt: i32,
    ) -> Branch {
        let mut nodes: Vec<Branch> = Vec::new();
        let (mut loaded, mut switching, mut failing) = (0, 0, 0);
        for one in members {
            let name = &one.node.name;
            let outcome = one.grant.outcome.as_ref();
            let result = outcome.map(|outcome| outcome.result);
            let listed = failures.iter().find(|failure| failure.node == *name);
            let is_failed = result == Some(GrantResult::Failed) && one.grant.attempt == attempt;
            match result {
                _ if listed.is_some() || is_failed => failing += 1,
                Some(GrantResult::Loaded) => loaded += 1,
                Some(GrantResult::Transitioning) => switching += 1,
                _ => {}
            }
            nodes.extend(match (listed, outcome) {
                (Some(failure), _) => Some(failed(name, &failure.reason, &failure.message)),
                (None, Some(outcome)) if is_failed => Some(failed(name, &outcome.reason, &outcome.message)),
                (None, outcome) => attention(one, outcome),
            });
        }
        let all = i32::try_from(members.len()).unwrap_or(i32::MAX);
        let waiting = all - loaded - switching - failing;
        let told = [(switching, "switching"), (waiting, "to be loaded"), (failing, "failed")];
        let told: Vec<String> = told
            .iter()
            .filter(|(number, _)| *number > 0)
            .map(|(number, what)| format!("{number} {what}"))
            .collect();
        let tone = match (failing, loaded == all) {
            (0, true) => Tone::Good,
            (0, false) => Tone::Busy,
            _ => Tone::Bad,
        };
        let more = nodes.len().saturating_sub(MAX_NODES);
        nodes.truncate(MAX_NODES);
        let mut branch = Branch::new(tone, format!("kernel {}", self.kernel_name(kernel, has_namesake)))
            .nodes(loaded, all)
            .info(told.join(", "));
        branch.children = nodes;
        if more > 0 {
            branch
                .children
                .push(Branch::remark(format!("… {}", count(more, "more node"))));
        }
        branch
    }

    fn kernel_name(&self, kernel: &KernelIdentity, has_namesake: bool) -> String {
        let release = if kernel.release.is_empty() {
            "not reported"
        } else {
            &kernel.release
        };
        if (has_namesake || self.wide) && !kernel.build_id.is_empty() {
            let build_id: String = kernel.build_id.chars().take(BUILD_ID_DIGITS).collect();
            format!("{release} (build {build_id})")
        } else {
            release.to_owned()
        }
    }
}

fn failed(node: &str, reason: &str, message: &str) -> Branch {
    Branch::new(Tone::Bad, node.to_owned())
        .state(reason)
        .info(message.to_owned())
}

/// A node that has not failed and needs attention all the same.
fn attention(one: &Granted<'_>, outcome: Option<&crate::nodes::Outcome>) -> Option<Branch> {
    let node = Branch::new(Tone::Wait, one.node.name.clone());
    match outcome {
        Some(outcome) if outcome.result == GrantResult::Loaded => None,
        Some(outcome) if !outcome.blockers.is_empty() => {
            let blockers: Vec<String> = outcome.blockers.iter().map(blocker).collect();
            Some(
                node.state("Transitioning")
                    .info(format!("kept by {}", blockers.join(", "))),
            )
        }
        _ if !one.node.hold.is_empty() => Some(node.state("Held").info(one.node.hold.clone())),
        Some(outcome) if outcome.result == GrantResult::Pending && !outcome.message.is_empty() => {
            Some(node.state(&outcome.reason).info(outcome.message.clone()))
        }
        _ => None,
    }
}

/// A task that keeps a transition from finishing.
fn blocker(blocker: &Blocker) -> String {
    let Blocker { pid, comm, pod_uid } = blocker;
    match pod_uid {
        Some(uid) => format!("task {comm} (pid {pid}, pod with UID {uid})"),
        None => format!("task {comm} (pid {pid})"),
    }
}

fn uncovered(kernel: &KernelStatus) -> Branch {
    Branch::new(Tone::Wait, format!("kernel {}", kernel.release))
        .state("NoModule")
        .nodes(kernel.settled, kernel.nodes)
        .info("the artefact has no module for it".to_owned())
}

#[cfg(test)]
mod tests;
