//! The switches with which a person on the node stops the agent. IO.

use std::io;
use std::path::{Path, PathBuf};

use crate::durable;

/// Name of the file in the configuration directory whose presence stops the agent.
pub const STOP_FILE: &str = "stop";

/// Word on the kernel command line that stops the agent.
pub const STOP_WORD: &str = "livepatch.stop=1";

/// Longest kernel command line that is read, in bytes; the kernels know at most 4096.
const MAX_COMMAND_LINE: u64 = 64 << 10;

/// Where the switches are.
#[derive(Debug, Clone)]
pub struct StopSwitches {
    /// Directory of the stop file, usually `/etc/livepatch`.
    pub config: PathBuf,
    /// procfs.
    pub proc: PathBuf,
}

impl StopSwitches {
    /// Why nothing may be changed on this node, if a person said so here. What cannot be read counts as said.
    pub fn read(&self) -> Option<String> {
        stop_file(&self.config.join(STOP_FILE)).or_else(|| command_line(&self.proc.join("cmdline")))
    }
}

fn stop_file(path: &Path) -> Option<String> {
    match std::fs::symlink_metadata(path) {
        Ok(_) => Some(format!("{} is there", path.display())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => Some(format!("cannot tell whether {} is there: {error}", path.display())),
    }
}

fn command_line(path: &Path) -> Option<String> {
    match durable::read_at_most(path, MAX_COMMAND_LINE) {
        Ok(Some(line)) => line
            .split(u8::is_ascii_whitespace)
            .any(|word| word == STOP_WORD.as_bytes())
            .then(|| format!("{STOP_WORD} is on the kernel command line")),
        Ok(None) => Some(format!("{} is too long to be a command line", path.display())),
        Err(error) => Some(format!("cannot read {}: {error}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_switch_stops_and_so_does_what_cannot_be_read() {
        let root = tempfile::tempdir().unwrap();
        let switches = StopSwitches {
            config: root.path().join("etc"),
            proc: root.path().join("proc"),
        };
        std::fs::create_dir_all(&switches.config).unwrap();
        assert!(switches.read().unwrap().starts_with("cannot read"));
        std::fs::create_dir_all(&switches.proc).unwrap();
        let line = switches.proc.join("cmdline");
        std::fs::write(&line, "root=/dev/vda livepatch.stop=10 xlivepatch.stop=1\n").unwrap();
        assert_eq!(switches.read(), None);
        std::fs::write(&line, "quiet livepatch.stop=1\n").unwrap();
        assert_eq!(
            switches.read().unwrap(),
            "livepatch.stop=1 is on the kernel command line"
        );
        std::fs::write(&line, "quiet\n").unwrap();
        std::fs::write(switches.config.join("stop"), "").unwrap();
        assert!(switches.read().unwrap().ends_with("stop is there"));
    }
}
