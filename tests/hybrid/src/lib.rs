//! Several livepatches on one node: the agent as it is released, kernels 6.1 and 6.12, a real API server and registry.
//!
//! Does IO. The test plays the operator and writes grants; nothing else is played. Each test has a node of its own, a
//! virtual machine without a kubelet that boots in seconds and whose power can be cut.

#[cfg(test)]
mod evidence;
pub mod node;
pub mod samples;
pub mod stage;
