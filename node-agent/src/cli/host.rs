//! The host's kernel and the host's own files, seen from the host or from the agent's container. Reads files.

use std::path::{Path, PathBuf};

use livepatch_agent::durable;
use livepatch_kernel::{Host, KernelError, LinuxKernel};

/// Bit of `CAP_SYS_MODULE` (include/uapi/linux/capability.h).
const SYS_MODULE: u32 = 16;

/// Bit of `CAP_SYSLOG`.
const SYSLOG: u32 = 34;

/// What a user namespace that is not a container's has in `uid_map`: all ids, mapped to themselves.
const ALL_IDS: &str = "0 0 4294967295";

/// Where the kernel is seen: in the agent's container it is mounted below `/host`.
pub fn paths() -> Host {
    let container = Host::container();
    if container.livepatch.is_dir() && container.proc.is_dir() {
        container
    } else {
        Host::native()
    }
}

/// The running kernel.
pub fn kernel() -> Result<LinuxKernel, KernelError> {
    LinuxKernel::open(paths())
}

/// Rights of this process, as far as livepatching needs some.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rights {
    /// May load and unload modules (`CAP_SYS_MODULE` in the first user namespace).
    pub modules: bool,
    /// May read the kernel log (`CAP_SYSLOG`).
    pub log: bool,
    /// Runs as root, whatever that may.
    pub root: bool,
}

impl Rights {
    /// Reads them; `None` where this process's own procfs is missing.
    pub fn read() -> Option<Self> {
        Self::parse(
            &small(Path::new("/proc/self/status"))?,
            &small(Path::new("/proc/self/uid_map"))?,
        )
    }

    fn parse(status: &str, uid_map: &str) -> Option<Self> {
        let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
        let mask = u64::from_str_radix(line.trim(), 16).ok()?;
        let uids = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
        let first = uid_map.split_ascii_whitespace().eq(ALL_IDS.split(' '));
        let has = |bit: u32| mask & (1 << bit) != 0;
        Some(Self {
            modules: has(SYS_MODULE) && first,
            log: has(SYSLOG),
            root: uids.split_ascii_whitespace().nth(1) == Some("0"),
        })
    }
}

/// A small text file.
pub fn small(path: &Path) -> Option<String> {
    let bytes = durable::read_at_most(path, 1 << 20).ok().flatten()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// The process that holds a lock on a file, as `/proc/locks` and its name tell.
pub fn lock_holder(file: &Path, proc: &Path) -> Option<String> {
    use std::os::unix::fs::MetadataExt as _;
    let inode = std::fs::metadata(file).ok()?.ino().to_string();
    let locks = small(&proc.join("locks"))?;
    let pid = locks.lines().find_map(|line| flock_on(line, &inode))?;
    let comm = small(&proc.join(pid.to_string()).join("comm")).unwrap_or_default();
    Some(format!("pid {pid} ({})", comm.trim_end()))
}

/// `1: FLOCK  ADVISORY  WRITE 4242 08:01:131090 0 EOF`. The device is left out: some file systems tell another one
/// here than in `stat`.
fn flock_on(line: &str, inode: &str) -> Option<u32> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    match fields.as_slice() {
        [_, "FLOCK", _, "WRITE", pid, file, ..] if file.rsplit(':').next() == Some(inode) => pid.parse().ok(),
        _ => None,
    }
}

/// A path below the root of the host's file system; `None` in a container, which does not see it.
pub fn host_file(path: &str) -> Option<PathBuf> {
    (paths() == Host::native()).then(|| PathBuf::from(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_of_root_and_of_root_in_a_container() {
        let status = |mask: &str| format!("Name:\tx\nUid:\t1\t0\t0\t0\nCapEff:\t{mask}\nSeccomp:\t0\n");
        let first = "         0          0 4294967295\n";
        let all = Rights::parse(&status("000001ffffffffff"), first).unwrap();
        assert!(all.modules && all.log && all.root);
        let none = Rights::parse(&status("0000000000000000"), first).unwrap();
        assert!(!none.modules && !none.log);
        let nested = Rights::parse(&status("000001ffffffffff"), "0 100000 65536\n").unwrap();
        assert!(!nested.modules);
        assert_eq!(Rights::parse("", first), None);
    }

    #[test]
    fn the_holder_of_a_lock() {
        let line = "1: FLOCK  ADVISORY  WRITE 4242 08:01:131090 0 EOF";
        assert_eq!(flock_on(line, "131090"), Some(4242));
        assert_eq!(flock_on(line, "31090"), None);
        assert_eq!(
            flock_on("1: POSIX  ADVISORY  WRITE 4242 08:01:131090 0 EOF", "131090"),
            None
        );
    }
}
