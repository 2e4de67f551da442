//! What is said of a node. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use kube::core::SelectorExt as _;
use livepatch_crds::NodeLivepatch;
use livepatch_crds::conditions::{self, DEGRADED, READY};
use livepatch_crds::node::{Blocker, Grant, GrantResult, GrantStatus, LoadedLivepatch, NodeLivepatchStatus, Owner};
use livepatch_crds::rollout::ControlState;

use crate::family::{self, Family};
use crate::text::{Cell, Screen, Table, Tone, age};

/// What is known of a node.
pub struct Facts {
    pub object: NodeLivepatch,
    /// Nothing if it is gone or may not be read.
    pub node: Option<Node>,
    /// `namespace/name` of pods on it, by UID.
    pub pods: BTreeMap<String, String>,
    pub families: Vec<Family>,
}

/// Everything about the node, in sections.
pub fn tell(facts: &Facts, now: Timestamp, screen: Screen) -> String {
    let screen = Screen { width: None, ..screen };
    let status = facts.object.status.clone().unwrap_or_default();
    let mut text = itself(facts, &status, now).render(screen);
    text.push_str("\nSets:\n");
    text.push_str(&sets(facts, &status).render(screen));
    text.push_str("\nLoaded in the kernel:\n");
    text.push_str(&loaded(&status).render(screen));
    text
}

/// Two columns, the first one a heading.
fn line(table: &mut Table, what: &str, tone: Tone, told: impl Into<crate::text::Clean>) {
    table.row([Cell::from(what), Cell::new(tone, told)]);
}

fn itself(facts: &Facts, status: &NodeLivepatchStatus, now: Timestamp) -> Table {
    let mut table = Table::default();
    line(&mut table, "Node:", Tone::Plain, family::name(&facts.object.metadata));
    let kernel = &status.kernel;
    let told = match kernel.release.as_str() {
        "" => "not reported".to_owned(),
        release => format!(
            "{release} {}, build {}",
            kernel.architecture,
            or(&kernel.build_id, "not known")
        ),
    };
    line(&mut table, "Kernel:", Tone::Plain, told);
    if !status.kernel_taints.is_empty() {
        line(&mut table, "Kernel taints:", Tone::Plain, status.kernel_taints.as_str());
    }
    let (tone, told) = reachable(facts, status, now);
    line(&mut table, "State:", tone, told);
    let version = or(&status.agent_version, "has not reported");
    line(&mut table, "Agent:", Tone::Plain, version);
    if !facts.object.spec.hold.is_empty() {
        line(
            &mut table,
            "Held:",
            Tone::Wait,
            format!("nothing is changed here: {}", facts.object.spec.hold),
        );
    }
    for (kind, wanted) in [(READY, "True"), (DEGRADED, "False")] {
        let Some(condition) = conditions::find(&status.conditions, kind) else {
            continue;
        };
        if condition.status != wanted {
            let since = age(condition.last_transition_time.0, now);
            let message = &condition.message;
            let told = format!("{} ({}) for {since}: {message}", condition.status, condition.reason);
            line(&mut table, &format!("{kind}:"), Tone::Bad, told);
        }
    }
    table
}

fn or<'a>(text: &'a str, other: &'a str) -> &'a str {
    if text.is_empty() { other } else { text }
}

/// Whether the node can be reached, and whether what its agent said is of the boot it is in.
fn reachable(facts: &Facts, status: &NodeLivepatchStatus, now: Timestamp) -> (Tone, String) {
    let Some(node) = &facts.node else {
        return (Tone::Wait, "unknown: the Node is gone or may not be read".to_owned());
    };
    if node.metadata.uid.as_deref() != Some(facts.object.spec.node_uid.as_str()) {
        let told = "another node has this name by now; the operator makes a new object for it";
        return (Tone::Wait, told.to_owned());
    }
    let said = node.status.as_ref();
    let ready = said.and_then(|status| status.conditions.as_ref()?.iter().find(|c| c.type_ == "Ready"));
    match ready {
        Some(ready) if ready.status == "True" => {}
        Some(ready) => {
            let since = ready.last_transition_time.as_ref().map(|time| age(time.0, now));
            let since = since.map_or_else(String::new, |since| format!(" for {since}"));
            let why = ready.message.as_deref().unwrap_or_default();
            return (Tone::Bad, format!("not ready{since}: {why}"));
        }
        None => return (Tone::Bad, "not ready: the kubelet has not reported".to_owned()),
    }
    let boot = said
        .and_then(|status| status.node_info.as_ref())
        .map(|info| info.boot_id.as_str());
    if boot != Some(status.boot_id.as_str()) {
        let told =
            "ready, but the agent has not reported on the boot that the node is in: all below is of an earlier one";
        return (Tone::Wait, told.to_owned());
    }
    (
        Tone::Good,
        "ready, and the agent has reported on its present boot".to_owned(),
    )
}

