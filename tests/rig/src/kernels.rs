//! The kernels that tests run: Debian's cloud kernels with `CONFIG_LIVEPATCH=y`, which load unsigned modules.
//!
//! Does IO. Image and headers are extracted from their packages into the cache, never installed, so that the machine's
//! own kernel and boot configuration stay as they are.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::cache::{self, Key};
use crate::debian::{self, Suite};
use crate::progress;

/// How long the answer of apt about a suite is kept.
const KEEP_ANSWER: Duration = Duration::from_hours(24);

/// A kernel series the project is tested on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Series {
    /// Linux 6.1 of Debian 12: no `replace` and no `stack_order` in sysfs.
    Linux6_1,
    /// Linux 6.12 of Debian 12's backports: `replace` in sysfs, no `stack_order`.
    Linux6_12,
}

impl Series {
    /// All of them, oldest first.
    pub const ALL: [Self; 2] = [Self::Linux6_1, Self::Linux6_12];

    /// The Debian suite whose `linux-image-cloud-amd64` it is.
    fn suite(self) -> Suite {
        match self {
            Self::Linux6_1 => Suite::Named("bookworm"),
            Self::Linux6_12 => Suite::Named("bookworm-backports"),
        }
    }
}

impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Linux6_1 => "6.1",
            Self::Linux6_12 => "6.12",
        })
    }
}

/// A kernel on disk, with the headers to build modules for it.
#[derive(Debug, Clone)]
pub struct Kernel {
    series: Series,
    release: String,
    package_version: String,
    root: PathBuf,
}

impl Kernel {
    /// The kernel of a series that its suite offers now, downloaded if the cache does not hold it. Asks apt, which
    /// takes seconds, once a day.
    pub fn get(series: Series) -> Result<Self> {
        static KNOWN: Mutex<Vec<Kernel>> = Mutex::new(Vec::new());
        let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kernel) = known.iter().find(|kernel| kernel.series == series) {
            return Ok(kernel.clone());
        }
        let kernel = match Self::remembered(series)? {
            Some(kernel) => kernel,
            None => Self::find(series)?,
        };
        known.push(kernel.clone());
        Ok(kernel)
    }

    /// What apt said less than a day ago, if the kernel is still in the cache.
    fn remembered(series: Series) -> Result<Option<Self>> {
        let file = answer(series)?;
        let fresh = fs::metadata(&file)
            .and_then(|metadata| metadata.modified())
            .is_ok_and(|written| written.elapsed().is_ok_and(|age| age < KEEP_ANSWER));
        let text = fs::read_to_string(&file).unwrap_or_default();
        let &[release, package_version, root] = text.lines().collect::<Vec<_>>().as_slice() else {
            return Ok(None);
        };
        let root = PathBuf::from(root);
        Ok((fresh && root.is_dir()).then(|| Self {
            series,
            release: release.to_owned(),
            package_version: package_version.to_owned(),
            root,
        }))
    }

    fn find(series: Series) -> Result<Self> {
        let suite = series.suite();
        let meta = "linux-image-cloud-amd64";
        let image = debian::depends(suite, meta)?
            .into_iter()
            .find(|package| package.starts_with("linux-image-"))
            .with_context(|| format!("{meta} depends on no kernel"))?;
        let release = image.trim_start_matches("linux-image-").to_owned();
        let package_version = debian::version(suite, &image)?;
        let key = Key::new().text("image", &image).text("version", &package_version);
        let root = cache::entry(&format!("linux-{release}"), &key, |folder| {
            extract(suite, &release, folder)
        })?;
        let file = answer(series)?;
        fs::write(&file, format!("{release}\n{package_version}\n{}\n", root.display()))
            .with_context(|| format!("write {}", file.display()))?;
        Ok(Self {
            series,
            release,
            package_version,
            root,
        })
    }

    /// Which series this is.
    pub fn series(&self) -> Series {
        self.series
    }

    /// What `uname -r` says on it.
    pub fn release(&self) -> &str {
        &self.release
    }

    /// Version of the package, which tells two builds of one release apart.
    pub fn package_version(&self) -> &str {
        &self.package_version
    }

    /// The bootable image.
    pub fn image(&self) -> PathBuf {
        self.root.join("boot").join(format!("vmlinuz-{}", self.release))
    }

    /// The kernel's own modules with their dependency files: a `lib/modules/RELEASE` folder.
    pub fn modules(&self) -> PathBuf {
        self.root.join("lib/modules").join(&self.release)
    }

    /// What `make -C` takes to build a module.
    pub fn headers(&self) -> PathBuf {
        headers(&self.root, &self.release)
    }

    /// All modules of the same kernel as it is built for ordinary machines, about four thousand: the folder of their
    /// package, downloaded if the cache does not hold it.
    pub fn all_modules(&self) -> Result<PathBuf> {
        let release = self.release.replace("-cloud-", "-");
        let package = format!("linux-image-{release}");
        let root = debian::extracted(&format!("all-modules-{release}"), self.series.suite(), &[&package])?;
        Ok(root.join("lib/modules").join(release))
    }

    /// One of the kernel's own modules, uncompressed; `None` if it is built in. Underscores and dashes are the same.
    pub fn module(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let wanted = name.replace('-', "_");
        let dependencies = self.modules().join("modules.dep");
        let list = fs::read_to_string(&dependencies).with_context(|| format!("read {}", dependencies.display()))?;
        let found = list.lines().filter_map(|line| line.split(':').next()).find(|path| {
            let file = path.rsplit('/').next().unwrap_or_default();
            file.split('.').next().unwrap_or_default().replace('-', "_") == wanted
        });
        let Some(relative) = found else { return Ok(None) };
        let path = self.modules().join(relative);
        let bytes = if path.extension().is_some_and(|extension| extension == "xz") {
            let output = Command::new("xz")
                .args(["--decompress", "--stdout"])
                .arg(&path)
                .output()
                .context("start xz")?;
            if !output.status.success() {
                bail!("xz cannot read {}", path.display());
            }
            output.stdout
        } else {
            fs::read(&path).with_context(|| format!("read {}", path.display()))?
        };
        Ok(Some(bytes))
    }
}

