//! Transitions that do not end.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use livepatch_tests_hybrid::node::{EXECDOMAINS, FILES, Node, VERSION, entry};
use serde_json::{Value, json};

crate::stories! {
    a_stalled_replace_is_taken_back_at_its_deadline_although_the_agent_is_killed
    ; long
}

const POD: &str = "2c48913c-8f8b-4a3e-9d7e-0c5f6a1b2c3d";
/// The least that a transition may be given.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Kills the agent when the transition has begun, and keeps its process id and its journal. In the node, where it takes no
/// part of the time that the transition has.
const KILLER: &str = "setsid sh -c 'until grep -q 1 /sys/kernel/livepatch/lp_atomic_stalling/transition; do sleep 0.05; done; \
    pid=$(pidof livepatch-agent); kill -KILL $pid; (echo $pid; cat /disk/livepatch/journal.json) >/tmp/killed' \
    >/dev/null 2>&1 </dev/null &";

fn a_stalled_replace_is_taken_back_at_its_deadline_although_the_agent_is_killed(node: &Node<'_>) -> Result<()> {
    let (v1, stalling) = (node.module("lp_atomic_v1")?, node.module("lp_atomic_stalling")?);
    let off_a = node.off_band("a", &node.module("lp_a_v1")?);
    node.load(&[node.cumulative(&v1), off_a.clone()])?;
    let sleeper = node.put_to_sleep(POD)?;
    node.sample(&FILES)?;
    let next = node.cumulative(&stalling).after(&v1, node);
    let next = next.with("transitionTimeoutSeconds", json!(TIMEOUT.as_secs()));
    node.vm().shell(KILLER)?;
    node.write(&[next, off_a])?;
    let object = node.told("base", "Failed", "TransitionTimedOut")?;
    let killed = node.vm().shell("cat /tmp/killed")?;
    let (first, journal) = killed.split_once('\n').with_context(|| format!("killed: {killed:?}"))?;
    ensure!(node.agent()?.to_string() != first, "the agent outlived its end");
    let before = deadline(&serde_json::from_str(journal).context("read the first agent's journal")?)?;
    let after = deadline(&node.journal()?)?;
    ensure!(before == after, "the deadline was {before}, the second agent's {after}");
    node.shows(["lp_atomic_v1", "-", "lp_a_v1", "-"])?;
    let entry_of_base = entry(&object, "base");
    let blockers = entry_of_base["blockers"].as_array().context("no blockers")?;
    let named = |blocker: &Value| blocker["pid"] == sleeper && blocker["comm"] == "cat" && blocker["podUID"] == POD;
    ensure!(blockers.iter().any(named), "{entry_of_base}");
    // The time with the fix away is the time of the transition: tasks that had switched ran the original function.
    let samples = node.samples()?;
    let gaps = samples.gaps(EXECDOMAINS, &["lp_a_v1"]);
    let seen = gaps
        .first()
        .context("the sampler, which had switched, missed nothing")?
        .milliseconds();
    let told = entry(&object, "a")["gapMilliseconds"]
        .as_f64()
        .context("no gap is told of a")?;
    println!(
        "{}; gap of a: {seen:.0} ms seen, {told:.0} ms told",
        entry_of_base["message"]
    );
    ensure!(gaps.len() == 1 && seen <= told, "{gaps:?}, told are {told:.0} ms");
    ensure!(
        samples
            .gaps(VERSION, &["lp_atomic_v1", "lp_atomic_stalling"])
            .is_empty()
    );
    Ok(())
}

/// When the transition of the newcomer is to be over, as a journal says.
fn deadline(journal: &Value) -> Result<u64> {
    let entries = journal["entries"].as_array().context("a journal without entries")?;
    let entry = entries.iter().find(|entry| entry["module"] == "lp_atomic_stalling");
    let entry = entry.with_context(|| format!("nothing of it in {journal}"))?;
    entry["deadline"]
        .as_u64()
        .with_context(|| format!("no deadline in {entry}"))
}
