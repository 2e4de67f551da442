//! The commands that read. What they show is made by pure functions from what was read.

pub mod cves;
pub mod diff;
pub mod explain;
pub mod get;
pub mod history;
pub mod list;
pub mod owners;
pub mod plan;
pub mod status;
