//! Power cuts at every step, and modules that take the machine down.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use livepatch_tests_hybrid::node::{EXECDOMAINS, Grant, LOADAVG, Node, PATIENCE, VERSION, entry, phases};
use livepatch_tests_hybrid::stage::Module;
use serde_json::json;

crate::stories! {
    ; long
    a_power_cut_at_any_step_of_an_atomic_upgrade_loses_nothing
    a_power_cut_at_any_step_of_a_stacked_upgrade_loses_nothing
    a_power_cut_at_any_step_of_an_off_band_exchange_loses_nothing
    a_module_that_panics_at_once_is_not_loaded_a_third_time
    a_module_that_panics_later_is_not_loaded_a_third_time
}

/// For an upgrade that is left alone.
const UNDISTURBED: Duration = Duration::from_mins(1);
/// More versions of the journal than any upgrade makes.
const MANY: u32 = 40;

/// What is upgraded on a node.
struct Upgrade<'a> {
    /// The set, and the file that tells which of its modules is effective.
    set: &'a str,
    file: &'a str,
    old: &'a Module,
    new: &'a Module,
    before: Vec<Grant>,
    after: Vec<Grant>,
    /// Files of what the upgrade does not concern, with their livepatches.
    bystanders: &'a [(&'a str, &'a str)],
}

/// Cuts the power at the first, the second, … version of the journal that an upgrade makes, each time on the same disk.
/// Only the journal outlives the cut, so these are all states that a node can wake up in.
fn at_every_step(node: &Node<'_>, upgrade: &Upgrade<'_>) -> Result<()> {
    node.load(&upgrade.before)?;
    node.settle()?;
    node.dismiss_agent()?;
    node.vm().shell("sync")?;
    node.vm().power_cut()?;
    node.vm().keep_disk("before")?;
    for step in 1..MANY {
        node.write(&upgrade.before)?;
        node.vm().power_on()?;
        node.all_loaded()?;
        node.stop_agent_at(step)?;
        node.write(&upgrade.after)?;
        let Some(version) = stopped(node)? else {
            node.all_loaded()?;
            println!("{} steps", step - 1);
            ensure!(step > 2, "an upgrade of {} steps proves nothing", step - 1);
            return Ok(());
        };
        node.vm().shell("sync")?;
        node.vm().hard_reset()?;
        let outcome = awakes(node, upgrade).with_context(|| format!("after a power cut at {version:?}"))?;
        println!("{step}: {} -> {outcome}", version.join(", "));
        node.vm().power_cut()?;
        node.vm().return_disk("before")?;
    }
    bail!("the upgrade came to no end")
}

/// Waits until the agent was stopped; what its journal said then, or none if it came to its end before.
fn stopped(node: &Node<'_>) -> Result<Option<Vec<String>>> {
    let started = Instant::now();
    while started.elapsed() < UNDISTURBED {
        let (versions, stopped) = node.stops()?;
        if stopped {
            return Ok(versions.last().map(phases));
        }
        let object = node.object()?;
        let told = object["status"]["observedGeneration"] == object["metadata"]["generation"];
        let entries = object["status"]["livepatches"].as_array().cloned().unwrap_or_default();
        if told && entries.iter().all(|one| one["reason"] == "Effective") {
            // What is left to be written is written by now.
            thread::sleep(Duration::from_secs(3));
            let (versions, stopped) = node.stops()?;
            return Ok(versions.last().filter(|_| stopped).map(phases));
        }
        thread::sleep(Duration::from_millis(200));
    }
    bail!("the upgrade came to no end: {}", node.object()?["status"])
}

/// After the cut: what had settled is effective again, and the set shows either its new module or, where that one is
/// quarantined, the old one.
fn awakes(node: &Node<'_>, upgrade: &Upgrade<'_>) -> Result<String> {
    let boot = node.vm().boot_id()?;
    let object = node.wait("the node to converge", PATIENCE, |object| {
        let status = &object["status"];
        let told = entry(object, upgrade.set);
        let known = status["bootID"] == *boot && status["observedGeneration"] == object["metadata"]["generation"];
        let new = told["result"] == "Loaded" && told["reason"] == "Effective";
        let reason = told["reason"].as_str().unwrap_or_default();
        let quarantined = told["result"] == "Failed" && reason.starts_with("Rebooted");
        let effective = node.effective().map_err(|error| format!("{error:#}"))?;
        let module = if new { upgrade.new } else { upgrade.old };
        let own = effective.get(upgrade.file) == Some(&module.name);
        let bystanders = upgrade
            .bystanders
            .iter()
            .all(|(file, marker)| effective.get(*file).is_some_and(|seen| seen == marker));
        (known && (new || quarantined) && own && bystanders)
            .then_some(())
            .ok_or_else(|| format!("{effective:?}\n{status}"))
    })?;
    let reason = entry(&object, upgrade.set)["reason"].as_str();
    Ok(reason.unwrap_or_default().to_owned())
}

