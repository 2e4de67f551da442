//! A machine: a kernel, a disk, an agent, and what the kubelet tells of it.

use std::time::Duration;

use livepatch_kernel::{BootId, FakeKernel, FakeModule, FakeTask, Kernel as _, Taints};

use crate::agent::{Agent, Disk, Host};
use crate::modules::{Shelf, identity};
use crate::seam::Seam;

/// A machine.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "a machine is up, reachable and removed independently of each other"
)]
pub(crate) struct Machine {
    pub index: usize,
    /// Name of its node.
    pub name: String,
    pub seam: Seam,
    pub disk: Disk,
    pub agent: Agent,
    /// Kernel build it runs, and the one it will boot.
    pub build: usize,
    pub next_build: usize,
    pub boot: u32,
    pub up: bool,
    /// It is no part of the cluster any more.
    pub removed: bool,
    /// Counts losses of contact: a timer of a former one is void.
    pub outage: u32,
    pub reachable: bool,
    /// Time up to which its kernel has lived.
    synced: Duration,
    pub settle: Duration,
    pub stop: Option<String>,
    /// How long transitions take here.
    pub transition: Duration,
    /// Livepatches that somebody else loaded.
    pub foreign: Vec<String>,
    /// Its journal is no more, and nobody has rebooted it since.
    pub journal_lost: bool,
    /// How often it was made anew: each has a boot id of its own.
    pub incarnation: u32,
}

impl Machine {
    pub fn new(index: usize, name: &str, build: usize, settle: Duration) -> Self {
        Self {
            index,
            name: name.to_owned(),
            seam: Seam::new(FakeKernel::new()),
            disk: Disk::default(),
            agent: Agent::new(index, name),
            build,
            next_build: build,
            boot: 0,
            up: false,
            removed: false,
            outage: 0,
            reachable: true,
            synced: Duration::ZERO,
            settle,
            stop: None,
            transition: Duration::from_millis(900),
            foreign: Vec::new(),
            journal_lost: false,
            incarnation: 0,
        }
    }

    /// The machine is taken from the rack and another one put in its place, with an empty disk.
    pub fn make_anew(&mut self) {
        self.disk = Disk::default();
        self.incarnation += 1;
        self.removed = false;
        self.stop = None;
    }

    /// The id of the present boot.
    pub fn boot_id(&self) -> String {
        format!(
            "{:08x}-{:04x}-4000-8000-{:012x}",
            self.index, self.incarnation, self.boot
        )
    }

    /// The kernel begins anew.
    pub fn boot(&mut self, now: Duration, shelf: &Shelf) {
        self.boot += 1;
        self.up = true;
        self.build = self.next_build;
        self.foreign.clear();
        self.journal_lost = false;
        let kernel = FakeKernel::new();
        for module in shelf.modules() {
            kernel.provide(&module.bytes, module.fake.clone());
        }
        kernel.set_identity(identity(self.build), BootId(self.boot_id()));
        kernel.transition_takes(self.transition);
        self.seam = Seam::new(kernel);
        self.synced = now;
    }

    /// Lets the kernel live until now.
    pub fn sync(&mut self, now: Duration) {
        if self.up && now > self.synced {
            self.seam.kernel.advance(now.saturating_sub(self.synced));
        }
        self.synced = now;
    }

    pub fn host_and_agent(&mut self) -> (Host<'_>, &mut Agent) {
        let host = Host {
            seam: &self.seam,
            disk: &mut self.disk,
            settle: self.settle,
            stop: self.stop.as_deref(),
        };
        (host, &mut self.agent)
    }

    /// Somebody else loads a livepatch. Whether it was possible.
    pub fn load_foreign(&mut self, name: &str, replaces: bool) -> bool {
        let mut module = FakeModule::new(name, &["foreign_function"]);
        module.replace = replaces;
        let image = self.seam.kernel.image(module);
        let loaded = self
            .seam
            .kernel
            .start_load(name, &image, std::ffi::CString::default().as_c_str())
            .is_ok()
            && matches!(self.seam.kernel.standing(name), Ok(Some(_)));
        if loaded {
            self.foreign.push(name.to_owned());
        }
        loaded
    }

    /// A task sleeps in a function of a set until then.
    pub fn add_sleeper(&mut self, function: &str, until: Option<Duration>) {
        let now = self.seam.kernel.now();
        self.seam.kernel.add_task(FakeTask {
            pid: 4711,
            comm: "sleeper".to_owned(),
            pod_uid: None,
            sleeps_in: function.to_owned(),
            until: until.map(|span| now + span),
        });
    }

    /// Faults that wait for a call are met by calls that do nothing else.
    pub fn use_up_faults(&mut self) {
        let kernel = &self.seam.kernel;
        for _ in 0..4 {
            _ = kernel.start_load("nothing", b"nothing", std::ffi::CString::default().as_c_str());
            _ = kernel.set_enabled("nothing", false);
            _ = kernel.delete_module("nothing");
        }
    }

    pub fn warn(&mut self) {
        self.seam.kernel.taint(Taints(1 << Taints::WARN));
    }

    /// What the kernel runs.
    pub fn running_names(&self) -> Vec<String> {
        let livepatches = self.seam.kernel.livepatches().unwrap_or_default();
        let effective = livepatches.into_iter().filter(|one| one.standing.is_effective());
        effective.map(|one| one.name).collect()
    }

    /// What is enabled in the kernel, in transition or not.
    pub fn enabled_names(&self) -> Vec<String> {
        let livepatches = self.seam.kernel.livepatches().unwrap_or_default();
        let enabled = livepatches.into_iter().filter(|one| one.standing.enabled);
        enabled.map(|one| one.name).collect()
    }

    /// Whether the kernel runs a module of this build id, enabled and out of transition.
    pub fn runs(&self, build_id: &str) -> bool {
        let livepatches = self.seam.kernel.livepatches().unwrap_or_default();
        self.up
            && livepatches.iter().any(|one| {
                one.standing.is_effective()
                    && one
                        .build_id
                        .known()
                        .and_then(Option::as_ref)
                        .is_some_and(|id| id.as_str() == build_id)
            })
    }
}
