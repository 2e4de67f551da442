//! References on modules that are no longer in use. No IO.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use livepatch_kernel::BootTime;

use crate::truth::Truth;

/// How long the kernel may take to drop its reference on a livepatch that is no longer in use. It does so from a
/// workqueue, usually within milliseconds; kpatch waits as long.
pub const DROPPED: Duration = Duration::from_secs(15);

/// Since when modules that are no longer in use have been seen to be referenced.
#[derive(Debug, Default)]
pub struct References(BTreeMap<String, BootTime>);

impl References {
    /// Those that will not be dropped any more.
    pub fn pinned(&mut self, truth: &Truth) -> BTreeSet<String> {
        let held: BTreeSet<&str> = truth
            .leftovers
            .iter()
            .filter(|module| module.refcount > 0)
            .map(|module| module.name.as_str())
            .collect();
        self.0
            .retain(|name, since| held.contains(name.as_str()) && *since <= truth.now);
        for name in held {
            self.0.entry(name.to_owned()).or_insert(truth.now);
        }
        let stays = |since: &BootTime| truth.now.since(*since) >= DROPPED;
        self.0
            .iter()
            .filter(|(_, since)| stays(since))
            .map(|(name, _)| name.clone())
            .collect()
    }
}
