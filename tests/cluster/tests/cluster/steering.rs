//! A person at the wheel: every verb of the plugin, on real nodes.

use anyhow::{Result, ensure};

use crate::stage::{CANARY, Stage};

const SET: &str = "base";
/// The node that is left out for a while.
const LATE: &str = "backports";

/// Paused, resumed, promoted with a node left out, which is taken in again, and brought back.
pub fn forth_and_back(stage: &Stage) -> Result<()> {
    let before = stage.effective()?;
    // Under a name of its own: what was brought back once is not begun again.
    let reference = stage
        .installation
        .push("steered", &Stage::modules("lp_cumulative_v1")?)?;
    let budget = "maxConcurrent: 1, minReadySeconds: 2";
    stage.apply_set_with(SET, &reference, "{}", ", then: AwaitPromotion", budget)?;
    let rollout = stage.rollout(SET)?;
    let told = stage.plugin(2, &["status", SET, "--timeout", "4m"])?;
    ensure!(told.contains("AwaitingPromotion"), "{told}");
    ensure!(stage.granted(&rollout)? == [CANARY], "{:?}", stage.granted(&rollout)?);

    stage.plugin(0, &["exclude", SET, LATE])?;
    stage.plugin(0, &["pause", SET])?;
    stage.ready_reason(SET, "Paused")?;
    stage.plugin(0, &["promote", SET])?;
    ensure!(stage.granted(&rollout)? == [CANARY], "a paused rollout grants nothing");
    stage.plugin(0, &["resume", SET])?;
    stage.plugin(0, &["status", SET, "--timeout", "4m"])?;
    let effective = stage.effective()?;
    ensure!(effective[LATE] == before[LATE], "it is left out: {effective:?}");
    ensure!(effective[CANARY] == "cumulative-v1", "{effective:?}");
    let tree = stage.plugin(0, &["get", SET])?;
    ensure!(tree.contains("wave canary") && tree.contains("wave rest"), "{tree}");

    stage.plugin(0, &["exclude", SET, LATE, "--undo"])?;
    Stage::eventually("the node that was left out to catch up", || {
        Ok(stage.effective()?[LATE] == "cumulative-v1")
    })?;
    stage.complete(SET)?;
    stage.all_effective("cumulative-v1")?;

    let told = stage.plugin(0, &["undo", SET])?;
    ensure!(told.contains(SET), "{told}");
    stage.ready_reason(SET, "RolledBack")?;
    ensure!(stage.effective()? == before, "{:?}", stage.effective()?);
    for views in [&["list"][..], &["history", SET], &["cves"], &["explain", CANARY]] {
        let shown = stage.plugin(0, views)?;
        ensure!(!shown.trim().is_empty(), "{views:?} shows nothing");
    }
    // Against the revision before it, of which it differs.
    stage.plugin(1, &["diff", SET])?;
    Ok(())
}

/// A rollout that halted is tried again, and then ended for good.
pub fn retried_and_aborted(stage: &Stage) -> Result<()> {
    stage.plugin(1, &["status", SET])?;
    let told = stage.plugin(0, &["retry", SET])?;
    ensure!(told.contains("attempt 2"), "{told}");
    let told = stage.plugin(1, &["status", SET, "--timeout", "4m"])?;
    ensure!(told.contains("Halted"), "the kernel refuses it again: {told}");
    stage.plugin(0, &["abort", SET])?;
    stage.ready_reason(SET, "Aborted")?;
    let told = stage.plugin(3, &["resume", SET])?;
    ensure!(told.contains("aborted"), "{told}");
    Ok(())
}
