//! A test program of this package in a guest, with all test modules. Does IO.

use std::path::Path;
use std::time::Duration;

use livepatch_rig::kernel_vm::{self, Boot, GuestFile, KernelVmSpec};
use livepatch_rig::kernels::{Kernel, Series};
use livepatch_rig::{modules, payload};

/// What is run, and how.
pub struct Run<'a> {
    /// The test program, by the name of its file.
    pub program: &'a str,
    /// The ignored test of it that runs in the guest.
    pub test: &'a str,
    /// Variables of its environment, `NAME=value` each.
    pub environment: Vec<String>,
    /// Files of the guest besides program and modules.
    pub files: Vec<GuestFile>,
    /// How the guest boots.
    pub boot: Boot,
    /// When the guest is killed.
    pub deadline: Duration,
}

impl<'a> Run<'a> {
    /// The test `in_the_guest` of a program, in a guest like any other.
    pub fn of(program: &'a str) -> Self {
        Self {
            program,
            test: "in_the_guest",
            environment: Vec::new(),
            files: Vec::new(),
            boot: Boot::default(),
            deadline: Duration::from_mins(15),
        }
    }

    /// Runs it; prints and returns what it prints, and panics unless it succeeds.
    pub fn on(self, series: Series) -> String {
        let kernel = Kernel::get(series).unwrap();
        let mut files = self.files;
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../modules");
        for folder in [sources.clone(), sources.join("kernel"), sources.join("scenarios")] {
            let built = modules::build_from(&kernel, &folder).unwrap();
            files.extend(GuestFile::folder("modules", &built).unwrap());
        }
        let program = payload::test("livepatch-tests-kernel", self.program).unwrap();
        files.push(GuestFile::copy("program", program));
        let mut command: Vec<String> = ["/bin/busybox", "env"].map(str::to_owned).to_vec();
        command.extend(self.environment);
        command.extend(["/program", "--ignored", "--exact", self.test, "--nocapture"].map(str::to_owned));
        let outcome = kernel_vm::run(&KernelVmSpec {
            kernel: &kernel,
            files,
            command,
            deadline: self.deadline,
            boot: self.boot,
        });
        let outcome = outcome.unwrap();
        print!("{}", outcome.output);
        assert_eq!(outcome.exit_code, 0, "Linux {series}");
        outcome.output
    }
}