/// Where the answer of apt is kept.
fn answer(series: Series) -> Result<PathBuf> {
    Ok(cache::root()?.join(format!("linux-{series}.answer")))
}

fn headers(root: &Path, release: &str) -> PathBuf {
    root.join("usr/src").join(format!("linux-headers-{release}"))
}

fn extract(suite: Suite, release: &str, root: &Path) -> Result<()> {
    debian::ensure_programs(Suite::Machine, &[("xz", "xz-utils"), ("depmod", "kmod")])?;
    let headers_package = format!("linux-headers-{release}");
    let mut packages = vec![format!("linux-image-{release}"), headers_package.clone()];
    packages.extend(debian::depends(suite, &headers_package)?.into_iter().filter(|package| {
        package.starts_with("linux-kbuild-") || package.starts_with("linux-headers-") && package.ends_with("-common")
    }));
    let files = tempfile::tempdir_in(cache::root()?).context("create a folder for packages")?;
    let names: Vec<&str> = packages.iter().map(String::as_str).collect();
    for package in debian::download(suite, &names, files.path())? {
        debian::extract(&package, root)?;
    }
    // The package's Makefile includes that of the common headers by its installed, absolute path.
    let makefile = headers(root, release).join("Makefile");
    let text = fs::read_to_string(&makefile).with_context(|| format!("read {}", makefile.display()))?;
    fs::write(&makefile, text.replace("include /usr/src/", "include ../"))
        .with_context(|| format!("write {}", makefile.display()))?;
    let depmod = debian::program_path("depmod").context("the package kmod brings no depmod")?;
    progress::run(Command::new(depmod).arg("--basedir").arg(root).arg(release))
}
