//! Plans for one livepatch on one node, as data.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod answers;
mod modes;
mod remembered;
mod scene;
