//! Livepatch modules as OCI artefacts: push, pull, auth, limits.
//!
//! An artefact is an OCI image index with one manifest per module; [`format`](mod@format) has its media types and
//! annotations, [`Bundle`] what is read from it. [`Puller`] is for the operator (index and descriptions only) and the
//! agents (one module), [`push()`] for the kubectl plugin. Only [`Puller`], [`push()`] and
//! [`RegistryConfig::load`] do IO; everything a registry sends is bounded in size and time, and digests are computed
//! here, whatever the registry says.

mod allowed;
mod assemble;
mod bundle;
mod config;
mod digest;
mod error;
mod fetch;
#[cfg(test)]
mod fixture;
pub mod format;
mod http;
mod module;
mod puller;
mod push;
mod read;
mod reference;
mod untrusted;

pub use allowed::{AllowedRepositories, RepositoryPrefix};
pub use assemble::{Assembled, AssembledModule, Content, ModuleFile};
pub use bundle::{Bundle, BundleEntry, InvalidBundle, ModuleIdentity};
pub use config::{ConfigError, Credentials, DockerConfig, Endpoint, Mirror, RegistryConfig};
pub use digest::{Digest, InvalidDigest};
pub use error::PullError;
pub use module::{ModuleError, PulledModule};
pub use puller::Puller;
pub use push::{PushError, PushStep, push};
pub use read::is_cve;
pub use reference::{InvalidReference, PushTarget, Reference, Repository};
