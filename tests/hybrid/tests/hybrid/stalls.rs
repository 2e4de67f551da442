//! Transitions that do not end.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use livepatch_tests_hybrid::node::{EXECDOMAINS, FILES, Node, VERSION, entry};
use serde_json::json;

crate::stories! {
    ; long
    a_stalled_replace_is_taken_back_at_its_deadline_although_the_agent_is_killed
}

const POD: &str = "2c48913c-8f8b-4a3e-9d7e-0c5f6a1b2c3d";
/// The least that a transition may be given.
const TIMEOUT: Duration = Duration::from_secs(30);
/// A new deadline for the second agent would end later than this.
const LATE: Duration = Duration::from_secs(12);

fn a_stalled_replace_is_taken_back_at_its_deadline_although_the_agent_is_killed(node: &Node<'_>) -> Result<()> {
    let (v1, stalling) = (node.module("lp_atomic_v1")?, node.module("lp_atomic_stalling")?);
    let off_a = node.off_band("a", &node.module("lp_a_v1")?);
    node.load(&[node.cumulative(&v1), off_a.clone()])?;
    let sleeper = node.put_to_sleep(POD)?;
    node.sample(&FILES)?;
    let next = node.cumulative(&stalling).after(&v1, node);
    let next = next.with("transitionTimeoutSeconds", json!(TIMEOUT.as_secs()));
    node.write(&[next, off_a])?;
    node.vm().shell(
        "until grep -q 1 /sys/kernel/livepatch/lp_atomic_stalling/transition 2>/dev/null; do sleep 0.05; done",
    )?;
    let begun = Instant::now();
    thread::sleep(LATE);
    node.vm().shell("kill -KILL $(pidof livepatch-agent)")?;
    let object = node.told("base", "Failed", "TransitionTimedOut")?;
    let took = begun.elapsed();
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
    println!("cancelled and told after {took:.0?}; gap of a: {seen:.0} ms seen, {told:.0} ms told");
    ensure!(gaps.len() == 1 && seen <= told, "{gaps:?}, told are {told:.0} ms");
    let limit = (TIMEOUT + LATE).as_secs_f64() * 1000.0;
    ensure!(
        seen < limit,
        "taken back after {seen:.0} ms: the second agent made a deadline of its own"
    );
    ensure!(
        samples
            .gaps(VERSION, &["lp_atomic_v1", "lp_atomic_stalling"])
            .is_empty()
    );
    Ok(())
}
