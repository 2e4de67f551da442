//! Packages from the mirror that this machine's own apt configuration names.
//!
//! Does IO. Packages of another suite (a backport, the next release) come through a private apt configuration that is
//! derived from the machine's own sources, so the machine's sources are never changed and no mirror is named here.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::cache::{self, Key};
use crate::progress;

/// Where Debian keeps the keys of its archives, those of the next release among them.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Where packages come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Suite {
    /// The machine's own sources.
    Machine,
    /// A suite by name, such as `bookworm-backports` or `trixie`, from the mirror of the machine's own sources.
    Named(&'static str),
}

impl Suite {
    fn name(self) -> &'static str {
        match self {
            Self::Machine => "machine",
            Self::Named(name) => name,
        }
    }
}

/// The packages' files, downloaded into a folder.
pub fn download(suite: Suite, packages: &[&str], into: &Path) -> Result<Vec<PathBuf>> {
    let apt = Apt::for_suite(suite)?;
    progress::step(
        &format!("download {} from Debian ({})", packages.join(" "), suite.name()),
        || {
            let mut fetch = apt.command("apt-get");
            fetch
                .arg("download")
                .args(packages.iter().map(|package| apt.qualified(package)))
                .current_dir(into);
            if progress::run(&mut fetch).is_err() {
                // A mirror drops a superseded version; lists older than that name a file that is gone.
                apt.update()?;
                progress::run(&mut fetch)?;
            }
            Ok(())
        },
    )?;
    packages
        .iter()
        .map(|package| {
            let prefix = format!("{package}_");
            fs::read_dir(into)
                .with_context(|| format!("read {}", into.display()))?
                .flatten()
                .map(|entry| entry.path())
                .find(|path| {
                    path.file_name()
                        .is_some_and(|name| name.to_string_lossy().starts_with(&prefix))
                })
                .with_context(|| format!("no file of {package} after its download"))
        })
        .collect()
}

/// Extracts a package below a folder without installing it: no dependencies, no scripts.
pub fn extract(package: &Path, into: &Path) -> Result<()> {
    progress::run(Command::new("dpkg").arg("-x").args([package, into]))
}

/// A cache entry `name` with the packages extracted under one root.
pub fn extracted(name: &str, suite: Suite, packages: &[&str]) -> Result<PathBuf> {
    let key = Key::new()
        .text("suite", suite.name())
        .text("packages", &packages.join(" "));
    cache::entry(name, &key, |folder| {
        let files = tempfile::tempdir_in(cache::root()?).context("create a folder for packages")?;
        for package in download(suite, packages, files.path())? {
            extract(&package, folder)?;
        }
        Ok(())
    })
}

/// The version of a package that a download would give.
pub fn version(suite: Suite, package: &str) -> Result<String> {
    let apt = Apt::for_suite(suite)?;
    let shown = progress::output(
        apt.command("apt-cache")
            .args(["show", "--no-all-versions"])
            .arg(apt.qualified(package)),
    )?;
    shown
        .lines()
        .find_map(|line| line.strip_prefix("Version: "))
        .map(str::to_owned)
        .with_context(|| format!("{package} has no version in {}", suite.name()))
}

/// Names of the packages a package depends on, first alternatives only. A metapackage such as
/// `linux-image-cloud-amd64` so tells which kernel it stands for.
pub fn depends(suite: Suite, package: &str) -> Result<Vec<String>> {
    let apt = Apt::for_suite(suite)?;
    let shown = progress::output(
        apt.command("apt-cache")
            .args(["show", "--no-all-versions"])
            .arg(apt.qualified(package)),
    )?;
    let line = shown
        .lines()
        .find_map(|line| line.strip_prefix("Depends: "))
        .unwrap_or_default();
    Ok(line
        .split(',')
        .filter_map(|one| one.split_whitespace().next())
        .map(str::to_owned)
        .collect())
}

/// Installs a package on this machine when a program it holds is missing. `wanted` is (program, package).
pub fn ensure_programs(suite: Suite, wanted: &[(&str, &str)]) -> Result<()> {
    let missing: Vec<&str> = wanted
        .iter()
        .filter(|(program, _)| program_path(program).is_none())
        .map(|(_, package)| *package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    install(suite, &missing)
}

/// Installs packages on this machine; needs root.
pub fn install(suite: Suite, packages: &[&str]) -> Result<()> {
    let list = packages.join(" ");
    ensure!(
        effective_uid()? == 0,
        "Debian packages are missing and only root can install them: {list} (suite: {})",
        suite.name()
    );
    let _lock = cache::lock(&cache::root()?, "apt-install")?;
    let apt = Apt::for_suite(suite)?;
    progress::step(&format!("install {list} from Debian ({})", suite.name()), || {
        let mut install = apt.command("apt-get");
        install
            .args(["install", "--yes", "--no-install-recommends"])
            .env("DEBIAN_FRONTEND", "noninteractive");
        if let Suite::Named(name) = suite {
            install.args(["--target-release", name]);
        }
        install.args(packages);
        if progress::run(&mut install).is_err() {
            apt.update()?;
            progress::run(&mut install)?;
        }
        Ok(())
    })
}

/// Where a program is, also looking where only root's PATH looks.
pub fn program_path(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|candidate| candidate.is_file())
}

