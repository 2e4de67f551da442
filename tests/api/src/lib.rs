//! What the tests against a real API server share: one control plane per test process and a space in it per test.
//!
//! Does IO. The tests are modules of one integration test, so they are linked once.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::Result;
use livepatch_rig::control_plane::{ControlPlane, Options};
use livepatch_rig::diagnostics::KeepOnPanic;

/// etcd and an API server that all tests of this process share; it ends with the process. A test that changes what
/// others see (flags, cluster-wide roles, every node) starts one of its own, which takes seconds.
///
/// # Panics
/// When it cannot be started: no test can go on then.
pub fn plane() -> &'static ControlPlane {
    #[expect(
        clippy::panic,
        reason = "no test can go on without an API server, and a static has nobody to return to"
    )]
    static PLANE: LazyLock<ControlPlane> = LazyLock::new(|| {
        ControlPlane::start(Options::api_only()).unwrap_or_else(|error| panic!("start a control plane: {error:#}"))
    });
    &PLANE
}

/// A test's own place in the shared control plane: a namespace, and a prefix for the names of cluster-scoped objects.
/// If the test panics, the control plane's logs and objects are kept.
#[derive(Debug)]
pub struct Space {
    name: String,
    keep: KeepOnPanic<'static>,
}

impl Space {
    /// Makes the namespace; `test` is a short DNS label.
    pub fn create(test: &str) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let plane = plane();
        let name = format!("{test}-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        plane.admin().run(&["create", "namespace", &name])?;
        Ok(Self {
            name,
            keep: KeepOnPanic(plane),
        })
    }

    /// The control plane it is in.
    pub fn plane(&self) -> &'static ControlPlane {
        self.keep.0
    }

    /// The namespace.
    pub fn namespace(&self) -> &str {
        &self.name
    }

    /// A name for a cluster-scoped object that no other test uses.
    pub fn object(&self, name: &str) -> String {
        format!("{}-{name}", self.name)
    }
}
