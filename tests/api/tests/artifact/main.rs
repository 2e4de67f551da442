//! Artefacts in a real registry: through the library as the operator and the agents use it, and through the plugin as a
//! person does.
//!
//! A program of its own, so that these tests need neither an API server nor what links with one.

#![cfg(test)]

mod pull;
mod push;
mod rig;
