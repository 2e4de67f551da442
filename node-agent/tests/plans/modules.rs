//! The livepatches of these nodes.

use livepatch_crds::LivepatchType;
use livepatch_crds::node::{DesiredState, Grant, ModuleReference, SetReference};
use livepatch_crds::policy::GrantPolicy;
use livepatch_kernel::FakeModule;
use livepatch_module::{
    Architecture, Callback, Format, Function, Inspection, Object, Replace, ReplaceValue, State, VMLINUX,
};

/// Build id of the kernel in memory.
pub const KERNEL: &str = "fafafafafafafafafafafafafafafafafafafafa";

/// The sets: one cumulative, three off-band.
pub const SETS: [&str; 4] = ["cumulative", "off-a", "off-b", "off-c"];

/// A module as it is built.
#[derive(Debug, Clone, Copy)]
pub struct Built {
    pub set: usize,
    pub name: &'static str,
    pub functions: &'static [&'static str],
    pub replace: bool,
    pub state: Option<(u64, u32)>,
    pub callbacks: bool,
    /// What the kernel makes of it.
    pub missing_symbol: bool,
}

const fn built(set: usize, name: &'static str, functions: &'static [&'static str]) -> Built {
    Built {
        set,
        name,
        functions,
        replace: false,
        state: None,
        callbacks: false,
        missing_symbol: false,
    }
}

const fn replacing(built: Built) -> Built {
    Built { replace: true, ..built }
}

/// All of them.
pub const BUILT: [Built; 15] = [
    replacing(built(0, "cum_1", &["f"])),
    replacing(built(0, "cum_2", &["f", "g"])),
    replacing(built(0, "cum_3", &["f", "a"])),
    Built {
        missing_symbol: true,
        ..replacing(built(0, "cum_broken", &["f"]))
    },
    built(0, "stack_1", &["f"]),
    built(0, "stack_2", &["f", "h"]),
    built(1, "a_1", &["a"]),
    built(1, "a_2", &["a", "a2"]),
    built(1, "a_drops", &["a2"]),
    Built {
        state: Some((7, 1)),
        ..built(2, "b_1", &["b"])
    },
    Built {
        callbacks: true,
        ..built(2, "b_2", &["b"])
    },
    built(2, "b_clash", &["b", "a"]),
    built(3, "c_1", &["c"]),
    built(3, "c_2", &["c", "c2"]),
    Built {
        missing_symbol: true,
        ..built(3, "c_broken", &["c"])
    },
];

impl Built {
    pub fn index(&self) -> usize {
        BUILT.iter().position(|built| built.name == self.name).unwrap()
    }

    pub fn sha256(&self) -> String {
        format!("{:064x}", self.index() + 1)
    }

    pub fn fake(&self) -> FakeModule {
        let mut module = FakeModule::new(self.name, self.functions);
        module.replace = self.replace;
        module.states = self.state.into_iter().collect();
        module.missing_symbol = self.missing_symbol.then(|| "nope".to_owned());
        module
    }

    pub fn inspection(&self) -> Inspection {
        let functions = self.functions.iter().map(|name| Function {
            name: (*name).to_owned(),
            position: 1,
        });
        Inspection {
            name: self.name.to_owned(),
            format: Format::Static,
            kernel_release: "6.12.0-fake".to_owned(),
            vermagic: "6.12.0-fake SMP ".to_owned(),
            architecture: Architecture::Amd64,
            build_id: self.fake().build_id.map(|id| id.to_string()),
            sha256: self.sha256(),
            size: 1,
            replace: Replace {
                value: if self.replace {
                    ReplaceValue::True
                } else {
                    ReplaceValue::False
                },
                evidence: "made up".to_owned(),
            },
            objects: vec![Object {
                name: VMLINUX.to_owned(),
                functions: functions.collect(),
                callbacks: if self.callbacks {
                    vec![Callback::PostUnpatch]
                } else {
                    Vec::new()
                },
            }],
            states: self
                .state
                .iter()
                .map(|(id, version)| State {
                    id: *id,
                    version: *version,
                })
                .collect(),
            shadow_variables: false,
            depends: Vec::new(),
            signature: None,
            license: Some("GPL".to_owned()),
        }
    }

    pub fn grant(&self, rollout: u32, attempt: i32, state: DesiredState, policy: GrantPolicy) -> Grant {
        let set = SETS[self.set];
        Grant {
            set: SetReference {
                name: set.to_owned(),
                uid: format!("uid-of-{set}"),
            },
            rollout: format!("{set}-{rollout}"),
            wave: "rest".to_owned(),
            epoch: "lease/1".to_owned(),
            attempt,
            state,
            livepatch_type: if self.set == 0 {
                LivepatchType::Cumulative
            } else {
                LivepatchType::OffBand
            },
            module: ModuleReference {
                name: self.name.to_owned(),
                repository: "registry.example.com/fix".to_owned(),
                digest: format!("sha256:{}", self.sha256()),
                sha256: self.sha256(),
                build_id: self.inspection().build_id.unwrap(),
                kernel_build_id: KERNEL.to_owned(),
            },
            previous: None,
            policy,
            boot_id: String::new(),
            kernel_taints: String::new(),
            transition_timeout_seconds: 60,
            start: 1,
            failed: None,
            back: false,
        }
    }
}
