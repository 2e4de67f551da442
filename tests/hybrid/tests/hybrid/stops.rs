//! The agent, stopped at a version of its journal.

use anyhow::Result;
use livepatch_rig::progress::{Waited, wait_for};
use livepatch_tests_hybrid::node::{Grant, Node, PATIENCE, phases};

/// Phases in which nothing more is done unless something changes.
const AT_REST: [&str; 4] = ["applied", "settled", "superseded", "contained"];

/// Writes the grants and lets the agent follow them until its journal says what is looked for. It is then stopped in the
/// call that made this version, which is given back as it was read; what it asks of the kernel next it has not asked.
pub fn stop_when(node: &Node<'_>, grants: &[Grant], is_it: impl Fn(&[String]) -> bool) -> Result<Vec<String>> {
    node.stop_agent_at(1)?;
    node.write(grants)?;
    loop {
        let version = wait_for("the agent to write its journal", PATIENCE, || {
            let (versions, stopped) = node.stops()?;
            Ok(match versions.last() {
                Some(version) if stopped => Waited::Ready(phases(version)),
                _ => Waited::NotYet(node.object()?["status"].to_string()),
            })
        })?;
        if is_it(&version) {
            println!("stopped at {}", version.join(", "));
            return Ok(version);
        }
        node.stop_agent_at(1)?;
        node.continue_agent()?;
    }
}

/// Writes the grants and lets the agent stop at the `count`th version of its journal from then on; none if it comes to
/// rest, with all of them in effect, before that.
pub fn stop_at(node: &Node<'_>, grants: &[Grant], count: u32) -> Result<Option<Vec<String>>> {
    node.stop_agent_at(count)?;
    node.write(grants)?;
    wait_for(&format!("version {count} of the journal, or rest"), PATIENCE, || {
        let at_rest = is_at_rest(node)?;
        // Looked at afterwards: at rest it is written what is written.
        let (versions, stopped) = node.stops()?;
        Ok(if stopped {
            Waited::Ready(versions.last().map(phases))
        } else if at_rest {
            Waited::Ready(None)
        } else {
            Waited::NotYet(format!("{} versions; {}", versions.len(), node.object()?["status"]))
        })
    })
}

/// Whether all that is granted is told to be in effect, and nothing else is to be done.
fn is_at_rest(node: &Node<'_>) -> Result<bool> {
    let object = node.object()?;
    let told = object["status"]["livepatches"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let granted = object["spec"]["livepatches"].as_array().map_or(0, Vec::len);
    let done = object["status"]["observedGeneration"] == object["metadata"]["generation"]
        && told.len() == granted
        && told.iter().all(|one| one["reason"] == "Effective");
    if !done {
        return Ok(false);
    }
    let phases = phases(&node.journal()?);
    let rests = |phase: &String| AT_REST.iter().any(|rest| phase.ends_with(rest));
    Ok(phases.iter().all(rests))
}
