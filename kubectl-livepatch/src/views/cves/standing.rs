//! Where the nodes stand with the fixes. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;
use kube::core::SelectorExt as _;
use livepatch_artifact::Bundle;
use livepatch_crds::node::{KernelIdentity, LoadedLivepatch};
use serde::Serialize;

use crate::family::{self, Family, created};
use crate::registry::Artefacts;
use crate::text::{Cell, Screen, Table, Tone, age};

/// What is known.
pub struct Facts<'a> {
    pub families: &'a [Family],
    pub artefacts: &'a Artefacts,
    pub nodes: Vec<Wanted>,
    /// By name of the node.
    pub running: BTreeMap<String, Running>,
}

/// A node as the cluster knows it.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub created: Option<Timestamp>,
    /// The boot it is in.
    pub boot_id: String,
}

/// What a node's agent said.
#[derive(Clone, Debug)]
pub struct Running {
    /// The boot of which it said so.
    pub boot_id: String,
    pub kernel: KernelIdentity,
    pub loaded: Vec<LoadedLivepatch>,
}

/// Where every node stands with every CVE.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    cves: Vec<Cve>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Cve {
    id: String,
    /// The sets whose present revision has a fix.
    sets: Vec<String>,
    nodes: Vec<OnNode>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct OnNode {
    node: String,
    state: State,
    /// The module that has the fix, if one is in effect.
    #[serde(skip_serializing_if = "Option::is_none")]
    module: Option<String>,
    /// Since when the fix could be there, if it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    lacking_since: Option<Timestamp>,
    /// Why it is not there.
    #[serde(skip_serializing_if = "String::is_empty")]
    why: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
enum State {
    Fixed,
    Lacking,
    Unknown,
}

impl Report {
    /// Of one CVE or all, of one node or all.
    pub fn of(facts: &Facts<'_>, cve: Option<&str>, node: Option<&str>) -> Self {
        let mut sets: BTreeMap<&str, Vec<&Family>> = BTreeMap::new();
        for family in facts.families {
            let present = bundle(facts.artefacts, &family.set.spec.template.source.oci.reference);
            for id in present.map(|bundle| bundle.cves.as_slice()).unwrap_or_default() {
                sets.entry(id).or_default().push(family);
            }
        }
        let wanted = |id: &str| cve.is_none_or(|cve| cve == id);
        let cves = sets.into_iter().filter(|(id, _)| wanted(id)).map(|(id, sets)| Cve {
            id: id.to_owned(),
            nodes: nodes(facts, id, &sets, node),
            sets: sets.iter().map(|family| family.name().to_owned()).collect(),
        });
        Self { cves: cves.collect() }
    }
}

fn bundle<'a>(artefacts: &'a Artefacts, reference: &str) -> Option<&'a Bundle> {
    artefacts.read.get(reference)
}

/// Every node that a set with the fix selects.
fn nodes(facts: &Facts<'_>, cve: &str, sets: &[&Family], only: Option<&str>) -> Vec<OnNode> {
    let selectors: Vec<_> = sets
        .iter()
        .filter_map(|family| Some((*family, family.set.spec.node_selector.compile().ok()?)))
        .collect();
    let mut all = Vec::new();
    for node in facts
        .nodes
        .iter()
        .filter(|node| only.is_none_or(|only| only == node.name))
    {
        let selecting: Vec<&Family> = selectors
            .iter()
            .filter(|(_, selector)| selector.matches(&node.labels))
            .map(|(family, _)| *family)
            .collect();
        if !selecting.is_empty() {
            all.push(on_node(facts, cve, &selecting, node));
        }
    }
    all
}

