//! Tests on real kernels in small virtual machines.
//!
//! [`cases`] is the list of what the kernel crate relies on, written once against its seam. It runs on the fake kernel
//! in a plain `cargo test` ([`fake_lab`]) and on real kernels as the payload of a guest ([`guest_lab`]), so the two
//! cannot drift apart. This library is test code: its functions panic when an expectation does not hold.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test code fails by panicking"
)]
#![expect(clippy::missing_panics_doc, reason = "every function of a test may fail")]

pub mod cases;
pub mod damage;
#[cfg(test)]
mod evidence;
pub mod fake_lab;
pub mod guest_lab;
pub mod lab;
pub mod stock;
pub mod turns;
