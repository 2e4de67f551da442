//! Livepatches that turn out bad only after they were loaded.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::stage::{CANARY, PATIENCE, Stage, condition};

const SET: &str = "base";
/// A set of its own, for whoever tells only this.
const BAD: &str = "bad";

/// The kernel warns after the load: with failurePolicy `RollBack` the canary gets its former livepatch back, and the rest is
/// never touched.
pub fn warned_canary(stage: &Stage) -> Result<()> {
    let before = stage.effective()?;
    let loads = loads(stage, "bookworm")?;
    let reference = stage.push("lp_warning")?;
    stage.apply_set_with(
        SET,
        &reference,
        "{}",
        "",
        "maxConcurrent: 1, minReadySeconds: 2, failurePolicy: RollBack",
    )?;
    let rollout = stage.rollout(SET)?;
    let set = stage.ready_reason(SET, "RolledBack")?;
    let said = set["status"]["blockedBy"].as_str().unwrap_or_default();
    ensure!(said.contains(CANARY) && said.contains("KernelTainted"), "{said}");
    ensure!(set["status"]["counts"]["rolledBack"] == 3, "{}", set["status"]);
    ensure!(stage.granted(&rollout)? == [CANARY], "{:?}", stage.granted(&rollout)?);
    let after = stage.effective()?;
    ensure!(after == before, "{before:?} before, {after:?} after");
    ensure!(loads == self::loads(stage, "bookworm")?, "the rest was touched");
    let node = stage.cluster.node(CANARY)?;
    node.shell("dmesg | grep -q \"enabling patch 'lp_warning'\"")
        .context("it was not tried at all")?;
    let told = stage.plugin(1, &["status", SET])?;
    ensure!(told.contains("RolledBack") && told.contains("KernelTainted"), "{told}");
    Ok(())
}

/// The canary's kernel stops two minutes after the load, while the node is still watched: nobody else gets it, and after
/// the power cut that ends it, it is not loaded again.
pub fn hung_canary(stage: &Stage) -> Result<()> {
    let reference = stage.push("lp_hang_later")?;
    stage.apply_set_with(BAD, &reference, "{}", "", "maxConcurrent: 1, minReadySeconds: 600")?;
    let rollout = stage.rollout(BAD)?;
    let hangs = Duration::from_mins(2) + PATIENCE;
    let set = stage
        .kubectl()
        .wait("the rollout to halt", &["lps", BAD], hangs, |set| {
            let ready = condition(set, "Ready");
            if ready["reason"] == "Halted" {
                Ok(())
            } else {
                Err(ready.to_string())
            }
        })?;
    let said = set["status"]["blockedBy"].as_str().unwrap_or_default();
    ensure!(said.contains(CANARY) && said.contains("NodeLost"), "{said}");
    ensure!(stage.granted(&rollout)? == [CANARY], "{:?}", stage.granted(&rollout)?);

    stage.cluster.hard_reset(CANARY)?;
    stage.kubectl().wait(
        "the agent to tell that it holds back",
        &["nlp", CANARY],
        PATIENCE,
        |object| {
            let statuses = object["status"]["livepatches"].as_array();
            let told = statuses.is_some_and(|statuses| {
                statuses.iter().any(|status| {
                    status["set"] == BAD && status["reason"].as_str().is_some_and(|r| r.starts_with("Rebooted"))
                })
            });
            if told {
                Ok(())
            } else {
                Err(object["status"].to_string())
            }
        },
    )?;
    let effective = stage.effective()?;
    ensure!(
        effective.values().all(|marker| marker != "hang-later"),
        "loaded again: {effective:?}"
    );
    ensure!(stage.granted(&rollout)? == [CANARY], "{:?}", stage.granted(&rollout)?);
    stage.kubectl().run(&["delete", "lps", BAD])?;
    Ok(())
}

/// How many livepatches the kernel of a node was asked to load since it booted.
fn loads(stage: &Stage, node: &str) -> Result<String> {
    let counted = stage
        .cluster
        .node(node)?
        .shell("dmesg | grep -c 'enabling patch' || true")?;
    Ok(counted.trim().to_owned())
}