fn effective_uid() -> Result<u32> {
    let text = progress::output(Command::new("id").arg("-u"))?;
    text.trim().parse().with_context(|| format!("id printed {text:?}"))
}

/// How apt is called for one suite.
struct Apt {
    options: Vec<String>,
    suite: Suite,
}

impl Apt {
    /// Makes the private configuration if one is needed and fetches its lists, once.
    fn for_suite(suite: Suite) -> Result<Self> {
        if program_path("apt-get").is_none() {
            bail!("the rig takes its programs from Debian packages and this machine has no apt-get");
        }
        let Suite::Named(name) = suite else {
            let apt = Self {
                options: Vec::new(),
                suite,
            };
            if !has_lists(Path::new("/var/lib/apt/lists")) {
                apt.update()?;
            }
            return Ok(apt);
        };
        let root = cache::root()?;
        let _lock = cache::lock(&root, &format!("apt-{name}"))?;
        let folder = root.join("apt").join(name);
        for below in ["parts", "lists/partial", "archives/partial"] {
            let path = folder.join(below);
            fs::create_dir_all(&path).with_context(|| format!("create {}", path.display()))?;
        }
        let sources = private_sources(name)?;
        let path = folder.join("sources.list");
        let changed = fs::read_to_string(&path).map_or(true, |old| old != sources);
        let shown = folder.display();
        let apt = Self {
            options: vec![
                format!("Dir::Etc::sourcelist={shown}/sources.list"),
                format!("Dir::Etc::sourceparts={shown}/parts"),
                format!("Dir::State::lists={shown}/lists"),
                format!("Dir::Cache={shown}"),
                // The lists lie in a home directory, which apt's own user cannot enter.
                "APT::Sandbox::User=root".to_owned(),
            ],
            suite,
        };
        if changed || !has_lists(&folder.join("lists")) {
            fs::write(&path, sources).with_context(|| format!("write {}", path.display()))?;
            apt.update()?;
        }
        Ok(apt)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        for option in &self.options {
            command.args(["-o", option]);
        }
        command.env("LC_ALL", "C");
        command
    }

    fn qualified(&self, package: &str) -> String {
        match self.suite {
            Suite::Machine => package.to_owned(),
            Suite::Named(name) => format!("{package}/{name}"),
        }
    }

    fn update(&self) -> Result<()> {
        progress::step(&format!("update the package lists ({})", self.suite.name()), || {
            progress::run(self.command("apt-get").arg("update"))
        })
    }
}

fn has_lists(folder: &Path) -> bool {
    fs::read_dir(folder).is_ok_and(|entries| {
        entries
            .flatten()
            .any(|entry| entry.file_name().to_string_lossy().contains("_Packages"))
    })
}

/// The release this machine runs, such as `bookworm`.
fn codename() -> Result<String> {
    let release = fs::read_to_string("/etc/os-release").context("read /etc/os-release")?;
    release
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
        .map(|name| name.trim_matches('"').to_owned())
        .context("/etc/os-release has no VERSION_CODENAME")
}

/// The mirror that the machine's own sources take its release from.
pub fn mirror() -> Result<String> {
    let codename = codename()?;
    let targets = progress::output(Command::new("apt-get").args([
        "indextargets",
        "--format",
        "$(REPO_URI) $(RELEASE)",
        "Created-By: Packages",
    ]))?;
    targets
        .lines()
        .filter_map(|line| line.split_once(' '))
        .find(|(_, release)| *release == codename)
        .map(|(mirror, _)| mirror.to_owned())
        .with_context(|| format!("the machine's apt sources do not name {codename}"))
}

/// Sources of the machine's own release and of the wanted suite.
fn private_sources(suite: &str) -> Result<String> {
    let codename = codename()?;
    let mirror = mirror()?;
    let signed = if Path::new(KEYRING).exists() {
        format!("[signed-by={KEYRING}] ")
    } else {
        String::new()
    };
    Ok(format!(
        "deb {signed}{mirror} {codename} main\ndeb {signed}{mirror} {suite} main\n"
    ))
}
