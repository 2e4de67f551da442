//! Power cuts at every step, and modules that take the machine down.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use livepatch_tests_hybrid::node::{EXECDOMAINS, Grant, LOADAVG, Node, PATIENCE, VERSION, entry};
use livepatch_tests_hybrid::stage::Module;
use serde_json::json;

use crate::stops::{stop_at, stop_when};

crate::stories! {
    a_power_cut_in_the_middle_of_any_upgrade_loses_nothing
    a_module_that_panics_at_once_is_not_loaded_a_third_time
    ; long
    a_power_cut_at_any_step_of_an_atomic_upgrade_loses_nothing
    a_power_cut_at_any_step_of_a_stacked_upgrade_loses_nothing
    a_power_cut_at_any_step_of_an_off_band_exchange_loses_nothing
    a_module_that_panics_later_is_not_loaded_a_third_time
    a_module_that_panics_two_minutes_later_is_not_loaded_a_third_time
}

/// More versions of the journal than any upgrade makes.
const MANY: u32 = 40;
/// After so long without a crash, former crashes do not count.
const PEACE: Duration = Duration::from_mins(61);

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
        // What had settled in another boot need not settle again to be trusted.
        node.all_loaded()?;
        let Some(version) = stop_at(node, &upgrade.after, step)? else {
            println!("{} steps", step - 1);
            ensure!(step > 3, "an upgrade of {} steps proves nothing", step - 1);
            return Ok(());
        };
        let outcome = cut(node, upgrade, &version)?;
        println!("{step}: {} -> {outcome}", version.join(", "));
        node.vm().power_cut()?;
        node.vm().return_disk("before")?;
    }
    bail!("the upgrade came to no end")
}

/// Cuts the power at one version of the journal, and lets the crash be forgotten.
fn at_one_step(node: &Node<'_>, upgrade: &Upgrade<'_>, when: &str) -> Result<()> {
    node.load(&upgrade.before)?;
    node.settle()?;
    let version = stop_when(node, &upgrade.after, |phases| phases.iter().any(|phase| phase == when))?;
    let outcome = cut(node, upgrade, &version)?;
    println!("{when} -> {outcome}");
    node.dismiss_agent()?;
    node.recall_agent(PEACE)
}

