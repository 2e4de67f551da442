//! Exchanges without a moment in which a fix is missing.

use anyhow::{Context, Result, ensure};
use livepatch_rig::progress::{Waited, wait_for};
use livepatch_tests_hybrid::node::{EXECDOMAINS, FILES, LOADAVG, Node, PATIENCE, VERSION, entry, loaded, went};
use serde_json::json;

crate::stories! {
    a_stacked_upgrade_misses_no_fix
    an_off_band_is_exchanged_without_a_gap
    an_off_band_that_is_unloaded_first_tells_its_gap
    ; long
}

fn a_stacked_upgrade_misses_no_fix(node: &Node<'_>) -> Result<()> {
    let (v1, v2) = (node.module("lp_stacked_v1")?, node.module("lp_stacked_v2")?);
    let (a, b) = (node.module("lp_a_v1")?, node.module("lp_b_v1")?);
    let (off_a, off_b) = (node.off_band("a", &a), node.off_band("b", &b));
    node.load(&[node.cumulative(&v1), off_a.clone(), off_b.clone()])?;
    node.sample(&FILES)?;
    node.write(&[node.cumulative(&v2).after(&v1, node), off_a, off_b])?;
    let object = node.told("base", "Loaded", "Effective")?;
    node.shows(["lp_stacked_v2", "lp_stacked_v2", "lp_a_v1", "lp_b_v1"])?;
    let mut modules = loaded(&object);
    modules.sort_unstable();
    ensure!(
        modules == ["lp_a_v1", "lp_b_v1", "lp_stacked_v2"],
        "{}",
        object["status"]
    );
    let samples = node.samples()?;
    for (file, fixes) in [
        (VERSION, &["lp_stacked_v1", "lp_stacked_v2"][..]),
        (EXECDOMAINS, &["lp_a_v1"]),
        (LOADAVG, &["lp_b_v1"]),
    ] {
        let gaps = samples.gaps(file, fixes);
        ensure!(gaps.is_empty(), "{file} was without its fix: {gaps:?}");
    }
    println!("longest time between two looks: {:.0} ms", samples.worst());
    ensure!(
        samples.shown(VERSION) == ["lp_stacked_v1", "lp_stacked_v2"],
        "{samples:?}"
    );
    went(&object, "base", "Stacked", "its replace flag is clear")?;
    removed(node, "lp_stacked_v1")
}

/// Waits until a module is gone: what has no use any more is removed after all else is done and told.
fn removed(node: &Node<'_>, module: &str) -> Result<()> {
    wait_for(&format!("{module} to be removed"), PATIENCE, || {
        let left = node.vm().shell(&format!("grep ^{module} /proc/modules || true"))?;
        Ok(if left.is_empty() {
            Waited::Ready(())
        } else {
            Waited::NotYet(left)
        })
    })
}

fn an_off_band_is_exchanged_without_a_gap(node: &Node<'_>) -> Result<()> {
    let (v1, v2) = (node.module("lp_a_v1")?, node.module("lp_a_v2")?);
    let base = node.cumulative(&node.module("lp_atomic_v1")?);
    node.load(&[base.clone(), node.off_band("a", &v1)])?;
    node.sample(&FILES)?;
    node.write(&[base, node.off_band("a", &v2).after(&v1, node)])?;
    let object = node.told("a", "Loaded", "Effective")?;
    node.shows(["lp_atomic_v1", "-", "lp_a_v2", "-"])?;
    let samples = node.samples()?;
    println!("longest time between two looks: {:.0} ms", samples.worst());
    let gaps = samples.gaps(EXECDOMAINS, &["lp_a_v1", "lp_a_v2"]);
    ensure!(gaps.is_empty(), "seen without its fix: {gaps:?}");
    ensure!(entry(&object, "a")["gapMilliseconds"].is_null(), "{}", object["status"]);
    ensure!(loaded(&object).len() == 2, "{}", object["status"]);
    went(&object, "a", "LoadFirst", "without a gap")?;
    removed(node, "lp_a_v1")
}

fn an_off_band_that_is_unloaded_first_tells_its_gap(node: &Node<'_>) -> Result<()> {
    let (v1, v2) = (node.module("lp_a_v1")?, node.module("lp_a_v2")?);
    node.load(&[node.off_band("a", &v1)])?;
    node.sample(&FILES)?;
    let second = node.off_band("a", &v2).after(&v1, node);
    let unload_first = json!({"offBand": {"upgrade": "UnloadFirst"}});
    node.write(&[second.with("policy", unload_first)])?;
    let object = node.told("a", "Loaded", "Effective")?;
    node.shows(["-", "-", "lp_a_v2", "-"])?;
    let gaps = node.samples()?.gaps(EXECDOMAINS, &["lp_a_v1", "lp_a_v2"]);
    let told = entry(&object, "a")["gapMilliseconds"]
        .as_f64()
        .context("no gap is told")?;
    ensure!(gaps.len() == 1, "{gaps:?}");
    went(&object, "a", "UnloadFirst", "as the set asks")?;
    println!("gap: {:.0} ms seen, {told:.0} ms told", gaps[0].milliseconds());
    ensure!(gaps[0].milliseconds() <= told, "{gaps:?}, told are {told:.0} ms");
    Ok(())
}
