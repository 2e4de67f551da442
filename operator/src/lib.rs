//! livepatch-operator: rolls livepatches out over a fleet, wave by wave.
//!
//! It watches sets, rollouts, node objects and nodes, and writes what [`livepatch_planner`] decides:
//! rollouts, the grants in NodeLivepatches, statuses, events. One replica leads, the others watch and write nothing.
//! [`Operator`] is the whole of it; [`reconcile`] reads like the table of contents.

#![forbid(unsafe_code)]

pub mod api_error;
pub mod backoff;
pub mod bundles;
pub mod cli;
pub mod clients;
pub mod events;
pub mod health;
pub mod lease;
pub mod limits;
pub mod logging;
pub mod merge_diff;
pub mod metrics;
pub mod operator;
pub mod policies;
pub mod reconcile;
pub mod server;
pub mod watch;
pub mod writes;

pub use operator::{Operator, Settings};
