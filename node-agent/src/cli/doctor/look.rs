//! What `doctor` looks at. Reads the kernel and the host's files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use livepatch_agent::journal::JournalFile;
use livepatch_agent::lock::HostLock;
use livepatch_agent::stop::StopSwitches;
use livepatch_kernel::{
    Host, Identity, Kernel, LinuxKernel, Livepatch, LoadedModule, Policy, Seen, Stragglers, Taints,
};
use livepatch_module::decompress;
use nix::unistd::{AccessFlags, access};

use super::services::{self, Others};
use crate::cli::args::Place;
use crate::cli::host::{self, Rights};
use crate::cli::{causes, chain};

/// Largest kernel configuration that is read, in bytes; they have some 300 kB.
const MAX_CONFIG: usize = 4 << 20;

/// Options of the kernel's configuration with their values, and where they were read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Config {
    pub(super) path: PathBuf,
    pub(super) options: BTreeMap<String, String>,
}

/// Everything that is judged. What is an error or unknown is kept as its text.
#[derive(Debug, Clone)]
pub(super) struct Symptoms {
    pub(super) rights: Option<Rights>,
    pub(super) livepatching: Result<(), String>,
    pub(super) identity: Result<Identity, String>,
    pub(super) config: Option<Config>,
    pub(super) policy: Policy,
    pub(super) patch_state: bool,
    pub(super) tasks: Seen<Stragglers>,
    pub(super) log: bool,
    pub(super) taints: Option<Taints>,
    pub(super) livepatches: Result<Vec<Livepatch>, String>,
    pub(super) leftovers: Result<Vec<LoadedModule>, String>,
    pub(super) modules: bool,
    pub(super) others: Others,
    pub(super) stopped: Option<String>,
    pub(super) state_dir: Result<(), String>,
    pub(super) lock_held: Result<bool, String>,
    pub(super) journal: Result<(), String>,
}

/// Looks at this host.
pub(super) fn look(place: &Place) -> Symptoms {
    let paths = host::paths();
    // A kernel without livepatching is looked at as well: that is what a doctor is for.
    let bare = LinuxKernel::open(Host {
        real: false,
        ..paths.clone()
    });
    let livepatching = host::kernel().map(|_| ()).map_err(|error| causes(&error));
    let kernel = match bare {
        Ok(kernel) => kernel,
        Err(error) => return nothing(place, &paths, &chain(error.reason(), &error)),
    };
    let identity = kernel.identity().map_err(|error| causes(&error));
    let release = identity.as_ref().map_or("", |identity| identity.release.as_str());
    Symptoms {
        config: config(&paths, release),
        modules: paths.modules.join(release).join("modules.dep").is_file(),
        identity: identity.clone(),
        livepatching,
        policy: kernel.policy(),
        patch_state: paths.proc.join("self/patch_state").exists(),
        tasks: kernel.stragglers(true, 0),
        log: kernel.log_since(&kernel.log_mark()).complete,
        taints: kernel.taints().ok(),
        livepatches: kernel.livepatches().map_err(|error| causes(&error)),
        leftovers: kernel.leftovers().map_err(|error| causes(&error)),
        ..nothing(place, &paths, "")
    }
}

/// What can be seen of a host without its kernel.
fn nothing(place: &Place, paths: &Host, why: &str) -> Symptoms {
    let unknown = || Seen::unknown(why);
    Symptoms {
        rights: Rights::read(),
        livepatching: Err(why.to_owned()),
        identity: Err(why.to_owned()),
        config: None,
        policy: Policy {
            modules_disabled: unknown(),
            signature_enforced: unknown(),
            lockdown: Seen::unknown(why),
            ftrace_enabled: unknown(),
            loadpin_enforced: unknown(),
            replace_set: unknown(),
        },
        patch_state: false,
        tasks: Seen::unknown(why),
        log: false,
        taints: None,
        livepatches: Err(why.to_owned()),
        leftovers: Err(why.to_owned()),
        modules: false,
        others: services::look(&paths.proc),
        stopped: StopSwitches {
            config: place.config_dir.clone(),
            proc: paths.proc.clone(),
        }
        .read(),
        state_dir: writable(&place.state_dir),
        lock_held: HostLock::is_held(&place.state_dir).map_err(|error| error.to_string()),
        journal: JournalFile::in_directory(&place.state_dir)
            .read()
            .map(|_| ())
            .map_err(|error| chain(error.reason(), &error)),
    }
}

/// Whether a directory, or the nearest one above it that is there, can be written. Writes nothing.
fn writable(path: &Path) -> Result<(), String> {
    let nearest = path
        .ancestors()
        .find(|path| path.is_dir())
        .unwrap_or_else(|| Path::new("/"));
    access(nearest, AccessFlags::W_OK | AccessFlags::X_OK)
        .map_err(|errno| format!("{}: {}", nearest.display(), errno.desc()))
}

/// The configuration of the running kernel, from the first place that has it.
fn config(paths: &Host, release: &str) -> Option<Config> {
    let places = [
        Some(paths.proc.join("config.gz")),
        host::host_file(&format!("/boot/config-{release}")),
        Some(paths.modules.join(release).join("config")),
    ];
    places.into_iter().flatten().find_map(|path| {
        let packed = livepatch_agent::durable::read_at_most(&path, MAX_CONFIG as u64).ok()??;
        let bytes = decompress(&packed, MAX_CONFIG).ok()?;
        let options = parse(&String::from_utf8_lossy(&bytes));
        (!options.is_empty()).then_some(Config { path, options })
    })
}

/// `CONFIG_X=y`; what is not set is a comment, and not there.
fn parse(text: &str) -> BTreeMap<String, String> {
    text.lines()
        .filter_map(|line| line.strip_prefix("CONFIG_")?.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_is_read() {
        let options = parse("# CONFIG_A is not set\nCONFIG_LIVEPATCH=y\nCONFIG_X=\"a=b\"\n");
        assert_eq!(options.get("LIVEPATCH").unwrap(), "y");
        assert_eq!(options.get("X").unwrap(), "\"a=b\"");
        assert_eq!(options.len(), 2);
    }

    #[test]
    fn a_directory_that_can_be_made_counts() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(writable(&folder.path().join("a/b")), Ok(()));
        assert!(!folder.path().join("a").exists());
    }
}
