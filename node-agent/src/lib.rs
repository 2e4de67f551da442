//! The agent that makes one node's kernel match its `NodeLivepatch`.
//!
//! A pass reads like this: fetch what is known, [`validate`] the grants, [`decide`] on one step,
//! apply it, report what became of it. [`decide`] is pure; only fetch, apply and report hold a client. There are no
//! globals: a process may run thousands of agents.

#![forbid(unsafe_code)]

pub mod aftermath;
mod agent;
mod apply;
pub mod cluster;
pub mod conclude;
pub mod confirm;
pub mod decide;
pub mod durable;
mod fetch;
pub mod foreseen;
pub mod health;
pub mod journal;
pub mod lock;
pub mod metrics;
pub mod operate;
mod patience;
mod prepare;
pub mod references;
mod report;
pub mod retry;
pub mod serve;
pub mod settings;
pub mod source;
pub mod status;
pub mod stop;
pub mod store;
pub mod tidy;
pub mod truth;
pub mod validate;
pub mod verify;
pub mod watch;

pub use agent::{Agent, Parts};
pub use settings::{Settings, Times};
