//! What is kept when a test fails.
//!
//! Does IO, best effort: a diagnosis that fails must not hide the failure it was made for.

use std::fs;
use std::path::Path;
use std::thread;

use crate::control_plane::ControlPlane;
use crate::kubectl::Kubectl;

/// Lists that are written down; a kind that the server does not have is left out.
const KINDS: &[&str] = &[
    "nodes",
    "pods",
    "events",
    "daemonsets",
    "deployments",
    "leases",
    "livepatchsets.livepatch.dev",
    "livepatchrollouts.livepatch.dev",
    "nodelivepatches.livepatch.dev",
];

/// Writes the objects of the interesting kinds to `folder`, one file each.
pub fn dump_objects(kubectl: &Kubectl, folder: &Path) {
    if fs::create_dir_all(folder).is_err() {
        return;
    }
    for kind in KINDS {
        let arguments = ["get", kind, "--all-namespaces", "--output=yaml", "--request-timeout=5s"];
        if let Ok(yaml) = kubectl.run(&arguments) {
            let _ = fs::write(folder.join(format!("{kind}.yaml")), yaml);
        }
    }
}

/// Keeps a control plane's logs and objects if the test that holds this value fails. For a control plane that several
/// tests share and that is therefore not dropped when one of them panics.
#[derive(Debug)]
pub struct KeepOnPanic<'plane>(pub &'plane ControlPlane);

impl Drop for KeepOnPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.keep();
        }
    }
}
