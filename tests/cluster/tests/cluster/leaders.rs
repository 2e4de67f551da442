//! Operators that die, and one that comes back and does not know that it was replaced.

use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use livepatch_rig::install::NAMESPACE;
use serde_json::Value;

use crate::stage::{Stage, condition};

/// A set of its own, for whoever tells only this.
const SET: &str = "restless";
const MODULES: [&str; 3] = ["lp_cumulative_v1", "lp_cumulative_v2", "lp_cumulative_v3"];
const KILLS: usize = 20;
/// Longer than a lease lasts, shorter than the kubelet bears a process that does not answer.
const PAUSED: Duration = Duration::from_secs(18);

/// The leader is killed at moments that nobody chose: no livepatch is loaded twice, no node is lost, every rollout is completed.
pub fn killed_again_and_again(stage: &Stage) -> Result<()> {
    let mut killed = 0;
    // Moments all over a rollout, the same in every run.
    let mut pauses = (0..).map(|index: u64| Duration::from_millis(400 + index * 2_347 % 9_000));
    for round in 0.. {
        if killed >= KILLS {
            break;
        }
        let module = MODULES[round % MODULES.len()];
        let before = loads(stage, module)?;
        let reference = stage.push(module)?;
        stage.apply_set(SET, &reference)?;
        let rollout = stage.rollout(SET)?;
        while killed < KILLS && !is_complete(stage, &rollout)? {
            thread::sleep(pauses.next().unwrap_or_default());
            if kill_leader(stage)? {
                killed += 1;
                eprintln!("  leader {killed} of {KILLS} killed in round {}", round + 1);
            }
        }
        stage.complete(SET)?;
        let after = loads(stage, module)?;
        let once: Vec<u32> = before.iter().map(|loads| loads + 1).collect();
        ensure!(
            after == once,
            "{module} was loaded {before:?} times before and {after:?} after"
        );
    }
    stage.kubectl().run(&["delete", "lps", SET])?;
    Ok(())
}

/// A leader that is stopped for longer than its lease and goes on as if nothing had happened.
pub fn paused_past_its_lease(stage: &Stage) -> Result<()> {
    let module = MODULES[0];
    // Whatever was told before, this is news on every node.
    if stage.effective()?.values().any(|marker| marker == "cumulative-v1") {
        stage.apply_set(SET, &stage.push(MODULES[1])?)?;
        stage.rollout(SET)?;
        stage.complete(SET)?;
    }
    let before = loads(stage, module)?;
    stage.apply_set(SET, &stage.push(module)?)?;
    let rollout = stage.rollout(SET)?;
    Stage::eventually("a grant", || Ok(!stage.granted(&rollout)?.is_empty()))?;
    let (node, pod) = leader(stage)?.context("there is a leader")?;
    signal(stage, &node, "STOP")?;
    thread::sleep(PAUSED);
    signal(stage, &node, "CONT")?;
    stage.complete(SET)?;
    let after = loads(stage, module)?;
    let once: Vec<u32> = before.iter().map(|loads| loads + 1).collect();
    ensure!(after == once, "loaded {before:?} times before and {after:?} after");
    let now = leader(stage)?.context("there is a leader")?;
    ensure!(now.1 != pod, "the other one took over");
    stage.kubectl().run(&["delete", "lps", SET])?;
    Ok(())
}

/// Sends SIGKILL to the operator that holds the lease, and removes its pod so that the next one is not held back.
fn kill_leader(stage: &Stage) -> Result<bool> {
    let Some((node, pod)) = leader(stage)? else {
        return Ok(false);
    };
    signal(stage, &node, "KILL")?;
    let namespace = format!("--namespace={NAMESPACE}");
    stage
        .kubectl()
        .run(&["delete", "pod", &pod, &namespace, "--grace-period=1", "--wait=false"])?;
    Ok(true)
}

/// The two operators are on different nodes.
fn signal(stage: &Stage, node: &str, signal: &str) -> Result<()> {
    let send = format!("pkill -{signal} -f '^/livepatch-operator' || true");
    stage.cluster.node(node)?.shell(&send)?;
    Ok(())
}

/// Node and pod of the operator that holds the lease.
fn leader(stage: &Stage) -> Result<Option<(String, String)>> {
    let namespace = format!("--namespace={NAMESPACE}");
    let lease = stage.kubectl().get(&[&namespace, "lease", "livepatch-operator"])?;
    let holder = lease["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned();
    let name = |pod: &Value| pod["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let found = stage
        .pods("operator")?
        .into_iter()
        .map(|(node, pod)| (node, name(&pod)))
        .find(|(_, pod)| !holder.is_empty() && holder.starts_with(pod.as_str()));
    Ok(found)
}

fn is_complete(stage: &Stage, rollout: &str) -> Result<bool> {
    let object = stage.kubectl().get(&["lpr", rollout])?;
    Ok(condition(&object, "Complete")["status"] == "True")
}

/// How often each node's kernel was asked to load a module since it booted.
fn loads(stage: &Stage, module: &str) -> Result<Vec<u32>> {
    stage.cluster.on_each_node(|node| {
        let counted = node.shell(&format!("dmesg | grep -c \"enabling patch '{module}'\" || true"))?;
        counted
            .trim()
            .parse()
            .with_context(|| format!("{counted:?} is no number"))
    })
}
