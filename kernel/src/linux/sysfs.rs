//! `/sys/kernel/livepatch`, `/sys/module` and the notes of the kernel. Reads files, and writes `enabled`.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;

use nix::errno::Errno;

use super::files::{is_gone, malformed, read_bytes, read_flag, read_number, read_text};
use super::procfs::ListedModule;
use crate::error::{Call, CallError, KernelError};
use crate::host::Host;
use crate::identity::BuildId;
use crate::notes::gnu_build_id;
use crate::policy::Lockdown;
use crate::seen::Seen;
use crate::state::{Function, Livepatch, LoadedModule, PatchedObject, Standing};

/// Most livepatches, objects of one and functions of one object that are read: sysfs is the kernel's, but its content
/// is a module's.
const MAX_ENTRIES: usize = 4096;

/// Names of the livepatches that have an entry.
pub(super) fn entries(livepatch: &Path) -> Result<Vec<String>, KernelError> {
    listing(livepatch).map_err(|source| KernelError::Read {
        path: livepatch.to_owned(),
        source,
    })
}

/// All livepatches with everything sysfs says about them.
pub(super) fn livepatches(host: &Host) -> Result<Vec<Livepatch>, KernelError> {
    let mut found = Vec::new();
    for name in entries(&host.livepatch)? {
        if let Some(livepatch) = livepatch(host, &name)? {
            found.push(livepatch);
        }
    }
    found.sort_by(|a, b| (a.stack_order, &a.name).cmp(&(b.stack_order, &b.name)));
    Ok(found)
}

fn livepatch(host: &Host, name: &str) -> Result<Option<Livepatch>, KernelError> {
    let Some(standing) = standing(&host.livepatch, name)? else {
        return Ok(None);
    };
    let directory = host.livepatch.join(name);
    let mut objects = Vec::new();
    for object in subdirectories(&directory)? {
        let path = directory.join(&object);
        let patched = read_flag(&path.join("patched"))?;
        let mut functions: Vec<Function> = subdirectories(&path)?
            .iter()
            .filter_map(|text| function(text))
            .collect();
        functions.sort();
        objects.push(PatchedObject {
            name: object,
            patched,
            functions,
        });
    }
    objects.sort_by(|a, b| a.name.cmp(&b.name));
    let replace = read_flag(&directory.join("replace"))?;
    let stack_order = read_number(&directory.join("stack_order"))?;
    // Read again: a transition that ended or began while the functions were listed makes the list a mixture.
    let Some(after) = self::standing(&host.livepatch, name)? else {
        return Ok(None);
    };
    let module = host.sys.join("module").join(name);
    Ok(Some(Livepatch {
        name: name.to_owned(),
        standing: after,
        replace,
        stack_order,
        objects,
        functions_reliable: !standing.transition && !after.transition,
        build_id: module_build_id(&module),
        refcount: match read_number(&module.join("refcnt")) {
            Ok(Some(count)) => Seen::Known(count),
            Ok(None) => Seen::unknown("no refcnt in /sys/module"),
            Err(error) => Seen::unknown(error.to_string()),
        },
    }))
}

/// `enabled` and `transition`. The transition is read first: one that ends in between is reported as still running.
pub(super) fn standing(livepatch: &Path, name: &str) -> Result<Option<Standing>, KernelError> {
    let directory = livepatch.join(name);
    let Some(transition) = read_flag(&directory.join("transition"))? else {
        return Ok(None);
    };
    let Some(enabled) = read_flag(&directory.join("enabled"))? else {
        return Ok(None);
    };
    Ok(Some(Standing { enabled, transition }))
}

