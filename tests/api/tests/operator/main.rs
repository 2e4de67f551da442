//! The operator as a library, run in this process against a real API server, with the chart's policies and its own service
//! account. Nodes are objects only; their agents are played by the test.
//!
//! A program of its own, so that the other tests need not be linked with the operator. The operator acts on the whole
//! cluster, so each test has a control plane of its own.

#![cfg(test)]

mod artefacts;
mod cluster;
mod faults;
mod fleet;
mod refusals;
mod uncertain;
mod waves;
mod way;
