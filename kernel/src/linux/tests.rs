//! The real kernel's code on trees of ordinary files. Reads and writes a temporary folder.

use std::fs;
use std::path::Path;

use nix::errno::Errno;
use tempfile::TempDir;

use super::LinuxKernel;
use crate::error::KernelError;
use crate::host::Host;
use crate::policy::Lockdown;
use crate::seam::Kernel as _;
use crate::seen::Seen;
use crate::state::{ModuleState, Standing};

const UID: &str = "2c48913c-b29f-4c26-b8ff-2a0e3c2a1b6e";

/// A host with one livepatch, one leftover, and one task that has not switched.
fn host() -> (TempDir, LinuxKernel) {
    let root = TempDir::new().unwrap();
    for (path, content) in [
        ("sys/kernel/livepatch/a/enabled", "1\n"),
        ("sys/kernel/livepatch/a/transition", "0\n"),
        ("sys/kernel/livepatch/a/replace", "0\n"),
        ("sys/kernel/livepatch/a/vmlinux/patched", "1\n"),
        ("sys/kernel/livepatch/a/vmlinux/f,1/x", ""),
        ("sys/kernel/livepatch/a/vmlinux/e,2/x", ""),
        ("sys/module/a/refcnt", "1\n"),
        ("sys/module/a/taint", "OEK\n"),
        ("sys/module/b/refcnt", "0\n"),
        ("sys/module/b/taint", "OEK\n"),
        ("sys/module/ext4/taint", "\n"),
        ("sys/module/module/parameters/sig_enforce", "N\n"),
        ("sys/kernel/security/lockdown", "none [integrity] confidentiality\n"),
        ("proc/sys/kernel/tainted", "45056\n"),
        (
            "proc/sys/kernel/random/boot_id",
            "e0cdaa1a-6d3b-4ffb-a9b0-1d1b1c6d36d0\n",
        ),
        ("proc/sys/kernel/modules_disabled", "0\n"),
        ("proc/sys/kernel/ftrace_enabled", "1\n"),
        (
            "proc/modules",
            "a 16384 1 - Live 0x0000000000000000 (OEK)\nb 16384 0 - Live 0x0 (OEK)\next4 900 2 jbd2,crc16, Loading 0x0\n",
        ),
        ("proc/kallsyms", "0 t f\n0 T klp_enable_patch\n0 t f\t[ext4]\n"),
        ("proc/2/comm", "kthreadd\n"),
        ("proc/2/task/2/patch_state", "1\n"),
        ("proc/77/task/77/patch_state", "0\n"),
        ("proc/77/task/77/comm", "evil\u{1b}[2J\n"),
        ("proc/77/task/78/patch_state", "-1\n"),
    ] {
        write(root.path(), path, content);
    }
    write(root.path(), "proc/77/task/77/cgroup", &format!("0::/../pod{UID}/x\n"));
    let kernel = LinuxKernel::open(Host::fixture(root.path())).unwrap();
    (root, kernel)
}

