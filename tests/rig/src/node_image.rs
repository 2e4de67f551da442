//! The disk that every node starts from: Debian with a container runtime, a kubelet and the modules of all kernels.
//!
//! Does IO. Needs root, as debootstrap does; nothing is mounted. One image serves every kernel: which one boots is
//! decided when the node is switched on.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::cache::{self, Key};
use crate::debian::{self, Suite};
use crate::image::{Contents, File, Image};
use crate::kernels::{Kernel, Series};
use crate::{components, progress};

/// Its containerd dependencies (runc 1.1, CNI plugins 1.1) are new enough for a kubelet of 1.36.
const RELEASE: &str = "trixie";
const PACKAGES: &[&str] = &[
    "apparmor",
    "busybox-static",
    "ca-certificates",
    "containernetworking-plugins",
    "iproute2",
    "iptables",
    "kmod",
    "nftables",
    "procps",
    "runc",
];
/// Of the file in the image; it occupies what is written to it.
const SIZE: &str = "4G";
/// The name of the image every pod's sandbox runs.
pub(crate) const SANDBOX: &str = "rig/sandbox";

const INIT: &str = include_str!("../node/init.sh");
const CONTROL: &str = include_str!("../node/control.sh");
const PAUSE: &str = include_str!("../node/pause.c");

/// The disk image, to be copied for each node.
pub fn disk() -> Result<PathBuf> {
    let base = root_file_system()?;
    let kubelet = components::kubernetes()?.join("kubelet");
    let containerd = components::containerd()?;
    let kernels = Series::ALL.into_iter().map(Kernel::get).collect::<Result<Vec<_>>>()?;
    let mut key = Key::new()
        .text("base", &base.display().to_string())
        .text("kubelet", &kubelet.display().to_string())
        .text("containerd", &containerd.display().to_string())
        .text("size", SIZE)
        .text("init", INIT)
        .text("control", CONTROL)
        .text("recipe", "1");
    for kernel in &kernels {
        key = key.text(kernel.release(), kernel.package_version());
    }
    let entry = cache::entry("node-disk", &key, |folder| {
        debian::ensure_programs(Suite::Machine, &[("mke2fs", "e2fsprogs")])?;
        let root = folder.join("root");
        progress::run(Command::new("cp").arg("-a").arg(&base).arg(&root))?;
        let programs = root.join("usr/local/bin");
        copy(&kubelet, &programs.join("kubelet"))?;
        for name in ["containerd", "containerd-shim-runc-v2"] {
            copy(&containerd.join(name), &programs.join(name))?;
        }
        let modules = root.join("usr/lib/modules");
        fs::create_dir_all(&modules).with_context(|| format!("create {}", modules.display()))?;
        for kernel in &kernels {
            progress::run(Command::new("cp").arg("-a").arg(kernel.modules()).arg(&modules))?;
        }
        let scripts = root.join("usr/local/sbin");
        for (name, content) in [("node-init", INIT), ("node-control", CONTROL)] {
            let path = scripts.join(name);
            fs::write(&path, content).with_context(|| format!("write {}", path.display()))?;
            progress::run(Command::new("chmod").arg("755").arg(&path))?;
        }
        let mke2fs = debian::program_path("mke2fs").context("the package e2fsprogs brings no mke2fs")?;
        progress::run(
            Command::new(mke2fs)
                .args(["-q", "-t", "ext4", "-O", "^metadata_csum", "-m", "0", "-d"])
                .arg(&root)
                .args(["-E", "lazy_itable_init=1,lazy_journal_init=1,root_owner=0:0"])
                .arg(folder.join("disk"))
                .arg(SIZE),
        )?;
        fs::remove_dir_all(&root).with_context(|| format!("remove {}", root.display()))
    })?;
    Ok(entry.join("disk"))
}

/// The image that containerd starts a pod's sandbox from.
pub(crate) fn sandbox() -> Result<Image> {
    let key = Key::new().text("source", PAUSE);
    let entry = cache::entry("sandbox", &key, |folder| {
        let source = folder.join("pause.c");
        fs::write(&source, PAUSE).with_context(|| format!("write {}", source.display()))?;
        debian::ensure_programs(Suite::Machine, &[("gcc", "gcc")])?;
        progress::run(
            Command::new("gcc")
                .args(["-O2", "-static", "-nostdlib", "-s", "-o"])
                .arg(folder.join("pause"))
                .arg(&source),
        )
    })?;
    let program = entry.join("pause");
    let content = fs::read(&program).with_context(|| format!("read {}", program.display()))?;
    Image::assemble(&Contents {
        files: vec![File {
            path: "pause".into(),
            mode: 0o755,
            content,
        }],
        entrypoint: "/pause".into(),
        user: "65532:65532".into(),
    })
}

/// Debian without what nobody reads on a node.
fn root_file_system() -> Result<PathBuf> {
    let key = Key::new()
        .text("release", RELEASE)
        .text("packages", &PACKAGES.join(" "))
        .text("recipe", "1");
    let entry = cache::entry("node-root", &key, |folder| {
        debian::ensure_programs(Suite::Machine, &[("debootstrap", "debootstrap")])?;
        let program = debian::program_path("debootstrap").context("the package brings no debootstrap")?;
        let root = folder.join("root");
        progress::run(
            Command::new(program)
                .args(["--variant=minbase", &format!("--include={}", PACKAGES.join(","))])
                .arg(RELEASE)
                .arg(&root)
                .arg(debian::mirror()?),
        )?;
        for unread in [
            "usr/share/doc",
            "usr/share/man",
            "usr/share/locale",
            "usr/share/info",
            "var/lib/apt/lists",
        ] {
            empty(&root.join(unread))?;
        }
        empty(&root.join("var/cache/apt"))
    })?;
    Ok(entry.join("root"))
}

fn empty(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("remove {}", folder.display()))?;
    }
    fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))
}

/// Follows links, keeps the mode.
fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).with_context(|| format!("copy {}", from.display()))?;
    Ok(())
}
