//! A real control plane, real kubelets and real livepatch kernels on one machine, for tests and the demo.
//!
//! Synchronous, std only: what a test needs is started as processes and virtual machines of its own, everything on
//! loopback, and is gone when the value that stands for it is dropped. What takes long to build is built once and kept
//! in the user's cache directory ([`cache`]).

pub mod bare_node;
mod base64;
pub mod cache;
pub mod certs;
pub mod cluster;
pub mod components;
pub mod control_channel;
pub mod control_plane;
pub mod cpio;
pub mod debian;
pub mod diagnostics;
pub mod golang;
pub mod helm;
pub mod host;
pub mod http;
pub mod image;
pub mod install;
pub mod kernel_vm;
pub mod kernels;
pub mod kubectl;
pub mod modules;
pub mod node_image;
pub mod node_vm;
pub mod payload;
pub mod progress;
pub mod registry;
mod turn;
pub mod vm;
