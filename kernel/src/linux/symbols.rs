//! The kernel's symbols, its module files and its tracers. Reads files.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use crate::seen::Seen;
use crate::symbols::{SymbolCounts, TracedFunction, traced_function};

/// Most traced functions that are read: with the function tracer on, that is every function of the kernel.
const MAX_TRACED: usize = 1 << 17;

/// Whether the kernel has the `replace_set` attribute, told by the function that shows it: sysfs itself shows the
/// attribute only once a livepatch is loaded, which is too late to refuse the first. (The name follows the kernel's
/// macro for attributes, `<name>_show`; no released kernel up to 7.2 has it.)
pub(super) fn has_replace_set(proc: &Path) -> Seen<bool> {
    let wanted = [("vmlinux", "replace_set_show"), ("vmlinux", "klp_enable_patch")];
    match counts(proc, &wanted) {
        Seen::Unknown(why) => Seen::Unknown(why),
        Seen::Known(counts) if counts.count("vmlinux", "replace_set_show") > 0 => Seen::Known(true),
        Seen::Known(counts) if counts.count("vmlinux", "klp_enable_patch") > 0 => Seen::Known(false),
        Seen::Known(_) => Seen::unknown("the kernel's symbols do not show livepatching"),
    }
}

/// Counts symbols.
pub(super) fn counts(proc: &Path, wanted: &[(&str, &str)]) -> Seen<SymbolCounts> {
    let mut counts = SymbolCounts::of(wanted);
    match each_line(&proc.join("kallsyms"), |line| {
        counts.read_line(line);
        true
    }) {
        Ok(()) => Seen::Known(counts),
        Err(error) => Seen::unknown(format!("cannot read the kernel's symbols: {error}")),
    }
}

/// Modules that `modules.dep` or `modules.builtin` of a kernel list.
pub(super) fn module_files(directory: &Path, names: &[&str]) -> Seen<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    for list in ["modules.dep", "modules.builtin"] {
        let read = each_line(&directory.join(list), |line| {
            let path = line.split(':').next().unwrap_or_default();
            let file = path.rsplit('/').next().unwrap_or_default();
            let name = file.split(".ko").next().unwrap_or_default().replace('-', "_");
            if names.contains(&name.as_str()) {
                found.insert(name);
            }
            true
        });
        if let Err(error) = read {
            return Seen::unknown(format!("cannot read the list of this kernel's modules: {error}"));
        }
    }
    Seen::Known(found)
}

/// Functions that something is attached to.
pub(super) fn traced_functions(sys: &Path) -> Seen<Vec<TracedFunction>> {
    let mut traced = Vec::new();
    let read = each_line(&sys.join("kernel/tracing/enabled_functions"), |line| {
        traced.extend(traced_function(line));
        traced.len() < MAX_TRACED
    });
    match read {
        Ok(()) => Seen::Known(traced),
        Err(_) => Seen::unknown("tracefs is not visible"),
    }
}

fn each_line(path: &Path, mut take: impl FnMut(&str) -> bool) -> io::Result<()> {
    let mut reader = BufReader::with_capacity(1 << 16, File::open(path)?);
    let mut line = String::new();
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 || !take(&line) {
            return Ok(());
        }
    }
}
