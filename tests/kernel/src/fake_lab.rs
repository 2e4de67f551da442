//! The fake kernel as a lab, with models of the test modules. No IO.

use livepatch_kernel::{FakeKernel, FakeModule, FakeTask, Kernel, PatchedObject, Seen};
use nix::errno::Errno;

use crate::lab::{Lab, Module, ProcFile};

/// The fake kernel.
#[derive(Debug, Default)]
pub struct FakeLab {
    /// The kernel, for scripting.
    pub kernel: FakeKernel,
}

const VERSION: &str = "version_proc_show";
const EXECDOMAINS: &str = "execdomains_proc_show";
const LOADAVG: &str = "loadavg_proc_show";
const SLEEPER: &str = "lp_sleeper_read";

/// What the C sources of the test modules say.
fn model(name: &str) -> FakeModule {
    let of = |functions: &[&str]| FakeModule::new(name, functions);
    match name {
        "lp_cumulative_v1" => of(&[VERSION]).replacing(),
        "lp_cumulative_v2" => of(&[VERSION, LOADAVG]).replacing(),
        "lp_cumulative_v3" => of(&[VERSION, EXECDOMAINS]).replacing(),
        "lp_cumulative_stalling" | "lp_cumulative_sleeping" => with_sleeper(of(&[VERSION])).replacing(),
        "lp_cumulative_state" => FakeModule {
            states: vec![(7, 2)],
            ..of(&[VERSION]).replacing()
        },
        "lp_offband_v1" | "lp_offband_v2" => of(&[EXECDOMAINS]),
        "lp_offband_conflict" => of(&[VERSION]),
        "lp_offband_state" => FakeModule {
            states: vec![(7, 1)],
            ..of(&[LOADAVG])
        },
        "lp_stalling" => with_sleeper(of(&[LOADAVG])),
        "lp_refusing_callback" => FakeModule {
            pre_patch: Some(Errno::ENODEV),
            ..of(&[VERSION]).replacing()
        },
        "lp_unknown_symbol" => FakeModule {
            missing_symbol: Some("livepatch_tests_no_such_function".to_owned()),
            ..of(&["livepatch_tests_no_such_function"])
        },
        "another_kernels" => FakeModule {
            vermagic_fits: false,
            ..of(&[VERSION])
        },
        "another_release" => FakeModule::new("lp_offband_v1", &[EXECDOMAINS]),
        _ => panic!("no model of {name}"),
    }
}

fn with_sleeper(mut module: FakeModule) -> FakeModule {
    let functions = FakeModule::new("", &[SLEEPER]).objects.swap_remove(0).functions;
    module.objects.push(PatchedObject {
        name: "lp_sleeper".to_owned(),
        patched: Some(true),
        functions,
    });
    module
}

impl Lab for FakeLab {
    fn kernel(&self) -> &dyn Kernel {
        &self.kernel
    }

    fn module(&self, name: &str) -> Module {
        if name == "not_elf" {
            return Module {
                name: name.to_owned(),
                build_id: None,
                image: b"#!/bin/sh".as_slice().into(),
            };
        }
        let module = model(name);
        Module {
            name: module.name.clone(),
            build_id: module.build_id.clone(),
            image: self.kernel.image(module),
        }
    }

    fn effective(&self, file: ProcFile) -> Option<String> {
        self.kernel.effective(match file {
            ProcFile::Version => VERSION,
            ProcFile::Execdomains => EXECDOMAINS,
            ProcFile::Loadavg => LOADAVG,
        })
    }

    fn put_to_sleep(&self) -> u32 {
        let pid = 1234;
        self.kernel.add_task(FakeTask {
            pid,
            comm: "cat".to_owned(),
            pod_uid: None,
            sleeps_in: SLEEPER.to_owned(),
            until: None,
        });
        pid
    }

    fn wake(&self) {
        self.kernel.wake("cat");
    }

    fn set_ftrace(&self, enabled: bool) {
        self.kernel
            .set_policy(|policy| policy.ftrace_enabled = Seen::Known(enabled));
    }

    fn hold_version(&self, held: bool) {
        if held {
            self.kernel.hold_function(VERSION);
        } else {
            self.kernel.release_function(VERSION);
        }
    }

    fn force(&self, name: &str) {
        self.kernel.force(name);
    }
}
