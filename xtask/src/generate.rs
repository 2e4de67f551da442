//! `cargo xtask generate`: files that are committed and made from the source, such as the custom resources' schemas.
//!
//! Each is a path and the text it must hold. They are written, or, with `--check`, compared.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use livepatch_rig::progress;

use crate::{definitions, states};

/// What to do with what was generated.
#[derive(Debug, Args)]
pub struct Options {
    /// Write nothing; fail if a file is not what it would be.
    #[arg(long)]
    check: bool,
}

/// A generated file.
#[derive(Debug)]
pub struct Generated {
    /// Relative to the workspace.
    pub path: String,
    /// What it must hold.
    pub content: String,
}

/// All generated files.
fn generated() -> Result<Vec<Generated>> {
    let mut files = definitions::files()?;
    files.push(states::file());
    Ok(files)
}

/// Writes those that are not what they would be, or compares all.
pub fn run(options: &Options) -> Result<ExitCode> {
    let workspace = crate::workspace();
    if options.check {
        return Ok(if is_current()? {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        });
    }
    let files = generated()?;
    for file in stale(&workspace, &files) {
        let path = workspace.join(&file.path);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
        }
        fs::write(&path, &file.content).with_context(|| format!("write {}", path.display()))?;
        progress::line(&format!("wrote {}", file.path));
    }
    write_plugin_page(&workspace)?;
    Ok(ExitCode::SUCCESS)
}

/// Where the plugin describes itself. Whether it is current is one of the plugin's own tests, which need not build the
/// program for it.
const PLUGIN_PAGE: &str = "docs/kubectl-livepatch.md";

/// Writes what the plugin says of itself, if that is not what is there.
fn write_plugin_page(workspace: &Path) -> Result<()> {
    let path = workspace.join(PLUGIN_PAGE);
    let before = fs::read_to_string(&path).unwrap_or_default();
    let arguments = ["run", "--quiet", "--package", "kubectl-livepatch", "--", "__reference"];
    let page = progress::output(crate::cargo().args(arguments))?;
    if page != before {
        fs::write(&path, page).with_context(|| format!("write {}", path.display()))?;
        progress::line(&format!("wrote {PLUGIN_PAGE}"));
    }
    Ok(())
}

/// Whether every generated file is what it would be; says which is not.
pub fn is_current() -> Result<bool> {
    let workspace = crate::workspace();
    let files = generated()?;
    let stale = stale(&workspace, &files);
    for file in &stale {
        let difference = difference(&workspace, file);
        progress::line(&format!(
            "{} is not what `cargo xtask generate` writes{difference}",
            file.path
        ));
    }
    Ok(stale.is_empty())
}

/// The files whose content differs or that are missing.
fn stale<'files>(workspace: &Path, files: &'files [Generated]) -> Vec<&'files Generated> {
    files
        .iter()
        .filter(|file| fs::read_to_string(workspace.join(&file.path)).map_or(true, |content| content != file.content))
        .collect()
}

/// The first line that differs.
fn difference(workspace: &Path, file: &Generated) -> String {
    let Ok(content) = fs::read_to_string(workspace.join(&file.path)) else {
        return ": it cannot be read".to_owned();
    };
    let lines = content.lines().chain([""]).zip(file.content.lines().chain([""]));
    lines
        .enumerate()
        .find(|(_, (committed, wanted))| committed != wanted)
        .map(|(index, (committed, wanted))| format!(", line {}:\n- {committed}\n+ {wanted}", index + 1))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_or_missing_file_is_stale() {
        let workspace = tempfile::tempdir().unwrap();
        let file = |path: &str, content: &str| Generated {
            path: path.to_owned(),
            content: content.to_owned(),
        };
        fs::write(workspace.path().join("same"), "one\ntwo\n").unwrap();
        fs::write(workspace.path().join("changed"), "one\nthree\n").unwrap();
        let files = [
            file("same", "one\ntwo\n"),
            file("changed", "one\ntwo\n"),
            file("missing", ""),
        ];
        let stale: Vec<&str> = stale(workspace.path(), &files)
            .iter()
            .map(|file| file.path.as_str())
            .collect();
        assert_eq!(stale, ["changed", "missing"]);
        assert_eq!(difference(workspace.path(), &files[1]), ", line 2:\n- three\n+ two");
    }
}
