//! What those who watch are given: metrics, alerts, a dashboard, health, a runbook. No API server is needed.

#![cfg(test)]

mod alerts;
mod health;
mod metrics;
mod readme;
mod runbook;

#[path = "../../../../planner/tests/fleet/stories.rs"]
#[expect(dead_code, reason = "the planner's own tests use all of it")]
mod stories;
#[path = "../../../../planner/tests/fleet/transcript.rs"]
mod transcript;
#[path = "../../../../planner/tests/fleet/world.rs"]
#[expect(dead_code, reason = "the planner's own tests use all of it")]
mod world;

use std::fs;
use std::path::{Path, PathBuf};

/// A path relative to the workspace.
fn workspace(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

/// A file of the workspace.
fn read(path: &str) -> String {
    fs::read_to_string(workspace(path)).unwrap_or_else(|error| panic!("read {path}: {error}"))
}

/// Holds a committed file to what it must be, or, with `LIVEPATCH_OVERWRITE`, writes it.
fn committed(path: &str, wanted: &str) {
    if std::env::var_os("LIVEPATCH_OVERWRITE").is_some() {
        fs::write(workspace(path), wanted).unwrap();
    }
    let found = fs::read_to_string(workspace(path)).unwrap_or_default();
    let lines = found.lines().chain([""]).zip(wanted.lines().chain([""]));
    if let Some((number, (is, must))) = lines.enumerate().find(|(_, (is, must))| is != must) {
        let number = number + 1;
        panic!("{path}, line {number}:\n  is   {is}\n  must {must}\nLIVEPATCH_OVERWRITE=1 writes it");
    }
    assert_eq!(found, wanted, "{path} ends elsewhere; LIVEPATCH_OVERWRITE=1 writes it");
}
