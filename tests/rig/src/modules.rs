//! Kernel modules built from C for a kernel: one folder of `.ko` files per kernel and source folder.
//!
//! Does IO. What is built depends on the sources, the kernel package and the compiler only: paths are mapped away and no
//! debug information is kept, so an equal source gives an equal file, and with it an equal build id.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::cache::{self, Key};
use crate::debian::{self, Suite};
use crate::kernels::Kernel;
use crate::progress;

/// Debian builds both kernels with this one.
const COMPILER: &str = "gcc-12";

/// The modules of this project's tests, built for a kernel; the folder holds `NAME.ko` for each source `NAME.c`.
pub fn build(kernel: &Kernel) -> Result<PathBuf> {
    build_from(kernel, &Path::new(env!("CARGO_MANIFEST_DIR")).join("../modules"))
}

/// The modules of a folder with C sources and a `Kbuild` file.
pub fn build_from(kernel: &Kernel, sources: &Path) -> Result<PathBuf> {
    debian::ensure_programs(Suite::Machine, &[(COMPILER, COMPILER), ("make", "make")])?;
    let compiler = progress::output(Command::new(COMPILER).arg("--version"))?;
    let mut key = Key::new();
    for file in files(sources)? {
        key = key.file(&file.file_name().unwrap_or_default().to_string_lossy(), &file)?;
    }
    let key = key
        .text("kernel", kernel.release())
        .text("package", kernel.package_version())
        .text("compiler", compiler.lines().next().unwrap_or_default())
        .text("recipe", "1");
    cache::entry(&format!("modules-{}", kernel.release()), &key, |folder| {
        let work = tempfile::tempdir().context("create a folder for a module build")?;
        copy_files(sources, work.path())?;
        let map = format!("KCFLAGS=-ffile-prefix-map={}=modules", work.path().display());
        progress::run(
            Command::new("make")
                .arg("-C")
                .arg(kernel.headers())
                .arg(format!("M={}", work.path().display()))
                .arg(format!("CC={COMPILER}"))
                .arg(map)
                // The kernel's own setting would add megabytes of types and ask for pahole.
                .args([
                    "CONFIG_DEBUG_INFO=",
                    "CONFIG_DEBUG_INFO_BTF_MODULES=",
                    "-s",
                    "-j2",
                    "modules",
                ])
                .env("KBUILD_BUILD_TIMESTAMP", "1970-01-01"),
        )?;
        for path in files(work.path())?
            .iter()
            .filter(|path| path.extension().is_some_and(|e| e == "ko"))
        {
            copy(path, folder)?;
        }
        Ok(())
    })
}

fn copy_files(from: &Path, into: &Path) -> Result<()> {
    files(from)?.iter().try_for_each(|path| copy(path, into))
}

fn copy(file: &Path, into: &Path) -> Result<()> {
    let name = file
        .file_name()
        .with_context(|| format!("{} is no file", file.display()))?;
    fs::copy(file, into.join(name)).with_context(|| format!("copy {}", file.display()))?;
    Ok(())
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))?;
    let mut files: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.is_file())
        .collect();
    files.sort();
    Ok(files)
}
