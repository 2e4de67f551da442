//! What the kernel's symbol table and its tracers say about functions. No IO.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// How many symbols of a name an object has, for those that were asked about.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SymbolCounts {
    /// By name, then object: the table is gone through by name, which nearly always is not one of those asked about.
    counts: BTreeMap<String, BTreeMap<String, u64>>,
}

impl SymbolCounts {
    /// Counts of these functions, given by object and name; all zero yet.
    pub fn of(wanted: &[(&str, &str)]) -> Self {
        let mut asked = Self::default();
        for (object, name) in wanted {
            asked
                .counts
                .entry((*name).to_owned())
                .or_default()
                .insert((*object).to_owned(), 0);
        }
        asked
    }

    /// How often the object (`vmlinux` or a loaded module) has a symbol of that name.
    pub fn count(&self, object: &str, name: &str) -> u64 {
        self.counts
            .get(name)
            .and_then(|objects| objects.get(object))
            .copied()
            .unwrap_or(0)
    }

    /// Counts one symbol, if it was asked about.
    pub fn add(&mut self, object: &str, name: &str) {
        if let Some(count) = self.counts.get_mut(name).and_then(|objects| objects.get_mut(object)) {
            *count += 1;
        }
    }

    /// Counts one line of `/proc/kallsyms`.
    ///
    /// `0000000000000000 t version_proc_show`, and a tab and `[module]` at the end for a module's.
    pub fn read_line(&mut self, line: &str) {
        let mut fields = line.trim_end().splitn(3, ' ').skip(2);
        let Some(symbol) = fields.next() else { return };
        match symbol.split_once('\t') {
            None => self.add("vmlinux", symbol),
            Some((name, module)) => self.add(module.trim_matches(['[', ']']), name),
        }
    }
}

/// A function that something is attached to, as tracefs lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TracedFunction {
    /// Its name.
    pub name: String,
    /// Somebody may redirect it: a livepatch, or a kprobe with a post handler. Only one may at a time.
    pub redirects: bool,
    /// Somebody has attached directly: BPF.
    pub direct: bool,
}

/// A line of `enabled_functions` (kernel/trace/ftrace.c, 6.1-7.2): `name (count) R I D M tramp: ...`.
pub fn traced_function(line: &str) -> Option<TracedFunction> {
    let (name, rest) = line.split_once(" (")?;
    let (_, rest) = rest.split_once(')')?;
    let flags: Vec<&str> = rest
        .split_ascii_whitespace()
        .take_while(|field| field.len() == 1)
        .collect();
    Some(TracedFunction {
        name: name.split_ascii_whitespace().next()?.to_owned(),
        redirects: flags.contains(&"I"),
        direct: flags.contains(&"D"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbols_are_counted_by_object() {
        let wanted = [("vmlinux", "name_show"), ("xfs", "xfs_open"), ("vmlinux", "gone")];
        let mut counts = SymbolCounts::of(&wanted);
        for line in [
            "ffffffff81000000 t name_show",
            "0000000000000000 T name_show",
            "0000000000000000 t name_show\t[xfs]",
            "0000000000000000 t xfs_open\t[xfs]",
            "0000000000000000 t other",
            "",
        ] {
            counts.read_line(line);
        }
        assert_eq!(counts.count("vmlinux", "name_show"), 2);
        assert_eq!(counts.count("xfs", "xfs_open"), 1);
        assert_eq!(counts.count("vmlinux", "gone"), 0);
        assert_eq!(counts.count("vmlinux", "other"), 0);
    }

    #[test]
    fn flags_of_a_traced_function() {
        let line = "version_proc_show (1) R I     \ttramp: 0xffffffffc0a3a000 (klp_ftrace_handler+0x0/0x200)";
        let function = traced_function(line).unwrap();
        assert_eq!(function.name, "version_proc_show");
        assert!(function.redirects && !function.direct);
        assert!(
            traced_function("schedule (2)     D \tdirect(jmp)-->bpf_trampoline")
                .unwrap()
                .direct
        );
        assert_eq!(traced_function("no count"), None);
    }
}
