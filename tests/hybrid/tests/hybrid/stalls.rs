//! Transitions that do not end.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use livepatch_rig::progress::{Waited, wait_for};
use livepatch_tests_hybrid::node::{EXECDOMAINS, FILES, Node, PATIENCE, VERSION, entry};
use serde_json::json;

crate::stories! {
    a_stalled_replace_is_taken_back_at_its_deadline_although_the_agent_is_killed
    ; long
}

const POD: &str = "2c48913c-8f8b-4a3e-9d7e-0c5f6a1b2c3d";
/// The least that a transition may be given.
const TIMEOUT: Duration = Duration::from_secs(30);

fn a_stalled_replace_is_taken_back_at_its_deadline_although_the_agent_is_killed(node: &Node<'_>) -> Result<()> {
    let (v1, stalling) = (node.module("lp_atomic_v1")?, node.module("lp_atomic_stalling")?);
    let off_a = node.off_band("a", &node.module("lp_a_v1")?);
    node.load(&[node.cumulative(&v1), off_a.clone()])?;
    let sleeper = node.put_to_sleep(POD)?;
    node.sample(&FILES)?;
    let next = node.cumulative(&stalling).after(&v1, node);
    let next = next.with("transitionTimeoutSeconds", json!(TIMEOUT.as_secs()));
    node.write(&[next, off_a])?;
    wait_for("the transition to begin", PATIENCE, || {
        let shown = node
            .vm()
            .run("grep 1 /sys/kernel/livepatch/lp_atomic_stalling/transition 2>&1")?;
        Ok(match shown.code {
            0 => Waited::Ready(()),
            _ => Waited::NotYet(shown.output),
        })
    })?;
    let (first, deadline) = (node.agent()?, deadline(node)?);
    node.vm().shell(&format!("kill -KILL {first}"))?;
    let object = node.told("base", "Failed", "TransitionTimedOut")?;
    ensure!(node.agent()? != first, "the agent outlived its end");
    let kept = self::deadline(node)?;
    ensure!(
        kept == deadline,
        "the deadline was {deadline}, the second agent's {kept}"
    );
    node.shows(["lp_atomic_v1", "-", "lp_a_v1", "-"])?;
    let entry_of_base = entry(&object, "base");
    let blocker = &entry_of_base["blockers"][0];
    ensure!(
        blocker["pid"] == sleeper && blocker["comm"] == "cat" && blocker["podUID"] == POD,
        "{entry_of_base}"
    );
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

/// When the transition of the newcomer is to be over, as the journal says.
fn deadline(node: &Node<'_>) -> Result<u64> {
    let journal = node.journal()?;
    let entries = journal["entries"].as_array().context("a journal without entries")?;
    let entry = entries.iter().find(|entry| entry["module"] == "lp_atomic_stalling");
    let entry = entry.with_context(|| format!("nothing of it in {journal}"))?;
    entry["deadline"]
        .as_u64()
        .with_context(|| format!("no deadline in {entry}"))
}
