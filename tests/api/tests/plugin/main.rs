//! The kubectl plugin, as it is released, against a real API server with the chart's policies and roles and a running
//! operator. What the plugin does it does with the rights of the chart's role for those who promote.
//!
//! A program of its own: each test has a control plane, as those of the operator have, whose stage it shares.

#![cfg(test)]

#[expect(dead_code, reason = "the stage of the operator's tests, of which these use a part")]
#[path = "../operator/artefacts.rs"]
mod artefacts;
#[expect(dead_code, reason = "the stage of the operator's tests, of which these use a part")]
#[path = "../operator/cluster.rs"]
mod cluster;
#[expect(dead_code, reason = "the stage of the operator's tests, of which these use a part")]
#[path = "../operator/fleet.rs"]
mod fleet;
mod person;
mod steering;
#[expect(dead_code, reason = "the stage of the operator's tests, of which these use a part")]
#[path = "../operator/way.rs"]
mod way;