fn a_power_cut_at_any_step_of_an_atomic_upgrade_loses_nothing(node: &Node<'_>) -> Result<()> {
    let (old, new) = (node.module("lp_atomic_v1")?, node.module("lp_atomic_v2")?);
    let off_a = node.off_band("a", &node.module("lp_a_v1")?);
    let off_b = node.off_band("b", &node.module("lp_b_v1")?);
    let upgrade = Upgrade {
        set: "base",
        file: VERSION,
        old: &old,
        new: &new,
        before: vec![node.cumulative(&old), off_a.clone(), off_b.clone()],
        after: vec![node.cumulative(&new).after(&old, node), off_a, off_b],
        bystanders: &[(EXECDOMAINS, "lp_a_v1"), (LOADAVG, "lp_b_v1")],
    };
    at_every_step(node, &upgrade)
}

fn a_power_cut_at_any_step_of_a_stacked_upgrade_loses_nothing(node: &Node<'_>) -> Result<()> {
    let (old, new) = (node.module("lp_stacked_v1")?, node.module("lp_stacked_v2")?);
    let off_a = node.off_band("a", &node.module("lp_a_v1")?);
    let upgrade = Upgrade {
        set: "base",
        file: VERSION,
        old: &old,
        new: &new,
        before: vec![node.cumulative(&old), off_a.clone()],
        after: vec![node.cumulative(&new).after(&old, node), off_a],
        bystanders: &[(EXECDOMAINS, "lp_a_v1")],
    };
    at_every_step(node, &upgrade)
}

fn a_power_cut_at_any_step_of_an_off_band_exchange_loses_nothing(node: &Node<'_>) -> Result<()> {
    let (old, new) = (node.module("lp_a_v1")?, node.module("lp_a_v2")?);
    let base = node.cumulative(&node.module("lp_atomic_v1")?);
    let upgrade = Upgrade {
        set: "a",
        file: EXECDOMAINS,
        old: &old,
        new: &new,
        before: vec![base.clone(), node.off_band("a", &old)],
        after: vec![base, node.off_band("a", &new).after(&old, node)],
        bystanders: &[(VERSION, "lp_atomic_v1")],
    };
    at_every_step(node, &upgrade)
}

/// A person tries twice; nothing and nobody tries a third time.
fn panics(node: &Node<'_>, name: &str) -> Result<()> {
    let module = node.module(name)?;
    let base = node.cumulative(&node.module("lp_atomic_v1")?);
    let off_b = node.off_band("b", &node.module("lp_b_v1")?);
    node.load(&[base.clone(), off_b.clone()])?;
    node.settle()?;
    let bad = |attempt: u32| node.off_band("bad", &module).with("attempt", json!(attempt));
    for attempt in [1, 2] {
        let boot = node.vm().boot_id()?;
        node.write(&[base.clone(), off_b.clone(), bad(attempt)])?;
        node.vm().wait_rebooted(&boot, PATIENCE)?;
        let object = node.wait("it to be held back", PATIENCE, |object| {
            let reason = entry(object, "bad")["reason"].as_str().unwrap_or_default();
            let other = object["status"]["bootID"] != *boot;
            let held = reason.starts_with("Rebooted") || reason == "CrashLoopSuspected";
            (other && held)
                .then_some(())
                .ok_or_else(|| object["status"].to_string())
        })?;
        println!("attempt {attempt}: {}", entry(&object, "bad"));
        if attempt == 1 {
            // What had settled before is none of its doing.
            node.told("b", "Loaded", "Effective")?;
            node.shows(["lp_atomic_v1", "-", "-", "lp_b_v1"])?;
        }
    }
    let object = node.wait("a crash loop to be suspected", PATIENCE, |object| {
        let text = object["status"].to_string();
        text.contains("CrashLoopSuspected").then_some(()).ok_or(text)
    })?;
    thread::sleep(Duration::from_secs(15));
    let loads = node.vm().console().matches(&format!("enabling patch '{name}'")).count();
    ensure!(loads == 2, "loaded {loads} times; {}", object["status"]);
    Ok(())
}

fn a_module_that_panics_at_once_is_not_loaded_a_third_time(node: &Node<'_>) -> Result<()> {
    panics(node, "lp_panic_at_once")
}

fn a_module_that_panics_later_is_not_loaded_a_third_time(node: &Node<'_>) -> Result<()> {
    panics(node, "lp_panic_later")
}
