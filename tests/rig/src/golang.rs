//! Programs built from Go modules, each kept as a cache entry.
//!
//! Does IO. Modules come through the Go client as the machine has it set up and are checked against a committed
//! `go.sum` or, for a program installed by version, the checksum database.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::cache::{self, Key};
use crate::progress;

/// The oldest Go that builds everything below (the `go` line of k8s.io/kubernetes 1.36).
const GO: &str = "1.26";

/// Builds the main package of a module's folder; returns a folder with the program `name` and links to it under each of
/// the names it also answers to.
pub fn build(name: &str, module: &Path, ldflags: &str, links: &[&str]) -> Result<PathBuf> {
    let key = Key::new()
        .folder("module", module)?
        .text("ldflags", ldflags)
        .text("links", &links.join(" "))
        .text("go", &version()?);
    cache::entry(name, &key, |folder| {
        for link in links {
            symlink(name, folder.join(link)).with_context(|| format!("link {link}"))?;
        }
        progress::run(
            go().current_dir(module)
                .args(["build", "-trimpath", "-buildvcs=false", "-ldflags", ldflags, "-o"])
                .arg(folder.join(name))
                .arg("."),
        )
    })
}

/// Installs the commands of a module at a version; returns the folder with the programs.
pub fn install(name: &str, packages: &[&str], module_version: &str, tags: &str) -> Result<PathBuf> {
    let key = Key::new()
        .text("packages", &packages.join(" "))
        .text("version", module_version)
        .text("tags", tags)
        .text("go", &version()?);
    cache::entry(name, &key, |folder| {
        progress::run(
            go().env("GOBIN", folder)
                .args(["install", "-trimpath", "-ldflags", "-s -w", "-tags", tags])
                .args(packages.iter().map(|package| format!("{package}@{module_version}"))),
        )
    })
}

fn version() -> Result<String> {
    let version = progress::output(Command::new("go").args(["env", "GOVERSION"]))
        .with_context(|| format!("the control plane is built from source and needs Go {GO} or newer on the PATH"))?;
    Ok(version.trim().to_owned())
}

/// At a low priority: the builds take all cores for minutes.
fn go() -> Command {
    let mut command = Command::new("nice");
    command.args(["-n", "5", "go"]).env("CGO_ENABLED", "0");
    command
}