fn on_node(facts: &Facts<'_>, cve: &str, sets: &[&Family], node: &Wanted) -> OnNode {
    let said = |state, module, lacking_since, why: String| OnNode {
        node: node.name.clone(),
        state,
        module,
        lacking_since,
        why,
    };
    let running = facts
        .running
        .get(&node.name)
        .filter(|running| !running.boot_id.is_empty() && running.boot_id == node.boot_id);
    let Some(running) = running else {
        let why = "its agent has not reported on the boot that the node is in";
        return said(State::Unknown, None, None, why.to_owned());
    };
    let has_fix = |one: &&LoadedLivepatch| {
        let of = facts.artefacts.module(&one.build_id);
        of.is_some_and(|(bundle, _)| bundle.cves.iter().any(|id| id == cve))
    };
    let mut fixes = running.loaded.iter().filter(has_fix);
    if let Some(one) = fixes.clone().find(|one| one.enabled && !one.transition) {
        return said(State::Fixed, Some(one.module.clone()), None, String::new());
    }
    let since = sets.iter().filter_map(|family| rolled_out(family)).min();
    let since = since.max(node.created);
    let why = match fixes.next() {
        Some(one) if one.transition => format!("the kernel is switching its tasks to or from {}", one.module),
        Some(one) => format!("{} is loaded and disabled", one.module),
        None => missing(facts, sets, &running.kernel),
    };
    said(State::Lacking, None, since, why)
}

/// When the present revision of a set was first rolled out.
fn rolled_out(family: &Family) -> Option<Timestamp> {
    let made = |family: &Family| created(&family.set.metadata);
    family
        .current()
        .map_or_else(|| made(family), |rollout| created(&rollout.metadata))
}

/// Why a node has no module with the fix.
fn missing(facts: &Facts<'_>, sets: &[&Family], kernel: &KernelIdentity) -> String {
    let covers = |family: &&&Family| {
        let bundle = bundle(facts.artefacts, &family.set.spec.template.source.oci.reference);
        bundle.is_some_and(|bundle| {
            let build_id = Some(kernel.build_id.as_str());
            bundle
                .entry_for(&kernel.release, build_id, &kernel.architecture)
                .is_some()
        })
    };
    match sets.iter().find(covers) {
        None => format!("no artefact has a module for kernel {}", kernel.release),
        Some(family) => {
            let status = family.status();
            let state = family::state(&status.conditions).reason;
            match &status.blocked_by {
                Some(blocked_by) => format!("LivepatchSet {} is {state}: {blocked_by}", family.name()),
                None => format!("LivepatchSet {} is {state}", family.name()),
            }
        }
    }
}

/// For people.
pub fn told(report: &Report, by_node: bool, now: Timestamp, screen: Screen) -> String {
    if report.cves.is_empty() {
        return "No artefact of a LivepatchSet names such a CVE\n".to_owned();
    }
    let table = if by_node {
        node_by_node(report, now)
    } else {
        counted(report, now)
    };
    table.render(Screen { width: None, ..screen })
}

fn counted(report: &Report, now: Timestamp) -> Table {
    let mut table = Table::headed(["CVE", "SETS", "FIXED", "LACKING", "UNKNOWN", "LACKING FOR", "SUCH AS"]);
    for cve in &report.cves {
        let of = |state| cve.nodes.iter().filter(move |one| one.state == state);
        let (lacking, unknown) = (of(State::Lacking).count(), of(State::Unknown).count());
        let longest = of(State::Lacking).filter_map(|one| one.lacking_since).min();
        let such_as: Vec<&str> = of(State::Lacking).take(3).map(|one| one.node.as_str()).collect();
        let number = |number: usize, tone| Cell::new(if number > 0 { tone } else { Tone::Plain }, number.to_string());
        table.row([
            Cell::from(cve.id.as_str()),
            Cell::from(cve.sets.join(",")),
            number(of(State::Fixed).count(), Tone::Good),
            number(lacking, Tone::Bad),
            number(unknown, Tone::Wait),
            Cell::from(longest.map_or_else(|| "-".to_owned(), |since| age(since, now))),
            Cell::from(such_as.join(",")),
        ]);
    }
    table
}

