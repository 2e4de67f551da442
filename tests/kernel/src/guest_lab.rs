//! A real kernel in a guest as a lab. Does IO: it runs as root in a guest of its own and changes that guest's kernel.

use std::ffi::CString;
use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use livepatch_kernel::{BuildId, Host, Kernel, LinuxKernel, LogMark};
use nix::errno::Errno;
use nix::kmod::{DeleteModuleFlags, ModuleInitFlags, delete_module, finit_module};

use crate::damage::replace;
use crate::lab::{Lab, Module, ProcFile};

/// Where the test modules are in a guest.
pub const MODULES: &str = "/modules";

/// The kernel of the guest this runs in.
#[derive(Debug)]
pub struct GuestLab {
    kernel: LinuxKernel,
    sleepers: Mutex<Vec<Child>>,
}

impl GuestLab {
    /// The kernel of this machine. Refuses to be anything but a guest: it loads and unloads at will.
    pub fn open() -> Self {
        let init = fs::read_to_string("/proc/1/comm").unwrap_or_default();
        assert!(
            Path::new(MODULES).is_dir() && init.starts_with("init"),
            "not a guest of the tests"
        );
        let kernel = LinuxKernel::open(Host::native()).expect("a kernel with livepatching");
        Self {
            kernel,
            sleepers: Mutex::new(Vec::new()),
        }
    }

