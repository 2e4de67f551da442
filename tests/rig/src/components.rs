//! Where the programs of a cluster come from, and their versions.
//!
//! Does IO: each function returns a folder of programs and builds or downloads it when the cache has none.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::debian::{self, Suite};
use crate::golang;

/// The Kubernetes release that the control plane and the kubelets are; `controlplane/go.mod` says the same.
pub const KUBERNETES: &str = "v1.36.3";
/// The Helm release that installs the chart in tests.
pub const HELM: &str = "v4.3.1";
/// The container runtime of the nodes; a kubelet of 1.36 asks for the runtime's configuration, which 1.x does not tell.
pub const CONTAINERD: &str = "v2.2.1";

/// A folder with etcd, kube-apiserver, kube-controller-manager, kube-scheduler, kubelet and kubectl.
pub fn kubernetes() -> Result<PathBuf> {
    let module = Path::new(env!("CARGO_MANIFEST_DIR")).join("controlplane");
    let stamp = "k8s.io/component-base/version";
    let ldflags = format!("-s -w -X {stamp}.gitVersion={KUBERNETES} -X {stamp}.gitMajor=1 -X {stamp}.gitMinor=36");
    golang::build(
        "controlplane",
        &module,
        &ldflags,
        &[
            "etcd",
            "kube-apiserver",
            "kube-controller-manager",
            "kube-scheduler",
            "kubelet",
            "kubectl",
        ],
    )
}

/// A folder with helm.
pub fn helm() -> Result<PathBuf> {
    golang::install("helm", &["helm.sh/helm/v4/cmd/helm"], HELM, "")
}

/// A folder with containerd and containerd-shim-runc-v2.
pub fn containerd() -> Result<PathBuf> {
    golang::install(
        "containerd",
        &[
            "github.com/containerd/containerd/v2/cmd/containerd",
            "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
        ],
        CONTAINERD,
        "no_btrfs,no_zfs,no_devmapper",
    )
}

/// The program runc of Debian's next release.
pub fn runc() -> Result<PathBuf> {
    Ok(debian::extracted("runc", Suite::Named("trixie"), &["runc"])?.join("usr/bin/runc"))
}

/// The program docker-registry.
pub fn registry() -> Result<PathBuf> {
    Ok(debian::extracted("docker-registry", Suite::Machine, &["docker-registry"])?.join("usr/bin/docker-registry"))
}

/// The program promtool, which checks and tests alert rules.
pub fn promtool() -> Result<PathBuf> {
    Ok(debian::extracted("prometheus", Suite::Machine, &["prometheus"])?.join("usr/bin/promtool"))
}
