//! A cumulative livepatch that throws everything else out.

use anyhow::{Context, Result, ensure};
use livepatch_tests_hybrid::node::{EXECDOMAINS, FILES, LOADAVG, Node, VERSION, entry, loaded, went};
use livepatch_tests_hybrid::samples::{Gap, Samples};
use serde_json::{Value, json};

crate::stories! {
    off_bands_come_back_after_an_atomic_replace
    an_off_band_with_callbacks_goes_first_unless_it_blocks
    ; long
    twenty_off_bands_come_back_in_order
}

fn off_bands_come_back_after_an_atomic_replace(node: &Node<'_>) -> Result<()> {
    let (v1, v2) = (node.module("lp_atomic_v1")?, node.module("lp_atomic_v2")?);
    let (a, b) = (node.module("lp_a_v1")?, node.module("lp_b_v1")?);
    let (off_a, off_b) = (node.off_band("a", &a), node.off_band("b", &b));
    node.load(&[node.cumulative(&v1), off_a.clone(), off_b.clone()])?;
    node.shows(["lp_atomic_v1", "-", "lp_a_v1", "lp_b_v1"])?;
    node.sample(&FILES)?;
    let object = node.load(&[node.cumulative(&v2).after(&v1, node), off_a, off_b])?;
    node.shows(["lp_atomic_v2", "lp_atomic_v2", "lp_a_v1", "lp_b_v1"])?;
    let mut modules = loaded(&object);
    modules.sort_unstable();
    ensure!(
        modules == ["lp_a_v1", "lp_atomic_v2", "lp_b_v1"],
        "{}",
        object["status"]
    );
    went(&object, "base", "Atomic", "its replace flag is set")?;
    let samples = node.samples()?;
    let gaps = samples.gaps(VERSION, &["lp_atomic_v1", "lp_atomic_v2"]);
    ensure!(gaps.is_empty(), "the cumulative fix was away: {gaps:?}");
    for (set, file, module) in [("a", EXECDOMAINS, "lp_a_v1"), ("b", LOADAVG, "lp_b_v1")] {
        let gap = told_gap(&object, &samples, set, file, module)?;
        println!("gap of {set}: {:.0} ms seen, {:.0} ms told", gap.seen, gap.reported);
    }
    println!("longest time between two looks: {:.0} ms", samples.worst());
    Ok(())
}

fn an_off_band_with_callbacks_goes_first_unless_it_blocks(node: &Node<'_>) -> Result<()> {
    let (v1, v2) = (node.module("lp_atomic_v1")?, node.module("lp_atomic_v2")?);
    let off_a = node.off_band("a", &node.module("lp_a_callbacks")?);
    let off_b = node.off_band("b", &node.module("lp_b_v1")?);
    let next = node.cumulative(&v2).after(&v1, node);
    let block = json!({"offBand": {"onAtomicReplace": "Block"}});
    let blocking = off_a.clone().with("policy", block);
    node.load(&[node.cumulative(&v1), blocking.clone(), off_b.clone()])?;
    node.sample(&FILES)?;
    node.write(&[next.clone(), blocking, off_b.clone()])?;
    let object = node.told("base", "Failed", "BlockedByOffBand")?;
    let message = entry(&object, "base")["message"].as_str().unwrap_or_default();
    ensure!(message.ends_with("onAtomicReplace: Block keeps here: a"), "{message:?}");
    node.shows(["lp_atomic_v1", "-", "lp_a_callbacks", "lp_b_v1"])?;
    let samples = node.samples()?;
    let gaps = samples.gaps(EXECDOMAINS, &["lp_a_callbacks"]);
    ensure!(gaps.is_empty(), "gone although it blocks: {gaps:?}");
    let object = node.load(&[next.with("attempt", json!(2)), off_a, off_b])?;
    node.shows(["lp_atomic_v2", "lp_atomic_v2", "lp_a_callbacks", "lp_b_v1"])?;
    let samples = node.samples()?;
    for (set, file, module) in [("a", EXECDOMAINS, "lp_a_callbacks"), ("b", LOADAVG, "lp_b_v1")] {
        let gap = told_gap(&object, &samples, set, file, module)?;
        println!("gap of {set}: {:.0} ms seen, {:.0} ms told", gap.seen, gap.reported);
    }
    let messages = node.vm().shell("dmesg")?;
    let order = ["lp_a_callbacks: cleaned up", "enabling patch 'lp_atomic_v2'"].map(|text| messages.find(text));
    ensure!(order[0].is_some() && order[0] < order[1], "{messages}");
    Ok(())
}