fn cut(node: &Node<'_>, upgrade: &Upgrade<'_>, version: &[String]) -> Result<String> {
    node.vm().shell("sync")?;
    node.vm().hard_reset()?;
    awakes(node, upgrade).with_context(|| format!("after a power cut at {version:?}"))
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

/// The modules that upgrades are about.
struct Modules {
    atomic: [Module; 2],
    stacked: [Module; 2],
    off_band: [Module; 2],
    bystander: Module,
}

impl Modules {
    fn of(node: &Node<'_>) -> Result<Self> {
        let both = |old, new| -> Result<[Module; 2]> { Ok([node.module(old)?, node.module(new)?]) };
        Ok(Self {
            atomic: both("lp_atomic_v1", "lp_atomic_v2")?,
            stacked: both("lp_stacked_v1", "lp_stacked_v2")?,
            off_band: both("lp_a_v1", "lp_a_v2")?,
            bystander: node.module("lp_b_v1")?,
        })
    }

    fn atomic_upgrade(&self, node: &Node<'_>) -> Upgrade<'_> {
        self.cumulative_upgrade(node, &self.atomic)
    }

    fn stacked_upgrade(&self, node: &Node<'_>) -> Upgrade<'_> {
        self.cumulative_upgrade(node, &self.stacked)
    }

    fn cumulative_upgrade<'a>(&'a self, node: &Node<'_>, [old, new]: &'a [Module; 2]) -> Upgrade<'a> {
        let off_bands = [
            node.off_band("a", &self.off_band[0]),
            node.off_band("b", &self.bystander),
        ];
        let with = |cumulative: Grant| [&[cumulative], &off_bands[..]].concat();
        Upgrade {
            set: "base",
            file: VERSION,
            old,
            new,
            before: with(node.cumulative(old)),
            after: with(node.cumulative(new).after(old, node)),
            bystanders: &[(EXECDOMAINS, "lp_a_v1"), (LOADAVG, "lp_b_v1")],
        }
    }

    fn exchange(&self, node: &Node<'_>) -> Upgrade<'_> {
        let [old, new] = &self.off_band;
        let with = |off_band: Grant| {
            let base = node.cumulative(&self.atomic[0]);
            vec![base, off_band, node.off_band("b", &self.bystander)]
        };
        Upgrade {
            set: "a",
            file: EXECDOMAINS,
            old,
            new,
            before: with(node.off_band("a", old)),
            after: with(node.off_band("a", new).after(old, node)),
            bystanders: &[(VERSION, "lp_atomic_v1"), (LOADAVG, "lp_b_v1")],
        }
    }
}

fn a_power_cut_at_any_step_of_an_atomic_upgrade_loses_nothing(node: &Node<'_>) -> Result<()> {
    at_every_step(node, &Modules::of(node)?.atomic_upgrade(node))
}

fn a_power_cut_at_any_step_of_a_stacked_upgrade_loses_nothing(node: &Node<'_>) -> Result<()> {
    at_every_step(node, &Modules::of(node)?.stacked_upgrade(node))
}

fn a_power_cut_at_any_step_of_an_off_band_exchange_loses_nothing(node: &Node<'_>) -> Result<()> {
    at_every_step(node, &Modules::of(node)?.exchange(node))
}

/// One power cut of each kind, where most is at stake: the new one is in effect and others are away or doubled.
fn a_power_cut_in_the_middle_of_any_upgrade_loses_nothing(node: &Node<'_>) -> Result<()> {
    let modules = Modules::of(node)?;
    at_one_step(node, &modules.stacked_upgrade(node), "base lp_stacked_v2 applied")?;
    at_one_step(node, &modules.atomic_upgrade(node), "base lp_atomic_v2 applied")?;
    at_one_step(node, &modules.exchange(node), "a lp_a_v2 applied")?;
    Ok(())
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
    let looped = |seconds: u32| -> Result<()> {
        let boot = node.vm().boot_id()?;
        // Something new to decide on, for an agent that would load it once more.
        let looked_at = base.clone().with("transitionTimeoutSeconds", json!(seconds));
        node.write(&[looked_at, off_b.clone(), bad(2)])?;
        let object = node.wait("a crash loop to be suspected", PATIENCE, |object| {
            let status = &object["status"];
            let current = status["bootID"] == *boot && status["observedGeneration"] == object["metadata"]["generation"];
            let conditions = status["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
            let told = conditions
                .iter()
                .any(|condition| condition["reason"] == "CrashLoopSuspected");
            (current && told).then_some(()).ok_or_else(|| status.to_string())
        })?;
        let loads = loads(node, name);
        ensure!(loads == 2, "loaded {loads} times; {}", object["status"]);
        Ok(())
    };
    looped(121)?;
    // Nor by an agent that knows it from its journal alone.
    node.vm().hard_reset()?;
    looped(122)
}

/// How often the kernel was asked to enable it, over all boots.
fn loads(node: &Node<'_>, name: &str) -> usize {
    node.vm().console().matches(&format!("enabling patch '{name}'")).count()
}

fn a_module_that_panics_at_once_is_not_loaded_a_third_time(node: &Node<'_>) -> Result<()> {
    panics(node, "lp_panic_at_once")
}

fn a_module_that_panics_later_is_not_loaded_a_third_time(node: &Node<'_>) -> Result<()> {
    panics(node, "lp_panic_later")
}

fn a_module_that_panics_two_minutes_later_is_not_loaded_a_third_time(node: &Node<'_>) -> Result<()> {
    panics(node, "lp_panic_much_later")
}