fn write(root: &Path, path: &str, content: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

#[test]
fn livepatches_and_leftovers() {
    let (_root, kernel) = host();
    let livepatches = kernel.livepatches().unwrap();
    assert_eq!(livepatches.len(), 1);
    let a = &livepatches[0];
    assert!(a.standing.is_effective() && a.functions_reliable);
    assert_eq!((a.replace, a.stack_order, a.function_count()), (Some(false), None, 2));
    assert_eq!(a.objects[0].functions[0].position, 2);
    assert_eq!(a.refcount, Seen::Known(1));
    let leftovers = kernel.leftovers().unwrap();
    assert_eq!(leftovers.iter().map(|m| m.name.as_str()).collect::<Vec<_>>(), ["b"]);
    assert_eq!(kernel.module("ext4").unwrap().unwrap().state, ModuleState::Loading);
    assert!(kernel.module("xfs").unwrap().is_none());
}

#[test]
fn a_write_never_makes_a_file() {
    let (root, kernel) = host();
    kernel.set_enabled("a", false).unwrap();
    let standing = kernel.standing("a").unwrap();
    assert_eq!(
        standing,
        Some(Standing {
            enabled: false,
            transition: false
        })
    );
    let directory = root.path().join("sys/kernel/livepatch");
    fs::create_dir(directory.join("c")).unwrap();
    for name in ["c", "d", "", ".", "..", "../livepatch/a", "a/../a"] {
        assert_eq!(
            kernel.set_enabled(name, true).unwrap_err().errno,
            Errno::ENOENT,
            "{name}"
        );
    }
    assert!(!directory.join("c/enabled").exists());
    assert_eq!(kernel.standing("a").unwrap(), standing);
}

#[test]
fn settings_and_identity() {
    let (root, kernel) = host();
    let policy = kernel.policy();
    assert_eq!(policy.lockdown, Seen::Known(Lockdown::Integrity));
    assert!(policy.signature_enforced.is(&false) && policy.ftrace_enabled.is(&true));
    assert!(policy.replace_set.is(&false) && policy.loadpin_enforced.is(&false));
    assert_eq!(kernel.taints().unwrap().to_string(), "OEK");
    assert_eq!(kernel.boot_id().unwrap().0.len(), 36);
    fs::remove_dir_all(root.path().join("sys/kernel/security")).unwrap();
    fs::write(root.path().join("proc/sys/kernel/ftrace_enabled"), "maybe").unwrap();
    let policy = kernel.policy();
    assert!(policy.lockdown.known().is_none() && policy.ftrace_enabled.known().is_none());
}

#[test]
fn replace_sets_are_seen_before_the_first_load() {
    let (root, kernel) = host();
    write(
        root.path(),
        "proc/kallsyms",
        "0 T klp_enable_patch\n0 t replace_set_show\n",
    );
    assert!(kernel.policy().replace_set.is(&true));
    let (root, kernel) = host();
    fs::remove_file(root.path().join("proc/kallsyms")).unwrap();
    assert!(kernel.policy().replace_set.known().is_none());
}

#[test]
fn tasks_that_have_not_switched() {
    let (root, kernel) = host();
    let found = kernel.stragglers(true, 5).into_known().unwrap();
    assert_eq!((found.seen, found.listed.len(), found.complete), (1, 1, true));
    let task = &found.listed[0];
    assert_eq!((task.pid, task.tid, task.pod_uid.as_deref()), (77, 77, Some(UID)));
    assert_eq!(task.comm, "evil\u{fffd}[2J");
    assert!(kernel.straggles(task, true).is(&true));
    assert_eq!(kernel.stragglers(true, 0).into_known().unwrap().listed, []);
    write(root.path(), "proc/77/task/77/patch_state", "1\n");
    assert!(kernel.straggles(task, true).is(&false));
    fs::remove_dir_all(root.path().join("proc/77")).unwrap();
    assert!(kernel.straggles(task, true).is(&false));
}

#[test]
fn a_procfs_of_a_container_shows_no_tasks_of_the_host() {
    let (root, kernel) = host();
    write(root.path(), "proc/2/comm", "nginx\n");
    assert!(kernel.stragglers(true, 5).known().is_none());
}

#[test]
fn functions_are_not_reliable_in_transition() {
    let (root, kernel) = host();
    write(root.path(), "sys/kernel/livepatch/a/transition", "1\n");
    assert!(!kernel.livepatches().unwrap()[0].functions_reliable);
    assert_eq!(kernel.in_transition().unwrap().as_deref(), Some("a"));
}

#[test]
fn what_makes_no_sense_is_an_error_and_not_a_state() {
    let (root, kernel) = host();
    write(root.path(), "sys/kernel/livepatch/a/enabled", "perhaps\n");
    assert!(matches!(kernel.standing("a"), Err(KernelError::Malformed { .. })));
    write(root.path(), "proc/modules", "a b\n");
    assert!(matches!(kernel.leftovers(), Err(KernelError::Malformed { .. })));
}

#[test]
fn an_ordinary_folder_is_not_taken_for_sysfs() {
    let root = TempDir::new().unwrap();
    let host = Host {
        livepatch: root.path().to_owned(),
        ..Host::native()
    };
    assert!(matches!(LinuxKernel::open(host), Err(KernelError::NotSysfs { .. })));
    let host = Host {
        livepatch: root.path().join("none"),
        ..Host::native()
    };
    assert!(matches!(LinuxKernel::open(host), Err(KernelError::NotSysfs { .. })));
}

#[test]
fn a_livepatch_directory_that_is_gone_is_an_error() {
    let (root, kernel) = host();
    fs::remove_dir_all(root.path().join("sys/kernel/livepatch")).unwrap();
    assert!(
        kernel.livepatches().is_err(),
        "must not look like a host without livepatches"
    );
    assert!(kernel.in_transition().is_err());
}