fn sets(facts: &Facts, status: &NodeLivepatchStatus) -> Table {
    let mut table = Table::default();
    for family in &facts.families {
        let uid = family.set.metadata.uid.as_deref().unwrap_or_default();
        let grant = facts.object.spec.livepatches.iter().find(|grant| grant.set.uid == uid);
        match grant {
            Some(grant) => granted(&mut table, family, grant, facts, status),
            None => ungranted(&mut table, family, facts, status),
        }
    }
    let known = |grant: &&Grant| {
        let uid = Some(grant.set.uid.as_str());
        facts
            .families
            .iter()
            .any(|family| family.set.metadata.uid.as_deref() == uid)
    };
    for orphan in facts.object.spec.livepatches.iter().filter(|grant| !known(grant)) {
        let told = "granted by a LivepatchSet that is gone; what is loaded stays";
        table.row([Cell::new(Tone::Wait, format!("  {}", orphan.set.name)), told.into()]);
    }
    if table == Table::default() {
        table.row([Cell::from("  no set selects this node")]);
    }
    table
}

/// A set of which the node holds a grant.
fn granted(table: &mut Table, family: &Family, grant: &Grant, facts: &Facts, status: &NodeLivepatchStatus) {
    let outcome = status
        .livepatches
        .iter()
        .find(|of| of.set == grant.set.name && of.rollout == grant.rollout && of.attempt == grant.attempt);
    let (tone, told) = match outcome {
        None => (Tone::Busy, "granted; the agent has not reported on it yet".to_owned()),
        Some(of) => outcome_told(of),
    };
    let name = || Cell::from(format!("  {}", family.name()));
    table.row([name(), Cell::new(tone, told)]);
    let detail = |table: &mut Table, tone, told: String| table.row([Cell::default(), Cell::new(tone, told)]);
    let attempt = format!(
        "rollout {}, wave {}, attempt {}",
        grant.rollout, grant.wave, grant.attempt
    );
    detail(table, Tone::Faint, attempt);
    for one in outcome.map(|of| of.blockers.as_slice()).unwrap_or_default() {
        detail(table, Tone::Wait, blocker(one, &facts.pods));
    }
    let Some(current) = family.current() else { return };
    if family::name(&current.metadata) != grant.rollout {
        let name = family::name(&current.metadata);
        let waits = waits_for(family, facts, status);
        detail(
            table,
            Tone::Wait,
            format!("of the present rollout {name} nothing was granted: {waits}"),
        );
    }
    let name = family::name(&facts.object.metadata);
    let listed = family::rollout_status(current).failures;
    let attempt = family::control(current).attempt;
    if let Some(failure) = listed
        .iter()
        .find(|failure| failure.node == name && failure.attempt == attempt)
    {
        let agrees = outcome.is_some_and(|of| of.reason == failure.reason);
        if !agrees {
            detail(
                table,
                Tone::Bad,
                format!(
                    "the operator counts it as failed: {}: {}",
                    failure.reason, failure.message
                ),
            );
        }
        let retry = format!("a failure stays one until kubectl livepatch retry {}", family.name());
        detail(table, Tone::Plain, retry);
    }
}

fn outcome_told(of: &GrantStatus) -> (Tone, String) {
    let why = match of.message.as_str() {
        "" => of.reason.clone(),
        message => format!("{}: {message}", of.reason),
    };
    match of.result {
        GrantResult::Loaded => (Tone::Good, "loaded, enabled and in effect".to_owned()),
        GrantResult::Transitioning => (Tone::Busy, format!("the kernel is switching its tasks over ({why})")),
        GrantResult::Pending => (Tone::Wait, format!("not started: {why}")),
        GrantResult::Superseded => (Tone::Good, "in effect as a part of the cumulative livepatch".to_owned()),
        GrantResult::Absent => (Tone::Good, "not in the kernel, as asked".to_owned()),
        GrantResult::Failed => (Tone::Bad, format!("failed: {why}")),
    }
}

