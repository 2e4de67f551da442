//! What the checks are made against. Reads the kernel through the seam.

use std::collections::BTreeSet;

use livepatch_module::{Inspection, VMLINUX};

use crate::error::KernelError;
use crate::identity::Identity;
use crate::policy::Policy;
use crate::seam::Kernel;
use crate::seen::Seen;
use crate::state::{Livepatch, LoadedModule};
use crate::symbols::{SymbolCounts, TracedFunction};

/// The kernel at one moment, as far as it matters for loading one module.
#[derive(Debug, Clone)]
pub struct KernelState {
    /// Release, build and architecture.
    pub identity: Identity,
    /// Settings that decide about loads.
    pub policy: Policy,
    /// The livepatches.
    pub livepatches: Vec<Livepatch>,
    /// Modules of livepatches that are no longer in use.
    pub leftovers: Vec<LoadedModule>,
    /// Whether a module of the same name is loaded.
    pub same_name_loaded: bool,
    /// Which of the objects to patch, and of the modules it depends on, are loaded modules.
    pub loaded_objects: BTreeSet<String>,
    /// Which of the objects to patch this kernel has as files; unknown where `/lib/modules` is not visible.
    pub module_files: Seen<BTreeSet<String>>,
    /// How often this kernel has the functions to patch.
    pub symbols: Seen<SymbolCounts>,
    /// Functions that something is attached to.
    pub traced: Seen<Vec<TracedFunction>>,
}

impl KernelState {
    /// Reads it. One pass over the kernel's symbols: tens of milliseconds.
    pub fn read(kernel: &dyn Kernel, inspection: &Inspection) -> Result<Self, KernelError> {
        let objects: Vec<&str> = inspection.objects.iter().map(|object| object.name.as_str()).collect();
        let modules: Vec<&str> = objects.into_iter().filter(|name| *name != VMLINUX).collect();
        let mut loaded_objects = BTreeSet::new();
        for name in modules
            .iter()
            .copied()
            .chain(inspection.depends.iter().map(String::as_str))
        {
            if kernel.module(name)?.is_some() {
                loaded_objects.insert(name.to_owned());
            }
        }
        let wanted: Vec<(&str, &str)> = inspection.functions().map(|(o, f)| (o, f.name.as_str())).collect();
        Ok(Self {
            identity: kernel.identity()?,
            policy: kernel.policy(),
            livepatches: kernel.livepatches()?,
            leftovers: kernel.leftovers()?,
            same_name_loaded: kernel.module(&inspection.name)?.is_some(),
            loaded_objects,
            module_files: kernel.module_files(&modules),
            symbols: kernel.symbols(&wanted),
            traced: kernel.traced_functions(),
        })
    }
}
