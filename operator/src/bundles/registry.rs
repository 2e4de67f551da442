//! Artefacts from OCI registries. Does IO.

use super::{BundleError, BundleSource};
use futures::future::BoxFuture;
use livepatch_artifact::{Bundle, PullError, Puller, Reference, Repository};
use livepatch_module::Architecture;
use livepatch_planner::fleet::snapshot::{Described, ModuleView};
use std::error::Error;
use std::sync::Arc;

/// Reads artefacts from the allowed repositories.
#[derive(Debug)]
pub struct Registry {
    puller: Puller,
}

impl Registry {
    /// With the repositories, credentials and mirrors of `puller`.
    pub fn new(puller: Puller) -> Self {
        Self { puller }
    }
}

impl BundleSource for Registry {
    fn bundle<'a>(&'a self, reference: &'a str) -> BoxFuture<'a, Result<Vec<ModuleView>, BundleError>> {
        Box::pin(async move {
            let reference: Reference = reference.parse().map_err(|error| BundleError {
                reason: "InvalidReference",
                message: with_sources(&error),
                passes: false,
            })?;
            let bundle = self.puller.bundle(&reference).await;
            bundle
                .map(|bundle| modules(reference.repository(), &bundle))
                .map_err(|error| unusable(&error))
        })
    }
}

fn unusable(error: &PullError) -> BundleError {
    BundleError {
        reason: error.reason(),
        message: with_sources(error),
        passes: error.is_retryable(),
    }
}

/// The messages of an error and of its sources, which do not repeat each other.
fn with_sources(error: &dyn Error) -> String {
    let mut message = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        message.push_str(": ");
        message.push_str(&error.to_string());
        source = error.source();
    }
    message
}

fn modules(repository: &Repository, bundle: &Bundle) -> Vec<ModuleView> {
    bundle
        .entries
        .iter()
        .map(|entry| ModuleView {
            kernel_release: entry.kernel_release.clone(),
            kernel_build_id: entry.kernel_build_id.clone(),
            architecture: oci_name(entry.architecture).to_owned(),
            name: entry.module.name.clone(),
            repository: repository.to_string(),
            digest: entry.manifest.to_string(),
            sha256: entry.module.sha256.clone(),
            build_id: entry.module.build_id.clone(),
            described: Some(Arc::new(Described::new(entry.inspection.clone()))),
        })
        .collect()
}

/// The architecture as OCI and the agents name it.
fn oci_name(architecture: Architecture) -> &'static str {
    match architecture {
        Architecture::Amd64 => "amd64",
        Architecture::Arm64 => "arm64",
    }
}
