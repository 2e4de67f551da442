//! What the stories share: a fleet of three nodes, and sets to roll out to it.

use crate::world::World;
use std::collections::BTreeSet;

pub const DIGEST: &str = "0000000000000000000000000000000000000000000000000000000000000000";

pub fn spec(kind: &str, selector: &str, rollout: &str) -> String {
    format!(
        "{{type: {kind}, nodeSelector: {selector}, rollout: {rollout}, \
         template: {{source: {{oci: {{reference: 'registry.example.com/livepatches@sha256:{DIGEST}'}}}}}}}}"
    )
}

pub const CANARY: &str =
    "{minReadySeconds: 2, maxConcurrent: 100%, waves: [{name: canary, nodeSelector: {matchLabels: {pool: canary}}}]}";

pub fn three_nodes() -> World {
    World::new(&[
        ("a", &[("pool", "canary")], "6.1"),
        ("b", &[], "6.1"),
        ("c", &[], "6.12"),
    ])
}

pub fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}