/// What was seen of a set's gap, which must be within what is told of it.
fn told_gap(object: &Value, samples: &Samples, set: &str, file: &str, module: &str) -> Result<Away> {
    let gaps = samples.gaps(file, &[module]);
    let reported = entry(object, set)["gapMilliseconds"].as_f64();
    let seen = gaps.iter().map(Gap::milliseconds).reduce(f64::max);
    let seen = seen.with_context(|| format!("the sampler missed the gap of {set}, so it proves nothing"))?;
    let reported = reported.with_context(|| format!("no gap is told of {set}, seen: {gaps:?}"))?;
    ensure!(
        seen <= reported,
        "{set} was away for {seen:.0} ms, told are {reported:.0} ms"
    );
    let back = gaps.last().and_then(|gap| gap.back);
    let back = back.with_context(|| format!("{set} was not seen to come back"))?;
    Ok(Away { seen, reported, back })
}

/// A gap as it was seen and as it is told, and when the fix was seen again. Milliseconds.
struct Away {
    seen: f64,
    reported: f64,
    back: f64,
}

fn twenty_off_bands_come_back_in_order(node: &Node<'_>) -> Result<()> {
    let (v1, v2) = (node.module("lp_atomic_v1")?, node.module("lp_atomic_v2")?);
    let names: Vec<String> = (1..=20).map(|number| format!("lp_many_{number:02}")).collect();
    let files: Vec<String> = (1..=20).map(|number| format!("/proc/lp_targets/{number:02}")).collect();
    let mut grants = vec![node.cumulative(&v1)];
    for name in &names {
        grants.push(node.off_band(&name.replace('_', "-"), &node.module(name)?));
    }
    node.load(&grants)?;
    node.sample(&files.iter().map(String::as_str).collect::<Vec<_>>())?;
    node.vm().shell("dmesg -c >/dev/null")?;
    grants[0] = node.cumulative(&v2).after(&v1, node);
    let object = node.load(&grants)?;
    let samples = node.samples()?;
    println!("| livepatch | gap seen, ms | gap told, ms | back after the one before, ms |");
    let mut before = None;
    for (name, file) in names.iter().zip(&files) {
        let shown = node.vm().shell(&format!("cat {file}"))?;
        ensure!(shown == format!("livepatch: {name}\n"), "{file} shows {shown:?}");
        let Away { seen, reported, back } = told_gap(&object, &samples, &name.replace('_', "-"), file, name)?;
        let after = before.map_or_else(|| "first".to_owned(), |before| format!("{:.0}", back - before));
        println!("| {name} | {seen:.0} | {reported:.0} | {after} |");
        before = Some(back);
    }
    let messages = node
        .vm()
        .shell("dmesg | grep -e 'livepatch: enabling patch' -e 'patching complete'")?;
    let enabled: Vec<&str> = messages
        .lines()
        .filter_map(|line| line.split_once("enabling patch '")?.1.strip_suffix('\''))
        .collect();
    let expected: Vec<&str> = std::iter::once("lp_atomic_v2")
        .chain(names.iter().map(String::as_str))
        .collect();
    ensure!(enabled == expected, "loaded in this order: {enabled:?}");
    messages
        .lines()
        .filter(|line| line.contains("lp_atomic_v2"))
        .for_each(|line| println!("{line}"));
    Ok(())
}
