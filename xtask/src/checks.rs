//! What is checked before any test runs: formatting, lints, generated files, dependencies.

use std::process::Command;

use anyhow::{Result, ensure};
use livepatch_rig::cache::{self, Key};
use livepatch_rig::progress;

use crate::{cargo, generate};

/// The release of cargo-deny that deny.toml is written for.
const CARGO_DENY: &str = "0.20.2";

/// A check's name and what it does.
type Check = (&'static str, fn() -> Result<()>);

const CHECKS: &[Check] = &[
    ("formatting", formatting),
    ("generated files", generated_files),
    ("dependencies", dependencies),
    ("lints", lints),
];

/// Runs all checks, also after one has failed; returns how many passed and how many failed.
pub fn run() -> (usize, usize) {
    let mut failed = 0;
    for (name, check) in CHECKS {
        if let Err(error) = progress::step(name, check) {
            progress::line(&format!("{error:#}"));
            failed += 1;
        }
    }
    (CHECKS.len() - failed, failed)
}

fn formatting() -> Result<()> {
    progress::run(cargo().args(["fmt", "--all", "--check", "--", "--color", "never"]))
}

fn lints() -> Result<()> {
    progress::run(cargo().args(["clippy", "--workspace", "--all-targets", "--", "--deny=warnings"]))
}

fn generated_files() -> Result<()> {
    ensure!(
        generate::is_current()?,
        "run `cargo xtask generate` and commit what it writes"
    );
    Ok(())
}

/// The advisories are left to a person with access to the database of them: it is a Git repository, and this check must
/// pass without any network but a package registry.
fn dependencies() -> Result<()> {
    let key = Key::new().text("version", CARGO_DENY);
    let program = cache::entry("cargo-deny", &key, |folder| {
        progress::run(
            cargo()
                .args([
                    "install",
                    "--locked",
                    "--no-track",
                    "cargo-deny",
                    "--version",
                    CARGO_DENY,
                    "--root",
                ])
                .arg(folder)
                // Or it would be built among the workspace's own artefacts and stay there.
                .env_remove("CARGO_TARGET_DIR"),
        )
    })?;
    progress::run(
        Command::new(program.join("bin/cargo-deny"))
            .args(["--workspace", "--all-features", "check", "bans", "licenses", "sources"])
            .current_dir(crate::workspace()),
    )?;
    progress::line("    security advisories were not looked at: `cargo deny check advisories` downloads them");
    Ok(())
}
