//! `/proc`: boot id, taints, settings, modules and the patch state of tasks. Reads files.

use std::fs;
use std::path::Path;

use nix::errno::Errno;

use super::files::{malformed, read_bytes, read_flag, read_number, read_text};
use crate::blockers::{Straggler, Stragglers, pod_uid};
use crate::error::KernelError;
use crate::identity::BootId;
use crate::seen::Seen;
use crate::state::ModuleState;
use crate::taints::Taints;

/// Most tasks looked at in one scan.
const MAX_TASKS: usize = 1 << 17;

/// Most stack frames kept of one task.
const MAX_FRAMES: usize = 16;

/// The name of the kernel thread with pid 2 on every Linux host: seeing it proves that a procfs shows the host's tasks.
const KTHREADD: &str = "kthreadd";

/// A line of `/proc/modules`.
#[derive(Debug)]
pub(super) struct ListedModule {
    pub(super) name: String,
    pub(super) refcount: u32,
    pub(super) state: ModuleState,
}

pub(super) fn boot_id(proc: &Path) -> Result<BootId, KernelError> {
    let path = proc.join("sys/kernel/random/boot_id");
    match read_text(&path)? {
        Some(text) if text.len() == 36 => Ok(BootId(text)),
        Some(text) => Err(malformed(&path, &text)),
        None => Err(missing(&path)),
    }
}

pub(super) fn taints(proc: &Path) -> Result<Taints, KernelError> {
    let path = proc.join("sys/kernel/tainted");
    read_number(&path)?.map(Taints).ok_or_else(|| missing(&path))
}

fn missing(path: &Path) -> KernelError {
    KernelError::Read {
        path: path.to_owned(),
        source: std::io::ErrorKind::NotFound.into(),
    }
}

/// A setting that is 0 or 1.
pub(super) fn sysctl_flag(proc: &Path, name: &str) -> Seen<bool> {
    match read_flag(&proc.join("sys").join(name)) {
        Ok(Some(flag)) => Seen::Known(flag),
        Ok(None) => Seen::unknown(format!("no {name} among the settings")),
        Err(error) => Seen::unknown(error.to_string()),
    }
}

/// Whether ftrace is on. The setting is there and cannot be read (`ENODEV`) once ftrace has found a fault and has switched
/// itself off for the rest of the boot (`ftrace_kill()` and `ftrace_enable_sysctl()`, kernel/trace/ftrace.c, 6.1-7.2).
pub(super) fn ftrace_enabled(proc: &Path) -> Seen<bool> {
    const NAME: &str = "kernel/ftrace_enabled";
    let read = fs::read(proc.join("sys").join(NAME));
    if read.is_err_and(|error| error.raw_os_error() == Some(Errno::ENODEV as i32)) {
        return Seen::Known(false);
    }
    sysctl_flag(proc, NAME)
}

/// Whether `LoadPin` enforces; a kernel without it has no such setting.
pub(super) fn loadpin_enforced(proc: &Path) -> Seen<bool> {
    if proc.join("sys/kernel/modules_disabled").exists() && !proc.join("sys/kernel/loadpin").exists() {
        return Seen::Known(false);
    }
    sysctl_flag(proc, "kernel/loadpin/enforce")
}

/// Loaded modules.
pub(super) fn modules(proc: &Path) -> Result<Vec<ListedModule>, KernelError> {
    let path = proc.join("modules");
    let bytes = read_bytes(&path, 4 << 20)?.ok_or_else(|| missing(&path))?;
    String::from_utf8_lossy(&bytes)
        .lines()
        .map(|line| module_line(line).ok_or_else(|| malformed(&path, line)))
        .collect()
}

/// `name size refcount users state address [taints]`; the reference count is `-` in a kernel without unloading.
fn module_line(line: &str) -> Option<ListedModule> {
    let mut fields = line.split(' ');
    let name = fields.next()?.to_owned();
    let refcount = match fields.nth(1)? {
        "-" => 1,
        count => count.parse().ok()?,
    };
    let state = match fields.nth(1)? {
        "Live" => ModuleState::Live,
        "Loading" => ModuleState::Loading,
        "Unloading" => ModuleState::Unloading,
        _ => return None,
    };
    Some(ListedModule { name, refcount, state })
}

/// Tasks whose patch state is not the target. `-1` means that no transition runs.
pub(super) fn stragglers(proc: &Path, target: bool, limit: usize) -> Seen<Stragglers> {
    match read_text(&proc.join("2/comm")) {
        Ok(Some(comm)) if comm == KTHREADD => {}
        _ => return Seen::unknown("this procfs does not show the host's tasks"),
    }
    let processes = match fs::read_dir(proc) {
        Ok(processes) => processes,
        Err(error) => return Seen::unknown(format!("cannot list tasks: {error}")),
    };
    let target = if target { "1" } else { "0" };
    let mut found = Stragglers {
        complete: true,
        ..Stragglers::default()
    };
    let mut tasks = 0;
    for pid in processes.filter_map(|entry| number(&entry.ok()?.file_name())) {
        let process = proc.join(pid.to_string()).join("task");
        // A process that has ended in the meantime is no straggler.
        let Ok(threads) = fs::read_dir(&process) else { continue };
        for tid in threads.filter_map(|entry| number(&entry.ok()?.file_name())) {
            tasks += 1;
            if tasks > MAX_TASKS {
                found.complete = false;
                return Seen::Known(found);
            }
            let task = process.join(tid.to_string());
            match read_text(&task.join("patch_state")) {
                Ok(Some(state)) if state == "-1" || state == target => {}
                Ok(Some(_)) => {
                    found.seen += 1;
                    if found.listed.len() < limit {
                        found.listed.push(straggler(&task, pid, tid));
                    }
                }
                Ok(None) => {}
                Err(_) => {
                    found.unreadable += 1;
                    found.complete = false;
                }
            }
        }
    }
    if tasks > 0 && found.unreadable == tasks {
        return Seen::unknown("not permitted to read the patch state of tasks");
    }
    Seen::Known(found)
}

/// Whether one task still has another patch state than the target.
pub(super) fn straggles(proc: &Path, task: &Straggler, target: bool) -> Seen<bool> {
    let path = proc
        .join(task.pid.to_string())
        .join("task")
        .join(task.tid.to_string())
        .join("patch_state");
    match read_text(&path) {
        Ok(Some(state)) => Seen::Known(state == if target { "0" } else { "1" }),
        Ok(None) => Seen::Known(false),
        Err(error) => Seen::unknown(error.to_string()),
    }
}

fn straggler(task: &Path, pid: u32, tid: u32) -> Straggler {
    let text = |name: &str| read_text(&task.join(name)).ok().flatten().unwrap_or_default();
    Straggler {
        pid,
        tid,
        comm: text("comm")
            .chars()
            .take(64)
            .map(|c| if c.is_control() { '\u{fffd}' } else { c })
            .collect(),
        pod_uid: pod_uid(&text("cgroup")),
        stack: match read_text(&task.join("stack")) {
            Ok(Some(stack)) if !stack.is_empty() => Seen::Known(stack.lines().take(MAX_FRAMES).map(frame).collect()),
            _ => Seen::unknown("stack not permitted"),
        },
    }
}

/// `[<0>] busymod_work_func+0x10/0x20 [busymod]` without the address.
fn frame(line: &str) -> String {
    line.split_once("] ")
        .map_or(line, |(_, frame)| frame)
        .chars()
        .take(128)
        .collect()
}

fn number(name: &std::ffi::OsStr) -> Option<u32> {
    name.to_str()?.parse().ok()
}
