//! Bad input and bad days.

use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use livepatch_rig::install::REPOSITORY;

use crate::stage::{CANARY, PATIENCE, Stage, condition};

const SET: &str = "base";
/// A set over a pool in which no node is, so that nothing but its artefact is at stake.
const NOWHERE: &str = "{matchLabels: {pool: nowhere}}";

fn digest(of: char) -> String {
    format!("sha256:{}", String::from(of).repeat(64))
}

/// Operator and agent have a list of repositories.
pub fn repository_not_allowed(stage: &Stage) -> Result<()> {
    stage.apply_set_over(
        "elsewhere",
        &format!("registry.other.example/fix@{}", digest('a')),
        NOWHERE,
    )?;
    let set = stage.ready_reason("elsewhere", "RepositoryNotAllowed")?;
    ensure!(condition(&set, "Accepted")["status"] == "False", "{}", set["status"]);
    stage.kubectl().run(&["delete", "lps", "elsewhere"])?;
    Ok(())
}

/// A digest that nobody pushed.
pub fn digest_unknown(stage: &Stage) -> Result<()> {
    stage.apply_set_over("unknown", &format!("{REPOSITORY}/nothing@{}", digest('b')), NOWHERE)?;
    stage.ready_reason("unknown", "DigestUnknown")?;
    stage.kubectl().run(&["delete", "lps", "unknown"])?;
    Ok(())
}

/// Killed between load and report: the next agent adopts what is loaded.
pub fn agent_killed(stage: &Stage) -> Result<()> {
    let node = stage.cluster.node(CANARY)?;
    let loads = || -> Result<u32> {
        let counted = node.shell("dmesg | grep -c \"enabling patch 'lp_cumulative_v1'\"")?;
        counted.trim().parse().context("a number")
    };
    let before = loads()?;
    let reference = stage.push("lp_cumulative_v1")?;
    stage.apply_set(SET, &reference)?;
    stage.rollout(SET)?;
    // The module appears before its transition ends and long before the status is written.
    node.shell(
        "for i in $(seq 600); do test -d /sys/module/lp_cumulative_v1 && break; sleep 0.1; done; \
         pkill -KILL -f '^/livepatch-agent'; test -d /sys/module/lp_cumulative_v1",
    )?;
    stage.complete(SET)?;
    stage.all_effective("cumulative-v1")?;
    let loads = loads()?;
    ensure!(
        loads == before + 1,
        "the second agent loaded it too: {before} loads before, {loads} after"
    );
    Ok(())
}

/// The leader is killed as soon as the canary has its grant.
pub fn operator_killed(stage: &Stage) -> Result<()> {
    let reference = stage.push("lp_cumulative_v2")?;
    stage.apply_set(SET, &reference)?;
    let rollout = stage.rollout(SET)?;
    Stage::eventually("the canary's grant", || Ok(!stage.granted(&rollout)?.is_empty()))?;
    for (node, pod) in stage.pods("operator")? {
        let name = pod["metadata"]["name"].as_str().context("a name")?;
        let kill = "pkill -KILL -f '^/livepatch-operator'";
        stage
            .cluster
            .node(&node)?
            .shell(kill)
            .with_context(|| format!("kill {name}"))?;
    }
    stage.complete(SET)?;
    stage.all_effective("cumulative-v2")
}

/// Agents go on with what they know, the operator waits.
pub fn api_server_away(stage: &Stage) -> Result<()> {
    let before = stage.effective()?;
    let plane = stage.cluster.control_plane();
    plane.stop_apiserver(Duration::ZERO)?;
    thread::sleep(Duration::from_secs(30));
    plane.start_apiserver()?;
    ensure!(
        stage.effective()? == before,
        "something changed while the API server was away"
    );
    let reference = stage.push("lp_cumulative_v3")?;
    stage.apply_set(SET, &reference)?;
    stage.rollout(SET)?;
    stage.complete(SET)?;
    stage.all_effective("cumulative-v3")
}

/// What was loaded minutes before a power cut is quarantined, and the agent says so.
pub fn power_cut(stage: &Stage) -> Result<()> {
    let before = stage.effective()?["backports"].clone();
    stage.cluster.hard_reset("backports")?;
    let held = |nlp: &serde_json::Value| {
        let status = &nlp["status"]["livepatches"][0];
        let reason = status["reason"].as_str().unwrap_or_default();
        let boot = nlp["status"]["bootID"].as_str().unwrap_or_default().to_owned();
        let now = stage
            .cluster
            .node("backports")
            .and_then(|node| node.shell("cat /proc/sys/kernel/random/boot_id"));
        if now.is_ok_and(|now| now.trim() == boot) && reason.starts_with("Rebooted") {
            Ok(())
        } else {
            Err(nlp["status"].to_string())
        }
    };
    stage.kubectl().wait(
        "the agent to hold back after the power cut",
        &["nlp", "backports"],
        PATIENCE,
        held,
    )?;
    thread::sleep(Duration::from_secs(5));
    let effective = stage.effective()?;
    ensure!(
        effective["backports"] != before,
        "loaded again while on probation: {effective:?}"
    );
    Ok(())
}