    /// Whether the kernel is of this version or a later one.
    pub fn is_since(&self, major: u32, minor: u32) -> bool {
        let release = self.kernel.identity().unwrap().release;
        let mut numbers = release.split(['.', '-']).map(|number| number.parse().unwrap_or(0));
        (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (major, minor)
    }

    /// The bytes of a module's file.
    pub fn file(&self, name: &str) -> Vec<u8> {
        fs::read(format!("{MODULES}/{name}.ko")).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// One `finit_module` of a test module, as `insmod` does, but never a second one.
    pub fn insmod(&self, name: &str, parameters: &str) -> Result<(), Errno> {
        let file = fs::File::open(format!("{MODULES}/{name}.ko")).unwrap_or_else(|error| panic!("{name}: {error}"));
        let parameters = CString::new(parameters).expect("parameters without NUL");
        finit_module(file, &parameters, ModuleInitFlags::empty())
    }

    /// One `delete_module`, of any module.
    pub fn rmmod(&self, name: &str) -> Result<(), Errno> {
        let name = CString::new(name).expect("a name without NUL");
        delete_module(&name, DeleteModuleFlags::O_NONBLOCK)
    }

    /// Sets a parameter of a loaded module.
    pub fn set_parameter(&self, module: &str, parameter: &str, value: &str) {
        let path = format!("/sys/module/{module}/parameters/{parameter}");
        fs::write(&path, value).unwrap_or_else(|error| panic!("{path}: {error}"));
    }

    /// What the kernel logged since a mark about livepatches, callbacks and modules of the tests, in its own words less
    /// the prefix of livepatching. Taints are told once per boot, and are no part of it.
    pub fn story(&self, mark: &LogMark) -> Vec<String> {
        let log = self.kernel.log_since(mark);
        assert!(log.complete, "lost the end of the kernel log");
        let lines = log.lines.into_iter().filter(|line| !line.contains("taint"));
        lines
            .filter(|line| line.starts_with("livepatch: ") || line.starts_with("lp_"))
            .map(|line| line.trim_start_matches("livepatch: ").to_owned())
            .collect()
    }

    /// Lets the worker of `lp_target_busy` end, and removes it and `lp_target` when no livepatch is in their way.
    fn release_targets(&self) {
        if self.is_loaded("lp_target_busy") {
            self.set_parameter("lp_target_busy", "hold", "0");
        }
        if self.kernel.livepatches().unwrap().is_empty() {
            for target in ["lp_target", "lp_target_busy"] {
                if self.is_loaded(target) {
                    self.rmmod(target).unwrap_or_else(|errno| panic!("{target}: {errno}"));
                }
            }
        }
    }

    fn busybox(command: &[&str]) {
        let status = Command::new("/bin/busybox")
            .args(command)
            .status()
            .expect("start busybox");
        assert!(status.success(), "{command:?}: {status}");
    }

    fn is_loaded(&self, module: &str) -> bool {
        self.kernel.module(module).unwrap().is_some()
    }
}

/// A module made of bytes, which need not be one.
pub fn module_of(name: &str, image: Vec<u8>) -> Module {
    let build_id = livepatch_module::inspect(&image)
        .ok()
        .and_then(|inspection| inspection.build_id)
        .and_then(|id| BuildId::try_from(id).ok());
    Module {
        name: name.to_owned(),
        build_id,
        image: image.into(),
    }
}

impl Lab for GuestLab {
    fn kernel(&self) -> &dyn Kernel {
        &self.kernel
    }

    fn module(&self, name: &str) -> Module {
        match name {
            "not_elf" => module_of(name, b"#!/bin/sh".to_vec()),
            "another_kernels" => module_of("lp_offband_v1", replace(&self.file("lp_offband_v1"), b"SMP ", b"UP1 ")),
            "another_release" => {
                let release = self.kernel.identity().unwrap().release;
                let other: String = release
                    .chars()
                    .map(|c| if c.is_ascii_digit() { '7' } else { c })
                    .collect();
                let image = replace(&self.file("lp_offband_v1"), release.as_bytes(), other.as_bytes());
                module_of("lp_offband_v1", image)
            }
            _ => module_of(name, self.file(name)),
        }
    }

    fn effective(&self, file: ProcFile) -> Option<String> {
        let path = match file {
            ProcFile::Version => "/proc/version",
            ProcFile::Execdomains => "/proc/execdomains",
            ProcFile::Loadavg => "/proc/loadavg",
        };
        let text = fs::read_to_string(path).unwrap();
        let marker = text.lines().find_map(|line| line.strip_prefix("livepatch: "))?;
        Some(if marker.starts_with("lp_") {
            marker.to_owned()
        } else {
            format!("lp_{}", marker.replace('-', "_"))
        })
    }

    fn put_to_sleep(&self) -> u32 {
        if !self.is_loaded("lp_sleeper") {
            Self::busybox(&["insmod", &format!("{MODULES}/lp_sleeper.ko")]);
        }
        // By its own name: a task is called after the program it was started as.
        let child = Command::new("/bin/cat")
            .arg("/proc/lp_sleeper")
            .stdout(Stdio::null())
            .spawn()
            .expect("start a sleeper");
        let pid = child.id();
        self.sleepers.lock().unwrap_or_else(PoisonError::into_inner).push(child);
        // Asleep once the kernel says that it waits in a function of the kernel, after the busybox start-up.
        for _ in 0..600 {
            let mut stack = String::new();
            let read = fs::File::open(format!("/proc/{pid}/stack")).and_then(|mut f| f.read_to_string(&mut stack));
            if read.is_ok() && stack.contains("lp_sleeper_read") {
                return pid;
            }
            thread::sleep(Duration::from_millis(50));
        }
        panic!("the sleeper does not sleep");
    }

    fn wake(&self) {
        self.release_targets();
        if self.is_loaded("lp_sleeper") {
            let mut sleepers = self.sleepers.lock().unwrap_or_else(PoisonError::into_inner);
            for mut sleeper in sleepers.drain(..) {
                // A sleeper that ran into a patched read has ended by itself.
                let _ = sleeper.kill();
                let _ = sleeper.wait();
            }
            if self.kernel.livepatches().unwrap().is_empty() {
                Self::busybox(&["rmmod", "lp_sleeper"]);
            }
        }
    }

    fn set_ftrace(&self, enabled: bool) {
        let path = "/proc/sys/kernel/ftrace_enabled";
        let wanted = if enabled { "1" } else { "0" };
        if fs::read_to_string(path).unwrap().trim() != wanted {
            fs::write(path, wanted).expect("write ftrace_enabled");
        }
    }

    fn hold_version(&self, held: bool) {
        match (held, self.is_loaded("lp_kprobe")) {
            (true, false) => Self::busybox(&["insmod", &format!("{MODULES}/lp_kprobe.ko")]),
            (false, true) => Self::busybox(&["rmmod", "lp_kprobe"]),
            _ => {}
        }
    }

    fn force(&self, name: &str) {
        fs::write(format!("/sys/kernel/livepatch/{name}/force"), "1").expect("write force");
    }
}
