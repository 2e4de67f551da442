//! A node without its API server.

use std::time::Duration;

use anyhow::Result;
use livepatch_rig::progress::{Waited, wait_for};
use livepatch_tests_hybrid::node::{Node, PATIENCE};

use crate::stops::stop_when;

crate::stories! {
    on_a_stage:
    nothing_needs_the_api_server_to_come_back
    ; long
}

fn comes_to_show(node: &Node<'_>, expected: [&str; 4]) -> Result<()> {
    wait_for("all fixes to be back", PATIENCE, || {
        Ok(match node.shows(expected) {
            Ok(()) => Waited::Ready(()),
            Err(error) => Waited::NotYet(format!("{error:#}")),
        })
    })
}

fn nothing_needs_the_api_server_to_come_back(node: &Node<'_>) -> Result<()> {
    let (v1, v2) = (node.module("lp_atomic_v1")?, node.module("lp_atomic_v2")?);
    let off_a = node.off_band("a", &node.module("lp_a_v1")?);
    let off_b = node.off_band("b", &node.module("lp_b_v1")?);
    node.load(&[node.cumulative(&v1), off_a.clone(), off_b.clone()])?;
    let after = [node.cumulative(&v2).after(&v1, node), off_a, off_b];
    // The cumulative is in effect, and none of the off-bands is.
    let replaced = |phases: &[String]| phases.iter().any(|phase| phase == "base lp_atomic_v2 applied");
    stop_when(node, &after, replaced)?;
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
    node.all_loaded().map(drop)
}
