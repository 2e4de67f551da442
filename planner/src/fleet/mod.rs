//! The fleet planner: what the operator should write next, as a function of all it has seen and the time.
//!
//! [`decide`] reads like the rollout it plans: which sets may act, which wave each node is in, where each node stands, how
//! far the waves have come, which nodes are granted next, and what is said of it.

pub mod acceptance;
mod conflicts;
mod course;
mod deadline;
mod decide;
pub mod decision;
mod events;
pub mod failures;
pub mod grants;
pub mod index;
mod node_objects;
pub mod observations;
mod outlived;
pub mod progress;
pub mod reasons;
mod removal;
pub mod rollback;
mod roster;
mod slots;
pub mod snapshot;
pub mod standing;
pub mod starts;
pub mod states;
mod status;
mod sums;
pub mod waves;

pub use decide::decide;
pub use decision::Decision;
pub use index::Index;
pub use observations::Observations;
pub use snapshot::Snapshot;
