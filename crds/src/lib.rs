//! API types of livepatch.dev.