fn node_by_node(report: &Report, now: Timestamp) -> Table {
    let mut table = Table::headed(["CVE", "NODE", "STATE", "FOR", "WHY"]);
    for cve in &report.cves {
        for one in &cve.nodes {
            let (state, why) = match (one.state, &one.module) {
                (State::Fixed, Some(module)) => (Cell::new(Tone::Good, "fixed"), format!("by {module}")),
                (State::Fixed, None) => (Cell::new(Tone::Good, "fixed"), String::new()),
                (State::Lacking, _) => (Cell::new(Tone::Bad, "lacking"), one.why.clone()),
                (State::Unknown, _) => (Cell::new(Tone::Wait, "unknown"), one.why.clone()),
            };
            let since = one
                .lacking_since
                .map_or_else(|| "-".to_owned(), |since| age(since, now));
            table.row([
                Cell::from(cve.id.as_str()),
                Cell::from(one.node.as_str()),
                state,
                Cell::from(since),
                Cell::from(why),
            ]);
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::fixture::artefacts;
    use crate::verbs::fixture::{family, status};
    use serde_json::{Value, json};

    const CVE: &str = "CVE-2026-1";

    fn at(time: &str) -> Timestamp {
        time.parse().unwrap()
    }

    fn node(name: &str, created: &str) -> Wanted {
        Wanted {
            name: name.to_owned(),
            labels: BTreeMap::new(),
            created: Some(at(created)),
            boot_id: "now".to_owned(),
        }
    }

    fn running(boot_id: &str, release: &str, loaded: &Value) -> Running {
        Running {
            boot_id: boot_id.to_owned(),
            kernel: KernelIdentity {
                release: release.to_owned(),
                build_id: "k1".to_owned(),
                architecture: "amd64".to_owned(),
            },
            loaded: serde_json::from_value(loaded.clone()).unwrap(),
        }
    }

    fn fix(enabled: bool) -> Value {
        json!([{"module": "lp_a", "buildID": "b1", "owner": "Set", "set": "nf", "enabled": enabled, "transition": false}])
    }

    fn report() -> Report {
        let mut family = family(json!({}), status("Progressing", json!({})));
        let made = at("2026-11-01T08:00:00Z");
        family.rollouts[0].metadata.creation_timestamp =
            Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(made));
        let families = [family];
        let artefacts = artefacts(&[("r.io/a@sha256:0", "b1", &[CVE], &[("vmlinux", "f")])]);
        let none = json!([]);
        let facts = Facts {
            families: &families,
            artefacts: &artefacts,
            nodes: ["fixed", "off", "bare", "older", "rebooted", "silent"]
                .map(|name| node(name, "2026-01-01T00:00:00Z"))
                .into_iter()
                .chain([node("new", "2026-11-01T09:30:00Z")])
                .collect(),
            running: BTreeMap::from([
                ("fixed".to_owned(), running("now", "6.1", &fix(true))),
                ("off".to_owned(), running("now", "6.1", &fix(false))),
                ("bare".to_owned(), running("now", "6.1", &none)),
                ("new".to_owned(), running("now", "6.1", &none)),
                ("older".to_owned(), running("now", "5.10", &none)),
                ("rebooted".to_owned(), running("before", "6.1", &fix(true))),
            ]),
        };
        Report::of(&facts, None, None)
    }

    #[test]
    fn who_has_the_fix_who_lacks_it_and_of_whom_it_is_not_known() {
        let now = at("2026-11-01T10:00:00Z");
        assert_eq!(
            told(&report(), false, now, Screen::default()),
            "\
CVE          SETS   FIXED   LACKING   UNKNOWN   LACKING FOR   SUCH AS
CVE-2026-1   nf     1       4         2         2h            off,bare,older
"
        );
        let text = told(&report(), true, now, Screen::default());
        for line in [
            "CVE-2026-1   fixed      fixed     -     by lp_a",
            "CVE-2026-1   off        lacking   2h    lp_a is loaded and disabled",
            "CVE-2026-1   bare       lacking   2h    LivepatchSet nf is Unseen",
            "CVE-2026-1   new        lacking   30m   LivepatchSet nf is Unseen",
            "CVE-2026-1   older      lacking   2h    no artefact has a module for kernel 5.10",
            "CVE-2026-1   rebooted   unknown   -     its agent has not reported on the boot that the node is in",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }

    #[test]
    fn a_cve_that_nothing_fixes_is_not_told_as_fixed() {
        let nothing = Report { cves: Vec::new() };
        assert!(told(&nothing, false, at("2026-11-01T10:00:00Z"), Screen::default()).starts_with("No artefact"));
    }
}
