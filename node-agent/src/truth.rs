//! What the kernel says at one moment. Reads the kernel.

use std::collections::BTreeSet;

use livepatch_crds::node::KernelIdentity;
use livepatch_kernel::{
    BootId, BootTime, Identity, Kernel, KernelError, Livepatch, LoadedModule, ModuleState, Policy, Standing, Taints,
};
use livepatch_module::Architecture;

/// What the kernel says at one moment.
#[derive(Debug, Clone)]
pub struct Truth {
    /// Release, build and architecture.
    pub identity: Identity,
    /// This boot.
    pub boot: BootId,
    /// When this was read.
    pub now: BootTime,
    /// Taints of the kernel.
    pub taints: Taints,
    /// Settings that decide about loads.
    pub policy: Policy,
    /// The livepatches.
    pub livepatches: Vec<Livepatch>,
    /// Modules of livepatches that are no longer in use.
    pub leftovers: Vec<LoadedModule>,
    /// Those among them that have kept a reference for so long that it is there to stay, as after a forced transition.
    pub pinned: BTreeSet<String>,
    /// Those of the modules asked about that are neither loaded nor absent.
    pub coming_or_going: BTreeSet<String>,
}

impl Truth {
    /// Reads it. `names` are the modules whose loading may have been begun.
    pub fn read(kernel: &dyn Kernel, names: &BTreeSet<String>) -> Result<Self, KernelError> {
        let mut coming_or_going = BTreeSet::new();
        for name in names {
            if kernel
                .module(name)?
                .is_some_and(|module| module.state != ModuleState::Live)
            {
                coming_or_going.insert(name.clone());
            }
        }
        Ok(Self {
            identity: kernel.identity()?,
            boot: kernel.boot_id()?,
            now: kernel.now(),
            taints: kernel.taints()?,
            policy: kernel.policy(),
            livepatches: kernel.livepatches()?,
            leftovers: kernel.leftovers()?,
            pinned: BTreeSet::new(),
            coming_or_going,
        })
    }

    /// Build id of the kernel, hexadecimal; empty if it has none or it cannot be read.
    pub fn kernel_build_id(&self) -> &str {
        self.identity.build_id.as_ref().map_or("", |id| id.as_str())
    }

    /// The kernel as the status tells it.
    pub fn kernel(&self) -> KernelIdentity {
        KernelIdentity {
            release: self.identity.release.clone(),
            build_id: self.kernel_build_id().to_owned(),
            architecture: architecture(&self.identity.architecture),
        }
    }

    /// The livepatch of that name, if it has an entry.
    pub fn livepatch(&self, name: &str) -> Option<&Livepatch> {
        self.livepatches.iter().find(|livepatch| livepatch.name == name)
    }

    /// Where the livepatch of that name and build stands. A build that cannot be seen is not this one.
    pub fn standing(&self, name: &str, build_id: &str) -> Option<Standing> {
        self.livepatch(name)
            .filter(|livepatch| is_build(livepatch, build_id))
            .map(|livepatch| livepatch.standing)
    }

    /// The livepatch in transition: there is at most one.
    pub fn in_transition(&self) -> Option<&str> {
        self.livepatches
            .iter()
            .find(|livepatch| livepatch.standing.transition)
            .map(|livepatch| livepatch.name.as_str())
    }
}

/// Whether a livepatch is proven to be this build. A module without build id has nothing to prove it with.
pub fn is_build(livepatch: &Livepatch, build_id: &str) -> bool {
    livepatch
        .build_id
        .known()
        .and_then(Option::as_ref)
        .is_some_and(|id| id.as_str() == build_id)
}

/// The machine as OCI spells it; what is not known there stays as uname spells it.
pub fn architecture(uname: &str) -> String {
    [Architecture::Amd64, Architecture::Arm64]
        .into_iter()
        .find(|architecture| architecture.uname() == uname)
        .map_or_else(|| uname.to_owned(), |architecture| architecture.to_string())
}
