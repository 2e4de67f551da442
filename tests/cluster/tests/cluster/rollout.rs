//! A set on its way over the fleet.

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::stage::{CANARY, PATIENCE, Stage, condition};
use std::time::{Duration, Instant};

const SET: &str = "base";

/// While the canary has not settled no other node has a grant; `kubectl wait` returns when all have.
pub fn canary_first(stage: &Stage) -> Result<()> {
    let reference = stage.push("lp_cumulative_v1")?;
    stage.apply_set(SET, &reference)?;
    let rollout = stage.rollout(SET)?;
    let started = Instant::now();
    loop {
        let granted = stage.granted(&rollout)?;
        let lpr = stage.kubectl().get(&["lpr", &rollout])?;
        let canary = lpr["status"]["waves"][0]["state"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        // Read after the grants: if the wave had not passed by then, it had not when they were given.
        if canary == "Passed" {
            break;
        }
        ensure!(
            granted.iter().all(|node| node == CANARY),
            "granted before the canary settled: {granted:?}"
        );
        let complete = condition(&stage.kubectl().get(&["lps", SET])?, "Complete")["status"].clone();
        ensure!(complete != "True", "complete before the canary settled");
        ensure!(
            started.elapsed() < PATIENCE,
            "the canary did not pass: {}",
            lpr["status"]
        );
    }
    let timeout = format!("--timeout={}s", PATIENCE.as_secs());
    stage
        .kubectl()
        .run(&["wait", "--for=condition=Complete", &timeout, &format!("lps/{SET}")])?;
    stage.all_effective("cumulative-v1")?;
    let set = stage.kubectl().get(&["lps", SET])?;
    ensure!(set["status"]["counts"]["settled"] == 3, "{}", set["status"]);
    ensure!(condition(&set, "Ready")["status"] == "True");
    for node in stage.cluster.nodes() {
        let nlp = stage.kubectl().get(&["nlp", node.name()])?;
        let loaded = &nlp["status"]["loaded"][0];
        ensure!(
            loaded["module"] == "lp_cumulative_v1" && loaded["owner"] == "Set" && loaded["enabled"] == true,
            "{nlp}"
        );
    }
    Ok(())
}

/// What a person sees first.
pub fn columns(stage: &Stage) -> Result<()> {
    let header = |kind: &str| -> Result<String> {
        let printed = stage.kubectl().run(&["get", kind])?;
        let line = printed.lines().next().context("a header")?;
        // Columns stand two or more blanks apart, and some names hold one.
        Ok(line
            .split("  ")
            .map(str::trim)
            .filter(|cell| !cell.is_empty())
            .collect::<Vec<_>>()
            .join("|"))
    };
    ensure!(
        header("lps")? == "NAME|TYPE|READY|REASON|SETTLED|SELECTED|FAILED|WAVE|AGE",
        "{}",
        header("lps")?
    );
    let lpr = header("lpr")?;
    ensure!(
        lpr == "NAME|SET|STATE|WAVE|SETTLED|IN FLIGHT|SELECTED|FAILED|AGE",
        "{lpr}"
    );
    ensure!(
        header("nlp")? == "NAME|KERNEL|READY|REASON|LOADED|AGE",
        "{}",
        header("nlp")?
    );
    let all = stage.kubectl().run(&["get", "livepatch"])?;
    ensure!(
        all.contains("livepatchset") && all.contains("livepatchrollout") && all.contains("nodelivepatch"),
        "{all}"
    );
    Ok(())
}

/// A cumulative livepatch of the same set replaces its former one.
pub fn upgrade(stage: &Stage) -> Result<()> {
    let reference = stage.push("lp_cumulative_v2")?;
    stage.apply_set(SET, &reference)?;
    stage.rollout(SET)?;
    stage.complete(SET)?;
    stage.all_effective("cumulative-v2")?;
    let rollouts = stage
        .kubectl()
        .get(&["lpr", &format!("--selector=livepatch.dev/set={SET}")])?;
    let rollouts = rollouts["items"].as_array().context("a list")?;
    ensure!(rollouts.len() == 2, "one rollout for each revision: {}", rollouts.len());
    let reasons: Vec<_> = rollouts
        .iter()
        .map(|rollout| condition(rollout, "Ready")["reason"].clone())
        .collect();
    ensure!(
        reasons.contains(&json!("Superseded")) && reasons.contains(&json!("Complete")),
        "{reasons:?}"
    );
    Ok(())
}

/// The kernel refuses the canary's load: no other node is touched, and the set says which node, which errno and why.
pub fn refused_canary(stage: &Stage) -> Result<()> {
    let reference = stage.push("lp_unknown_symbol")?;
    stage.apply_set(SET, &reference)?;
    let rollout = stage.rollout(SET)?;
    let set = stage.ready_reason(SET, "Halted")?;
    let said = set["status"]["blockedBy"].as_str().unwrap_or_default().to_owned();
    ensure!(
        said.contains(CANARY) && said.contains("SymbolNotFound") && said.contains("EINVAL"),
        "{said}"
    );
    ensure!(condition(&set, "Stalled")["status"] == "True");
    std::thread::sleep(Duration::from_secs(15));
    ensure!(stage.granted(&rollout)? == [CANARY], "{:?}", stage.granted(&rollout)?);
    stage
        .all_effective("cumulative-v2")
        .context("after the failure of the canary")?;
    let described = stage.kubectl().run(&["describe", "lps", SET])?;
    ensure!(
        described.contains("SymbolNotFound") && described.contains("Halted"),
        "{described}"
    );
    let listed = stage.kubectl().run(&["get", "lps", SET])?;
    ensure!(listed.contains("Halted"), "{listed}");
    let events = stage.kubectl().run(&["get", "events", "--namespace=default"])?;
    ensure!(
        events.contains("NodeFailed") && events.contains("SymbolNotFound"),
        "{events}"
    );
    let metrics = stage.operator_metrics()?;
    ensure!(
        metrics.lines().any(|line| line.contains("SymbolNotFound")),
        "no metric names the reason:\n{metrics}"
    );
    Ok(())
}

/// The next revision is another rollout, with no failure of its own.
pub fn recovers(stage: &Stage) -> Result<()> {
    let reference = stage.push("lp_cumulative_v3")?;
    stage.apply_set(SET, &reference)?;
    stage.rollout(SET)?;
    stage.complete(SET)?;
    stage.all_effective("cumulative-v3")
}
