//! The API server as its clients see it: versions, preconditions, watches that lag, replicas that disagree.

pub(crate) mod ask;
pub(crate) mod server;
pub(crate) mod store;
