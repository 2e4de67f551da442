//! Tasks that keep a transition from finishing. No IO.

use serde::{Deserialize, Serialize};

use crate::seen::Seen;

/// A task whose `patch_state` is not yet the target of the transition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Straggler {
    /// Process id on the host.
    pub pid: u32,
    /// Thread id on the host.
    pub tid: u32,
    /// Task name: untrusted text, at most 64 characters, control characters replaced.
    pub comm: String,
    /// Uid of the pod whose cgroup it is in, if it is in one.
    pub pod_uid: Option<String>,
    /// Kernel stack, topmost function first, at most 16 frames; needs more rights than the agent has by default.
    pub stack: Seen<Vec<String>>,
}

/// The stragglers of a transition at one moment.
///
/// None listed does not mean finished: the idle tasks of the CPUs count for the kernel and are not in procfs.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stragglers {
    /// How many were seen, also those beyond the limit of the list.
    pub seen: usize,
    /// The first of them, in the order of procfs.
    pub listed: Vec<Straggler>,
    /// Tasks whose state could not be read.
    pub unreadable: usize,
    /// False if tasks could not be read, or the scan stopped at its bound on their number.
    pub complete: bool,
}

/// The pod uid in a cgroup path, for the cgroupfs and the systemd driver and for static pods, whose uid is a hash.
///
/// `0::/kubepods/burstable/pod2c48913c-.../...`, `0::/kubepods.slice/kubepods-pod2c48913c_..._....slice/...`; seen from
/// inside a cgroup namespace the beginning is `/../..`.
pub fn pod_uid(cgroup: &str) -> Option<String> {
    cgroup.lines().flat_map(|line| line.split('/')).find_map(|segment| {
        let segment = segment.strip_suffix(".slice").unwrap_or(segment);
        let uid = match segment.rsplit_once("-pod") {
            Some((before, uid)) if before.starts_with("kubepods") => uid.replace('_', "-"),
            _ => segment.strip_prefix("pod")?.to_owned(),
        };
        is_uid(&uid).then_some(uid)
    })
}

fn is_uid(text: &str) -> bool {
    let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    match text.len() {
        32 => text.bytes().all(hex),
        36 => text.bytes().enumerate().all(|(i, b)| {
            if [8, 13, 18, 23].contains(&i) {
                b == b'-'
            } else {
                hex(b)
            }
        }),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UID: &str = "2c48913c-b29f-4c26-b8ff-2a0e3c2a1b6e";

    #[test]
    fn the_paths_of_both_drivers() {
        for path in [
            format!("0::/kubepods/besteffort/pod{UID}/0a1b2c"),
            format!("0::/kubepods/pod{UID}/0a1b2c\n"),
            format!("0::/../../pod{UID}/0a1b2c"),
            format!(
                "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{}.slice/cri-x.scope",
                UID.replace('-', "_")
            ),
            format!(
                "12:cpu:/system.slice\n0::/kubepods.slice/kubepods-pod{}.slice/cri",
                UID.replace('-', "_")
            ),
        ] {
            assert_eq!(pod_uid(&path).as_deref(), Some(UID), "{path}");
        }
    }

    #[test]
    fn a_static_pod_has_a_hash_for_its_uid() {
        let hash = "8dfe3a1c8dfe3a1c8dfe3a1c8dfe3a1c";
        assert_eq!(
            pod_uid(&format!("0::/kubepods/burstable/pod{hash}/x")).as_deref(),
            Some(hash)
        );
    }

    #[test]
    fn what_is_no_pod() {
        for path in [
            "",
            "0::/",
            "0::/system.slice/podman.service",
            "0::/podx/y",
            "0::/kubepods/pod",
            "0::/a-podb.slice",
        ] {
            assert_eq!(pod_uid(path), None, "{path}");
        }
    }
}
