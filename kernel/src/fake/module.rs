//! Modules and tasks of the fake kernel. No IO.

use livepatch_module::Inspection;
use nix::errno::Errno;

use crate::clock::BootTime;
use crate::identity::BuildId;
use crate::state::{Function, PatchedObject};

/// What the fake kernel finds in an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FakeModule {
    /// Module name in kernel spelling.
    pub name: String,
    /// Its build id.
    pub build_id: Option<BuildId>,
    /// Whether the kernel finds its vermagic right. A kernel with symbol versions (all of Debian's) leaves out the
    /// release when it compares, so a module of another release with the same flags fits.
    pub vermagic_fits: bool,
    /// The replace flag the kernel finds when it enables the livepatch.
    pub replace: bool,
    /// Patched objects with their functions.
    pub objects: Vec<PatchedObject>,
    /// `klp_state` ids and versions.
    pub states: Vec<(u64, u32)>,
    /// A function that the kernel does not have.
    pub missing_symbol: Option<String>,
    /// What its pre-patch callback returns, if it refuses.
    pub pre_patch: Option<Errno>,
}

impl FakeModule {
    /// A livepatch of functions of vmlinux without the replace flag.
    pub fn new(name: &str, functions: &[&str]) -> Self {
        let functions = functions
            .iter()
            .map(|f| Function {
                name: (*f).to_owned(),
                position: 1,
            })
            .collect();
        Self {
            name: name.to_owned(),
            build_id: BuildId::from_bytes(&digest(name)).ok(),
            vermagic_fits: true,
            replace: false,
            objects: vec![PatchedObject {
                name: "vmlinux".to_owned(),
                patched: Some(true),
                functions,
            }],
            states: Vec::new(),
            missing_symbol: None,
            pre_patch: None,
        }
    }

    /// The same livepatch with the replace flag.
    #[must_use]
    pub fn replacing(mut self) -> Self {
        self.replace = true;
        self
    }

    /// The livepatch that an inspection describes. `replace` is what the flag will be, since a file may not prove it.
    pub fn of(inspection: &Inspection, replace: bool) -> Self {
        let objects = inspection.objects.iter().map(|object| PatchedObject {
            name: object.name.clone(),
            patched: Some(object.name == livepatch_module::VMLINUX),
            functions: object
                .functions
                .iter()
                .map(|f| Function {
                    name: f.name.clone(),
                    position: f.position,
                })
                .collect(),
        });
        Self {
            name: inspection.name.clone(),
            build_id: inspection.build_id.clone().and_then(|id| BuildId::try_from(id).ok()),
            vermagic_fits: true,
            replace,
            objects: objects.collect(),
            states: inspection
                .states
                .iter()
                .map(|state| (state.id, state.version))
                .collect(),
            missing_symbol: None,
            pre_patch: None,
        }
    }

    pub(super) fn functions(&self) -> impl Iterator<Item = (&str, &Function)> {
        self.objects
            .iter()
            .flat_map(|object| object.functions.iter().map(|f| (object.name.as_str(), f)))
    }

    pub(super) fn has_function(&self, name: &str) -> bool {
        self.functions().any(|(_, function)| function.name == name)
    }
}

/// Twenty bytes that differ from name to name (FNV-1a; only uniqueness among test modules matters).
fn digest(name: &str) -> [u8; 20] {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut out = [0; 20];
    for (i, slot) in out.iter_mut().enumerate() {
        for byte in name.bytes().chain([u8::try_from(i).unwrap_or(0)]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        *slot = hash.to_be_bytes()[0];
    }
    out
}

/// A task that sleeps in a function and so cannot switch while a transition touches that function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FakeTask {
    /// Process id, also its only thread's.
    pub pid: u32,
    /// Task name.
    pub comm: String,
    /// Uid of its pod.
    pub pod_uid: Option<String>,
    /// The function it sleeps in.
    pub sleeps_in: String,
    /// When it wakes up; `None` is never.
    pub until: Option<BootTime>,
}
