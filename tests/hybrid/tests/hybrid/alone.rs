//! A node without its API server.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use livepatch_rig::kernels::Series;
use livepatch_rig::progress::{Waited, wait_for};
use livepatch_tests_hybrid::node::{Node, PATIENCE, phases};
use livepatch_tests_hybrid::stage::Stage;

/// A control plane of its own: others are not to miss theirs.
fn on_a_stage(series: Series, name: &str) -> Result<()> {
    let stage = Stage::start(name)?;
    let node = Node::start(&stage, series, name)?;
    node.kept(story(&node))
}

#[test]
#[ignore = "takes minutes"]
fn long_linux_6_1_needs_no_api_server_to_bring_back_what_was_there() -> Result<()> {
    on_a_stage(Series::Linux6_1, "alone-6-1")
}

#[test]
#[ignore = "takes minutes"]
fn long_linux_6_12_needs_no_api_server_to_bring_back_what_was_there() -> Result<()> {
    on_a_stage(Series::Linux6_12, "alone-6-12")
}

fn comes_to_show(node: &Node<'_>, expected: [&str; 4]) -> Result<()> {
    wait_for("all fixes to be back", PATIENCE, || {
        Ok(match node.shows(expected) {
            Ok(()) => Waited::Ready(()),
            Err(error) => Waited::NotYet(format!("{error:#}")),
        })
    })
}

fn story(node: &Node<'_>) -> Result<()> {
    let (v1, v2) = (node.module("lp_atomic_v1")?, node.module("lp_atomic_v2")?);
    let off_a = node.off_band("a", &node.module("lp_a_v1")?);
    let off_b = node.off_band("b", &node.module("lp_b_v1")?);
    node.load(&[node.cumulative(&v1), off_a.clone(), off_b.clone()])?;
    stop_after_the_replace(node, &[node.cumulative(&v2).after(&v1, node), off_a, off_b])?;
    node.shows(["lp_atomic_v2", "lp_atomic_v2", "-", "-"])?;
    let plane = node.stage().plane();
    plane.stop_apiserver(Duration::from_secs(10))?;
    node.continue_agent()?;
    let all = ["lp_atomic_v2", "lp_atomic_v2", "lp_a_v1", "lp_b_v1"];
    comes_to_show(node, all)?;
    plane.start_apiserver()?;
    node.all_loaded()?;
    node.settle()?;
    plane.stop_apiserver(Duration::from_secs(10))?;
    node.vm().hard_reset()?;
    comes_to_show(node, all)?;
    plane.start_apiserver()?;
    node.all_loaded()?;
    ensure!(
        node.journal()?["entries"]
            .as_array()
            .is_some_and(|entries| entries.len() >= 3)
    );
    Ok(())
}

/// Stops the agent when its journal says that the cumulative is in effect and the off-bands are not.
fn stop_after_the_replace(node: &Node<'_>, grants: &[livepatch_tests_hybrid::node::Grant]) -> Result<()> {
    node.stop_agent_at(1)?;
    node.write(grants)?;
    for _ in 0..20 {
        let version = wait_for("the agent to stop", PATIENCE, || {
            let (versions, stopped) = node.stops()?;
            Ok(match versions.last() {
                Some(version) if stopped => Waited::Ready(phases(version)),
                _ => Waited::NotYet(format!("{} versions", versions.len())),
            })
        })?;
        if version.iter().any(|phase| phase == "base lp_atomic_v2 applied") {
            println!("stopped at {}", version.join(", "));
            return Ok(());
        }
        node.stop_agent_at(1)?;
        node.continue_agent()?;
    }
    bail!("the cumulative did not come into effect")
}