fn blocker(one: &Blocker, pods: &BTreeMap<String, String>) -> String {
    let Blocker { pid, comm, pod_uid } = one;
    let of = match pod_uid.as_deref().map(|uid| (uid, pods.get(uid))) {
        None => "of no pod".to_owned(),
        Some((_, Some(pod))) => format!("of pod {pod}"),
        Some((uid, None)) => format!("of the pod with UID {uid}, which is gone or may not be read"),
    };
    format!("waits for task {comm} (pid {pid}) {of}")
}

/// A set of which the node holds no grant; nothing is said if it does not select the node.
fn ungranted(table: &mut Table, family: &Family, facts: &Facts, status: &NodeLivepatchStatus) {
    let name = || Cell::from(format!("  {}", family.name()));
    let Some(node) = &facts.node else {
        table.row([
            name(),
            Cell::new(
                Tone::Faint,
                "nothing granted; whether it selects this node is not known",
            ),
        ]);
        return;
    };
    let labels = node.metadata.labels.clone().unwrap_or_default();
    match family.set.spec.node_selector.compile() {
        Ok(selector) if selector.matches(&labels) => {
            let told = format!("nothing granted: {}", waits_for(family, facts, status));
            table.row([name(), Cell::new(Tone::Wait, told)]);
        }
        Ok(_) => {}
        Err(_) => table.row([name(), Cell::new(Tone::Bad, "its selector is not valid")]),
    }
}

/// Why a selected node has no grant of the present rollout: what is about the node before what is about the rollout.
fn waits_for(family: &Family, facts: &Facts, status: &NodeLivepatchStatus) -> String {
    let set = family.name();
    let Some(rollout) = family.current() else {
        let said = family.status();
        let accepted = conditions::find(&said.conditions, conditions::ACCEPTED);
        return accepted.map_or_else(
            || "the set has no rollout yet".to_owned(),
            |accepted| accepted.message.clone(),
        );
    };
    let control = family::control(rollout);
    let said = family::rollout_status(rollout);
    let kernel = &status.kernel;
    let is_covered = said
        .kernels
        .iter()
        .find(|one| one.release == kernel.release && one.build_id == kernel.build_id);
    if control.excludes(family::name(&facts.object.metadata)) {
        return format!("a person left this node out; to take it back in, kubectl livepatch exclude {set} --undo NODE");
    }
    if is_covered.is_some_and(|one| !one.covered) {
        return format!("its artefact has no module for kernel {}", kernel.release);
    }
    if !facts.object.spec.hold.is_empty() {
        return format!("the node is held: {}", facts.object.spec.hold);
    }
    if control.state == ControlState::Aborted {
        return "a person aborted the rollout; another revision goes on".to_owned();
    }
    let state = family::state(&said.conditions);
    match said.blocked_by.as_deref() {
        Some(blocked_by) => format!("the rollout is {}: {blocked_by}", state.reason),
        None => format!("the rollout is {}: {}", state.reason, state.message),
    }
}

fn loaded(status: &NodeLivepatchStatus) -> Table {
    if status.loaded.is_empty() {
        let mut table = Table::default();
        table.row([Cell::from("  no livepatch")]);
        return table;
    }
    let mut table = Table::headed(["  MODULE", "WHOSE", "STATE", "FUNCTIONS", "BUILD ID"]);
    for one in &status.loaded {
        let LoadedLivepatch {
            module,
            build_id,
            owner,
            set,
            enabled,
            transition,
            function_count,
        } = one;
        let set = set.as_deref().unwrap_or_default();
        let (tone, whose) = match owner {
            Owner::Set => (Tone::Plain, format!("LivepatchSet {set}")),
            Owner::Retained => (Tone::Wait, format!("retained, of LivepatchSet {set} once")),
            Owner::Foreign => (Tone::Wait, "somebody else's".to_owned()),
        };
        let state = match (enabled, transition) {
            (true, false) => Cell::new(Tone::Good, "enabled"),
            (true, true) => Cell::new(Tone::Busy, "being enabled"),
            (false, true) => Cell::new(Tone::Busy, "being disabled"),
            (false, false) => Cell::new(Tone::Bad, "disabled"),
        };
        table.row([
            format!("  {module}").into(),
            Cell::new(tone, whose),
            state,
            function_count
                .map_or_else(|| "-".to_owned(), |count| count.to_string())
                .into(),
            build_id.as_str().into(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests;
