//! Tests against a real API server, in one program so that they are linked once and share a control plane.

#![cfg(test)]

mod admission;
mod agent;
mod agent_reach;
mod agent_token;
mod chart;
mod crds;
mod flow;
mod installed;
mod rig;
mod schema;
