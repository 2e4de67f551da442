//! A real control plane, real kubelets and real livepatch kernels on one machine, for tests and the demo.
//!
//! Synchronous, std only: what a test needs is started as processes and virtual machines of its own, everything on
//! loopback, and is gone when the value that stands for it is dropped. What takes long to build is built once and kept
//! in the user's cache directory ([`cache`]).

pub mod cache;
pub mod cpio;
pub mod debian;
pub mod golang;
pub mod kernel_vm;
pub mod kernels;
pub mod modules;
pub mod progress;
pub mod vm;
