//! What is not done, and what is said of it.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use livepatch_tests_hybrid::node::{EXECDOMAINS, FILES, Grant, Node, VERSION, entry, loaded};
use livepatch_tests_hybrid::samples::Gap;
use livepatch_tests_hybrid::stage::{Module, modules_for, rebuilt};
use serde_json::json;

crate::stories! {
    what_cannot_be_stacked_is_refused_with_the_reason
    a_contained_off_band_gives_way_and_comes_back
    conflicts_are_refused_naming_both_sets_and_the_function
    ; long
}

/// Writes a grant that has to be refused for this reason, with these words in the message, and leaves things as they are.
fn refused(node: &Node<'_>, others: &[Grant], grant: Grant, set: &str, reason: &str, words: &[&str]) -> Result<()> {
    let before = node.effective()?;
    let mut grants = others.to_vec();
    grants.push(grant);
    node.write(&grants)?;
    let object = node.told(set, "Failed", reason)?;
    let message = entry(&object, set)["message"].as_str().unwrap_or_default();
    for word in words {
        ensure!(message.contains(word), "{reason}: {word:?} is not in {message:?}");
    }
    ensure!(node.effective()? == before, "{reason}: something changed");
    println!("{reason}: {message}");
    Ok(())
}

fn what_cannot_be_stacked_is_refused_with_the_reason(node: &Node<'_>) -> Result<()> {
    let v1 = node.module("lp_stacked_v1")?;
    let v2 = node.module("lp_stacked_v2")?;
    node.load(&[node.cumulative(&v1)])?;
    let over = |old: &Module, new: &Module, reason: &str, words: &[&str]| {
        refused(node, &[], node.cumulative(new).after(old, node), "base", reason, words)
    };
    let module = |name: &str| node.module(name);
    over(
        &v1,
        &module("lp_stacked_callbacks")?,
        "StackingCallbacks",
        &["lp_stacked_callbacks"],
    )?;
    over(
        &v1,
        &module("lp_stacked_state")?,
        "StackingStates",
        &["lp_stacked_state"],
    )?;
    over(
        &v1,
        &module("lp_stacked_shadow")?,
        "StackingShadowVariables",
        &["lp_stacked_shadow"],
    )?;
    let folder = tempfile::tempdir()?;
    let file: PathBuf = modules_for(node.vm().kernel())?.join("lp_stacked_v1.ko");
    let again = node.stage().push(&rebuilt(&file, folder.path())?)?;
    over(&v1, &again, "StackingSameName", &["lp_stacked_v1"])?;
    // By hand, as somebody with a terminal would.
    node.vm().shell("insmod /modules/lp_third.ko; until [ $(cat /sys/kernel/livepatch/lp_third/transition) = 0 ]; do sleep 0.1; done")?;
    over(&v1, &v2, "StackingThirdParty", &["lp_third", "uptime_proc_show"])?;
    node.vm().shell(
        "echo 0 >/sys/kernel/livepatch/lp_third/enabled; until rmmod lp_third 2>/dev/null; do sleep 0.2; done",
    )?;
    node.write(&[node.cumulative(&v2).after(&v1, node).with("attempt", json!(2))])?;
    node.told("base", "Loaded", "Effective")?;
    over(&v2, &v1, "StackingFunctionsDropped", &["uptime_proc_show"])?;
    // An off-band is exchanged under the same conditions.
    let (a, callbacks) = (module("lp_a_v1")?, module("lp_a_callbacks")?);
    node.write(&[node.off_band("a", &a)])?;
    node.told("a", "Loaded", "Effective")?;
    let next = node.off_band("a", &callbacks).after(&a, node);
    refused(node, &[], next, "a", "StackingCallbacks", &["lp_a_callbacks"])?;
    node.shows(["lp_stacked_v2", "lp_stacked_v2", "lp_a_v1", "-"])
}

fn conflicts_are_refused_naming_both_sets_and_the_function(node: &Node<'_>) -> Result<()> {
    let base = node.cumulative(&node.module("lp_atomic_v1")?);
    let off_a = node.off_band("a", &node.module("lp_a_v1")?);
    node.load(&[base.clone(), off_a.clone()])?;
    let function = "execdomains_proc_show";
    let newcomer = node.off_band("elsewhere", &node.module("lp_a_v2")?);
    let words = &["elsewhere", "set a", function];
    refused(node, &[base, off_a.clone()], newcomer, "elsewhere", "Conflict", words)?;
    // Two fixes to one function from both branches.
    let with_a = node.cumulative(&node.module("lp_atomic_with_a")?);
    refused(node, &[off_a], with_a, "base", "Conflict", &["base", "set a", function])?;
    node.shows(["lp_atomic_v1", "-", "lp_a_v1", "-"])
}

fn a_contained_off_band_gives_way_and_comes_back(node: &Node<'_>) -> Result<()> {
    let (v1, with_a) = (node.module("lp_atomic_v1")?, node.module("lp_atomic_with_a")?);
    let a = node.module("lp_a_v1")?;
    let (base, off_a) = (node.cumulative(&v1), node.off_band("a", &a));
    node.load(&[base.clone(), off_a.clone()])?;
    let supersedes = json!({"supersedes": [{"set": "a", "moduleSHA256": [a.sha256]}]});
    let holder = node.cumulative(&with_a).after(&v1, node).with("policy", supersedes);
    node.sample(&FILES)?;
    node.write(&[holder.clone(), off_a.clone()])?;
    node.told("a", "Superseded", "Superseded")?;
    node.told("base", "Loaded", "Effective")?;
    node.shows(["lp_atomic_with_a", "-", "lp_atomic_with_a", "-"])?;
    let gaps = node.samples()?.gaps(EXECDOMAINS, &["lp_a_v1", "lp_atomic_with_a"]);
    ensure!(
        gaps.is_empty(),
        "seen without the fix while it was taken over: {gaps:?}"
    );
    let object = node.load(&[holder.back_to(&v1, node), off_a])?;
    node.shows(["lp_atomic_v1", "-", "lp_a_v1", "-"])?;
    let mut modules = loaded(&object);
    modules.sort_unstable();
    ensure!(modules == ["lp_a_v1", "lp_atomic_v1"], "{}", object["status"]);
    let samples = node.samples()?;
    let away = samples.gaps(VERSION, &["lp_atomic_v1", "lp_atomic_with_a"]);
    ensure!(away.is_empty(), "the cumulative fix was away: {away:?}");
    let gaps = samples.gaps(EXECDOMAINS, &["lp_a_v1", "lp_atomic_with_a"]);
    let told = entry(&object, "a")["gapMilliseconds"]
        .as_f64()
        .context("no gap is told")?;
    let seen = gaps.first().map_or(0.0, Gap::milliseconds);
    println!("rolled back; gap of a: {seen:.0} ms seen, {told:.0} ms told");
    ensure!(gaps.len() <= 1 && seen <= told, "{gaps:?}, told are {told:.0} ms");
    Ok(())
}
