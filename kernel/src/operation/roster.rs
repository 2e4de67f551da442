//! Which livepatches were enabled before an operation, to be compared with what is enabled after it. Reads the kernel.

use serde::{Deserialize, Serialize};

use crate::error::KernelError;
use crate::identity::BuildId;
use crate::seam::Kernel;

/// The livepatches that were enabled and out of transition at one moment. Goes into a journal.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Roster(pub Vec<Enlisted>);

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Enlisted {
    /// Its name.
    pub name: String,
    /// Its build id, if it has one and it could be seen.
    pub build_id: Option<BuildId>,
}

impl Roster {
    /// Who is enabled now.
    pub fn take(kernel: &dyn Kernel) -> Result<Self, KernelError> {
        let livepatches = kernel.livepatches()?;
        Ok(Self(
            livepatches
                .into_iter()
                .filter(|livepatch| livepatch.standing.is_effective())
                .map(|livepatch| Enlisted {
                    name: livepatch.name,
                    build_id: livepatch.build_id.into_known().flatten(),
                })
                .collect(),
        ))
    }

    /// Those, except `besides`, that are not enabled any more.
    ///
    /// Right after a write to `enabled` the answer is exact: the kernel disables replaced livepatches under the lock
    /// that the write takes.
    pub fn missing(&self, kernel: &dyn Kernel, besides: &str) -> Result<Vec<String>, KernelError> {
        let mut missing = Vec::new();
        for enlisted in self.0.iter().filter(|enlisted| enlisted.name != besides) {
            let standing = kernel.standing(&enlisted.name)?;
            if !standing.is_some_and(|standing| standing.enabled) {
                missing.push(enlisted.name.clone());
            }
        }
        Ok(missing)
    }
}
