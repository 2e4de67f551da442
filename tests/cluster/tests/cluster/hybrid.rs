//! A part of the fleet with a livepatch of its own beside the cumulative one.

use std::fs;

use anyhow::{Context, Result, ensure};
use livepatch_rig::cache::hex;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::stage::{CANARY, PATIENCE, Stage, condition};

/// The set of the nodes that have a fix of their own.
const EDGE: &str = "edge";
/// Those nodes: one of each kernel build, and one is left out.
const NODES: [&str; 2] = [CANARY, "bookworm"];
/// What its livepatches change.
const FILE: &str = "/proc/execdomains";
/// The function by which the cumulative livepatches add a line to /proc/version.
const FUNCTION: &str = "version_proc_show";
/// The set of all nodes.
const BASE: &str = "base";

/// It is loaded on the nodes of its selector, beside the cumulative one, and nowhere else.
pub fn joins(stage: &Stage) -> Result<()> {
    for node in NODES {
        stage.kubectl().run(&["label", "node", node, "workload=edge"])?;
    }
    apply(stage, "lp_offband_v1")?;
    stage.rollout(EDGE)?;
    stage.complete(EDGE)?;
    shows(stage, "offband-v1", "")?;
    stage.all_effective("cumulative-v1")
}

/// The chapter before replaced the cumulative one: the kernel threw the off-band one out, the agent brought it back and
/// tells for how long it was away.
pub fn came_back(stage: &Stage) -> Result<()> {
    for node in NODES {
        let object = stage
            .kubectl()
            .wait(&format!("{node} to tell the gap"), &["nlp", node], PATIENCE, |object| {
                match status_of(object, EDGE)["gapMilliseconds"].as_u64() {
                    Some(1..) => Ok(()),
                    _ => Err(status_of(object, EDGE).to_string()),
                }
            })?;
        ensure!(
            status_of(&object, EDGE)["result"] == "Loaded",
            "{}",
            object["status"]["livepatches"]
        );
    }
    shows(stage, "offband-v1", "")?;
    stage.all_effective("cumulative-v2")
}

/// A new version takes the place of the former one.
pub fn upgrade(stage: &Stage) -> Result<()> {
    apply(stage, "lp_offband_v2")?;
    stage.rollout(EDGE)?;
    stage.complete(EDGE)?;
    shows(stage, "offband-v2", "")?;
    for node in NODES {
        let object = stage.kubectl().get(&["nlp", node])?;
        let loaded = object["status"]["loaded"].as_array().context("a list")?;
        ensure!(
            loaded.iter().all(|livepatch| livepatch["module"] != "lp_offband_v1"),
            "{loaded:?}"
        );
    }
    Ok(())
}

/// The quarrel of two branches: a livepatch of a function that another set's livepatch changes on the same nodes is
/// refused before any grant, by the plan as by the operator.
pub fn conflict(stage: &Stage) -> Result<()> {
    const RIVAL: &str = "rival";
    let reference = stage.push("lp_offband_conflict")?;
    let rival = off_band(RIVAL, &reference);
    let file = stage.cluster.kubeconfig().with_file_name("rival.yaml");
    fs::write(&file, &rival)?;
    let named = |said: &str| [BASE, RIVAL, FUNCTION].iter().all(|name| said.contains(name));
    let planned = stage.plugin(2, &["plan", "--filename", &file.to_string_lossy()])?;
    ensure!(named(&planned), "{planned}");

    stage.kubectl().apply(&rival)?;
    let set = stage.ready_reason(RIVAL, "SharedFunction")?;
    let accepted = condition(&set, "Accepted");
    let message = accepted["message"].as_str().unwrap_or_default();
    ensure!(accepted["status"] == "False" && named(message), "{accepted}");
    for node in NODES {
        let object = stage.kubectl().get(&["nlp", node])?;
        let grants = object["spec"]["livepatches"].as_array().context("a list")?;
        ensure!(grants.iter().all(|grant| grant["set"]["name"] != RIVAL), "{grants:?}");
        let owners = stage.plugin(0, &["owners", node])?;
        ensure!(owners.contains(FUNCTION) && owners.contains(EDGE), "{owners}");
        let explained = stage.plugin(0, &["explain", node])?;
        ensure!(named(&explained), "{explained}");
    }
    stage.kubectl().run(&["delete", "lps", RIVAL])?;
    shows(stage, "offband-v2", "")?;
    stage.all_effective("cumulative-v2")
}

