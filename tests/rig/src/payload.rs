//! Programs of this workspace built to run anywhere: statically linked, so that a guest needs no C library.
//!
//! Does IO: runs cargo. The target is named, even though it is the machine's own, because only then do the flags apply
//! to the program and not to the build scripts and procedural macros of its dependencies.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::progress;

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// The program of an integration test (`tests/NAME.rs`) of a package.
pub fn test(package: &str, name: &str) -> Result<PathBuf> {
    build(&["test", "--no-run", "--package", package, "--test", name], name)
}

/// A program of a package.
pub fn program(package: &str, name: &str) -> Result<PathBuf> {
    build(&["build", "--package", package, "--bin", name], name)
}

/// A program of a package, optimised.
pub fn release_program(package: &str, name: &str) -> Result<PathBuf> {
    build(&["build", "--release", "--package", package, "--bin", name], name)
}

/// Programs as a release has them, each of the package that bears its name: what goes into images. Built by one cargo,
/// which compiles what they share once.
pub fn releases<const N: usize>(names: [&str; N]) -> Result<[PathBuf; N]> {
    let packages = names.iter().flat_map(|name| ["--package", name]);
    let arguments: Vec<&str> = ["build", "--release", "--bins"].into_iter().chain(packages).collect();
    let messages = cargo(&arguments, &names.join(", "))?;
    let mut paths = names.map(|_| PathBuf::new());
    for (path, name) in paths.iter_mut().zip(names) {
        *path = executable(&messages, name)?;
    }
    Ok(paths)
}

fn build(arguments: &[&str], name: &str) -> Result<PathBuf> {
    executable(&cargo(arguments, name)?, name)
}

fn cargo(arguments: &[&str], what: &str) -> Result<String> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .args(arguments)
        .args(["--target", TARGET, "--message-format", "json-render-diagnostics"])
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."))
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    for (name, _) in env::vars_os().filter(|(name, _)| is_of_package(&name.to_string_lossy())) {
        command.env_remove(name);
    }
    progress::step(&format!("build {what}, statically linked"), || {
        progress::output(&mut command)
    })
}

/// Whether a variable tells of the package whose test runs this. The build script of ring asks to be run again, and with
/// it the compiler for most of what there is, whenever one of these is another than before.
fn is_of_package(variable: &str) -> bool {
    ["CARGO_PKG_", "CARGO_MANIFEST_"]
        .iter()
        .any(|prefix| variable.starts_with(prefix))
}

/// The program of that name, from what cargo says of its work.
fn executable(messages: &str, name: &str) -> Result<PathBuf> {
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message["target"]["name"] == name)
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .with_context(|| format!("cargo names no program {name}"))
}
