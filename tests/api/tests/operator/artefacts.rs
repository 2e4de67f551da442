//! Artefacts in memory, and what becomes of an attempt to read them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use futures::future::BoxFuture;
use livepatch_operator::bundles::{BundleError, BundleSource};
use livepatch_planner::fleet::snapshot::ModuleView;

/// The kernels of the fleet: release and build id.
pub const KERNELS: [(&str, &str); 2] = [("6.1.0-test", "aa61"), ("6.12.0-test", "bb612")];

/// A registry in memory. Copies are the same one.
#[derive(Clone, Default)]
pub struct Artefacts {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    bundles: BTreeMap<String, Vec<ModuleView>>,
    down: bool,
    attempts: usize,
}

impl Artefacts {
    /// Puts an artefact for all kernels there; its reference.
    pub fn push(&self, name: &str) -> String {
        self.push_for(name, &KERNELS)
    }

    /// Puts an artefact for some kernels there; its reference.
    pub fn push_for(&self, name: &str, kernels: &[(&str, &str)]) -> String {
        let repository = format!("registry.example.com/livepatches/{name}");
        let reference = format!("{repository}@sha256:{}", "a".repeat(64));
        let modules = kernels.iter().map(|(release, build_id)| ModuleView {
            kernel_release: (*release).to_owned(),
            kernel_build_id: Some((*build_id).to_owned()),
            architecture: "amd64".to_owned(),
            name: name.replace('-', "_"),
            repository: repository.clone(),
            digest: format!("sha256:{}", "b".repeat(64)),
            sha256: "c".repeat(64),
            build_id: format!("{name}-{build_id}"),
            described: None,
        });
        self.inner
            .lock()
            .unwrap()
            .bundles
            .insert(reference.clone(), modules.collect());
        reference
    }

    /// Takes the registry down, or brings it back.
    pub fn set_down(&self, down: bool) {
        self.inner.lock().unwrap().down = down;
    }

    /// How often anything was asked for.
    pub fn attempts(&self) -> usize {
        self.inner.lock().unwrap().attempts
    }
}

impl BundleSource for Artefacts {
    fn bundle<'a>(&'a self, reference: &'a str) -> BoxFuture<'a, Result<Vec<ModuleView>, BundleError>> {
        let mut inner = self.inner.lock().unwrap();
        inner.attempts += 1;
        let result = if inner.down {
            Err(BundleError {
                reason: "RegistryUnavailable",
                message: "connection refused".to_owned(),
                passes: true,
            })
        } else {
            inner.bundles.get(reference).cloned().ok_or_else(|| BundleError {
                reason: "DigestUnknown",
                message: format!("{reference} is unknown"),
                passes: false,
            })
        };
        Box::pin(async move { result })
    }
}