/// The livepatch in transition.
pub(super) fn in_transition(livepatch: &Path) -> Result<Option<String>, KernelError> {
    for name in entries(livepatch)? {
        if read_flag(&livepatch.join(&name).join("transition"))? == Some(true) {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

/// Writes `enabled`. Never creates a file: a name that is not there is an error, whatever the path.
pub(super) fn write_enabled(livepatch: &Path, name: &str, enabled: bool) -> Result<(), CallError> {
    let failed = |errno| CallError::new(Call::WriteEnabled, name, errno);
    if !is_entry_name(name) {
        return Err(failed(Errno::ENOENT));
    }
    let path = livepatch.join(name).join("enabled");
    let written = OpenOptions::new()
        .write(true)
        .create(false)
        .truncate(false)
        .open(path)
        .and_then(|mut file| file.write_all(if enabled { b"1" } else { b"0" }));
    written.map_err(|error| failed(error.raw_os_error().map_or(Errno::UnknownErrno, Errno::from_raw)))
}

/// The build id of vmlinux.
pub(super) fn kernel_build_id(sys: &Path) -> Result<Option<BuildId>, KernelError> {
    let notes = read_bytes(&sys.join("kernel/notes"), 64 * 1024)?;
    Ok(notes.as_deref().and_then(gnu_build_id))
}

/// Adds to a line of `/proc/modules` what `/sys/module` knows.
pub(super) fn loaded_module(sys: &Path, listed: ListedModule) -> LoadedModule {
    let directory = sys.join("module").join(&listed.name);
    LoadedModule {
        livepatch: match read_text(&directory.join("taint")) {
            Ok(Some(taint)) => Seen::Known(taint.contains('K')),
            Ok(None) => Seen::unknown("no taint in /sys/module"),
            Err(error) => Seen::unknown(error.to_string()),
        },
        build_id: module_build_id(&directory),
        name: listed.name,
        state: listed.state,
        refcount: listed.refcount,
    }
}

fn module_build_id(module: &Path) -> Seen<Option<BuildId>> {
    match read_bytes(&module.join("notes/.note.gnu.build-id"), 4096) {
        Ok(Some(notes)) => Seen::Known(gnu_build_id(&notes)),
        // A module without notes has no such directory, a host that hides /sys/module has no module directory either.
        Ok(None) if module.is_dir() => Seen::Known(None),
        Ok(None) => Seen::unknown("module not in /sys/module"),
        Err(error) => Seen::unknown(error.to_string()),
    }
}

/// `module.sig_enforce`; absent in a kernel without module signatures.
pub(super) fn signature_enforced(sys: &Path) -> Seen<bool> {
    match read_flag(&sys.join("module/module/parameters/sig_enforce")) {
        Ok(Some(flag)) => Seen::Known(flag),
        Ok(None) if sys.join("module").is_dir() => Seen::Known(false),
        Ok(None) => Seen::unknown("no /sys/module"),
        Err(error) => Seen::unknown(error.to_string()),
    }
}

/// `[integrity]` among `none integrity confidentiality`.
pub(super) fn lockdown(sys: &Path) -> Seen<Lockdown> {
    let path = sys.join("kernel/security/lockdown");
    match read_text(&path) {
        Ok(Some(text)) if text.contains("[none]") => Seen::Known(Lockdown::None),
        Ok(Some(text)) if text.contains("[integrity]") => Seen::Known(Lockdown::Integrity),
        Ok(Some(text)) if text.contains("[confidentiality]") => Seen::Known(Lockdown::Confidentiality),
        Ok(Some(text)) => Seen::unknown(malformed(&path, &text).to_string()),
        Ok(None) => Seen::unknown("securityfs is not visible"),
        Err(error) => Seen::unknown(error.to_string()),
    }
}

/// `name,position`; a name may hold a comma in principle, the position never does.
fn function(text: &str) -> Option<Function> {
    let (name, position) = text.rsplit_once(',')?;
    Some(Function {
        name: name.to_owned(),
        position: position.parse::<u64>().ok()?.max(1),
    })
}

/// Whether a livepatch may be called that: one path component and no way out of the directory.
fn is_entry_name(name: &str) -> bool {
    !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\0'])
}

/// Directories in one of a livepatch's; none if it was freed in the meantime.
fn subdirectories(path: &Path) -> Result<Vec<String>, KernelError> {
    match listing(path) {
        Err(error) if is_gone(&error) => Ok(Vec::new()),
        result => result.map_err(|source| KernelError::Read {
            path: path.to_owned(),
            source,
        }),
    }
}

fn listing(path: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(path)?.take(MAX_ENTRIES) {
        let entry = entry?;
        if entry.file_type()?.is_dir()
            && let Ok(name) = entry.file_name().into_string()
        {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}