/// A cumulative livepatch that has taken the fix in makes the off-band one needless, and gives it back when it goes.
pub fn superseded(stage: &Stage) -> Result<()> {
    let contained = Stage::modules("lp_offband_v2")?
        .iter()
        .map(|path| Ok(hex(&Sha256::digest(fs::read(path)?))))
        .collect::<Result<Vec<String>>>()?;
    let reference = stage.push("lp_cumulative_v3")?;
    template(
        stage,
        &json!({
            "source": {"oci": {"reference": reference}},
            "cumulative": {"supersedes": [{"set": EDGE, "moduleSHA256": contained}]},
        }),
    )?;
    stage.complete(BASE)?;
    stage.all_effective("cumulative-v3")?;
    shows(stage, "cumulative-v3", "cumulative-v3")?;

    let reference = stage.push("lp_cumulative_v2")?;
    template(
        stage,
        &json!({"source": {"oci": {"reference": reference}}, "cumulative": null}),
    )?;
    stage.complete(BASE)?;
    stage.all_effective("cumulative-v2")?;
    for node in NODES {
        stage.kubectl().wait(
            &format!("{node} to have its off-band livepatch again"),
            &["nlp", node],
            PATIENCE,
            |object| match status_of(object, EDGE) {
                status if status["result"] == "Loaded" && loaded(object, "lp_offband_v2") => Ok(()),
                status => Err(status.to_string()),
            },
        )?;
    }
    shows(stage, "offband-v2", "")
}

/// With the policy Unload it goes from nodes that are selected no longer.
pub fn leaves(stage: &Stage) -> Result<()> {
    stage
        .kubectl()
        .patch(&["lps", EDGE], &json!({"spec": {"removalPolicy": "Unload"}}))?;
    for node in NODES {
        stage.kubectl().run(&["label", "node", node, "workload-"])?;
    }
    for node in NODES {
        stage.kubectl().wait(
            &format!("{node} to be without its off-band livepatch"),
            &["nlp", node],
            PATIENCE,
            |object| {
                let granted = object["spec"]["livepatches"]
                    .as_array()
                    .is_some_and(|grants| grants.iter().any(|grant| grant["set"]["name"] == EDGE));
                if granted || loaded(object, "lp_offband_v2") {
                    Err(object["status"]["livepatches"].to_string())
                } else {
                    Ok(())
                }
            },
        )?;
    }
    shows(stage, "", "")?;
    stage.all_effective("cumulative-v2")?;
    stage.kubectl().run(&["delete", "lps", EDGE])?;
    Ok(())
}

fn apply(stage: &Stage, module: &str) -> Result<()> {
    let reference = stage.push(module)?;
    stage.kubectl().apply(&off_band(EDGE, &reference))?;
    Ok(())
}

/// A set of a livepatch for those nodes.
fn off_band(name: &str, reference: &str) -> String {
    format!(
        "{{apiVersion: livepatch.dev/v1alpha1, kind: LivepatchSet, metadata: {{name: {name}}}, spec: {{type: OffBand, \
         nodeSelector: {{matchLabels: {{workload: edge}}}}, template: {{source: {{oci: {{reference: '{reference}'}}}}}}, \
         rollout: {{maxConcurrent: 1, minReadySeconds: 2}}}}}}"
    )
}

/// Gives the set of all nodes another template, and waits until its rollout is made.
fn template(stage: &Stage, template: &Value) -> Result<()> {
    stage
        .kubectl()
        .patch(&["lps", BASE], &json!({"spec": {"template": template}}))?;
    stage.rollout(BASE)?;
    Ok(())
}

/// Fails unless the nodes of the off-band set show one marker and the others another.
fn shows(stage: &Stage, inside: &str, outside: &str) -> Result<()> {
    let shown = stage.shown_in(FILE)?;
    for (node, marker) in &shown {
        let expected = if NODES.contains(&node.as_str()) {
            inside
        } else {
            outside
        };
        ensure!(marker == expected, "expected {expected:?} on {node}: {shown:?}");
    }
    Ok(())
}

fn status_of<'a>(object: &'a Value, set: &str) -> &'a Value {
    let statuses = object["status"]["livepatches"].as_array();
    statuses
        .and_then(|statuses| statuses.iter().find(|status| status["set"] == set))
        .unwrap_or(&Value::Null)
}

fn loaded(object: &Value, module: &str) -> bool {
    object["status"]["loaded"]
        .as_array()
        .is_some_and(|loaded| loaded.iter().any(|livepatch| livepatch["module"] == module))
}
