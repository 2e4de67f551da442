//! Other services that load livepatches on this host. Reads files.
//!
//! Each has a channel of its own and knows nothing of this project: two of them on one host undo each other's work.

use std::path::Path;

use crate::cli::host;

/// Most processes looked at.
const MAX_PROCESSES: usize = 1 << 16;

/// How a service is recognised.
struct Service {
    name: &'static str,
    /// Its systemd units.
    units: &'static [&'static str],
    /// Names of its processes, as long as a kernel keeps them.
    processes: &'static [&'static str],
    /// Beginnings of its modules' names.
    modules: &'static [&'static str],
}

const SERVICES: [Service; 4] = [
    Service {
        name: "kpatch",
        units: &["kpatch.service"],
        processes: &[],
        modules: &[],
    },
    Service {
        name: "canonical-livepatch",
        units: &[
            "snap.canonical-livepatch.canonical-livepatchd.service",
            "canonical-livepatch.service",
        ],
        processes: &["canonical-livep"],
        modules: &["lkp_Ubuntu"],
    },
    Service {
        name: "KernelCare (kcarectl)",
        units: &["kcare.service", "kcarectl.service"],
        processes: &["kcarectl"],
        modules: &["kcare"],
    },
    Service {
        name: "Ksplice (uptrack)",
        units: &["uptrack.service", "uptrack-prefetch.service"],
        processes: &["uptrack-upgrade", "ksplice"],
        modules: &["ksplice_"],
    },
];

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Others {
    /// Active services, each with what shows it.
    pub(super) active: Vec<String>,
    /// Whether systemd's units could be looked at; some services have neither a process nor a module.
    pub(super) units_seen: bool,
}

/// Looks for them.
pub(super) fn look(proc: &Path) -> Others {
    let root = host::host_file("/");
    let processes = processes(proc);
    let modules = host::small(&proc.join("modules")).unwrap_or_default();
    Others {
        active: SERVICES
            .iter()
            .filter_map(|service| service.active(root.as_deref(), &processes, &modules))
            .collect(),
        // A host without systemd has no units that could be hidden.
        units_seen: root.is_some(),
    }
}

impl Service {
    fn active(&self, root: Option<&Path>, processes: &[String], modules: &str) -> Option<String> {
        let unit = root.and_then(|root| self.units.iter().find(|unit| is_active(root, unit)));
        let process = || {
            self.processes
                .iter()
                .find(|name| processes.iter().any(|process| process == **name))
        };
        let module = || {
            let mut names = modules.lines().filter_map(|line| line.split(' ').next());
            names.find(|name| self.modules.iter().any(|beginning| name.starts_with(beginning)))
        };
        if let Some(unit) = unit {
            return Some(format!("{} (unit {unit})", self.name));
        }
        if let Some(process) = process() {
            return Some(format!("{} (process {process})", self.name));
        }
        module().map(|module| format!("{} (module {module})", self.name))
    }
}

/// systemd keeps a link for each active unit (`unit_export_invocation_id()`, since version 237), also for one that has
/// done its work and left no process.
fn is_active(root: &Path, unit: &str) -> bool {
    root.join("run/systemd/units")
        .join(format!("invocation:{unit}"))
        .symlink_metadata()
        .is_ok()
}

fn processes(proc: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(proc) else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter(|entry| {
            entry
                .file_name()
                .to_str()
                .is_some_and(|name| name.parse::<u32>().is_ok())
        })
        .take(MAX_PROCESSES)
        .filter_map(|entry| host::small(&entry.path().join("comm")))
        .map(|comm| comm.trim_end().to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_recognised_by_unit_process_or_module() {
        let root = tempfile::tempdir().unwrap();
        let units = root.path().join("run/systemd/units");
        std::fs::create_dir_all(&units).unwrap();
        let active = |service: usize, processes: &[String], modules: &str| {
            SERVICES[service].active(Some(root.path()), processes, modules)
        };
        assert_eq!(active(0, &[], ""), None);
        std::os::unix::fs::symlink("5c1d", units.join("invocation:kpatch.service")).unwrap();
        assert_eq!(active(0, &[], "").unwrap(), "kpatch (unit kpatch.service)");
        let daemon = ["canonical-livep".to_owned()];
        assert!(active(1, &daemon, "").unwrap().contains("process"));
        assert!(
            active(3, &[], "ext4 1 1 - Live 0x0\nksplice_abc 1 0 - Live 0x0\n")
                .unwrap()
                .contains("ksplice_abc")
        );
        assert_eq!(active(2, &daemon, "ext4 1 1 - Live 0x0\n"), None);
    }
}
