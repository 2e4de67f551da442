//! One qemu process: started, watched for the kernel's cries for help, and killed when its value is dropped.
//!
//! Does IO. Emulated (TCG), never KVM: nested virtualisation is missing or broken on many machines that run tests, and
//! a guest that behaves the same everywhere is worth the time.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use anyhow::{Context, Result};

use crate::debian::{self, Suite};
use crate::host::Process;
use crate::progress;

/// What a kernel prints when nothing good can follow. A livepatch that breaks the guest must end the run at once.
const FATAL: [&str; 6] = [
    "Kernel panic - not syncing",
    "watchdog: BUG: soft lockup",
    "rcu_sched self-detected stall",
    "rcu_preempt self-detected stall",
    "BUG: unable to handle",
    "general protection fault",
];

/// A guest must not be condemned for its host being busy. Left alone, a kernel that is given a tenth of a processor finds
/// the time stamp counter unstable and goes over to a clock that costs an emulated device access for every look, and takes
/// long critical sections for lock-ups; and one that is not given its first ten ticks in time panics over its timer.
const COMMAND_LINE: &str =
    "console=ttyS0 panic=-1 no_timer_check tsc=reliable watchdog_thresh=60 rcupdate.rcu_cpu_stall_timeout=120";

/// The oldest qemu whose emulation runs 6.12 without a panic now and then.
const QEMU_MAJOR: u32 = 10;

/// What to boot.
#[derive(Debug)]
pub struct Machine<'a> {
    /// What it is called in messages.
    pub name: &'a str,
    /// Kernel image.
    pub kernel: &'a Path,
    /// Initial ram disk.
    pub initrd: &'a Path,
    /// Kernel command line; the console is added.
    pub append: &'a str,
    /// Megabytes of memory.
    pub memory: u32,
    /// Processors. With two, a livepatch load on an emulated 6.12 spends up to minutes inside `finit_module`, where
    /// `PREEMPT_DYNAMIC` rewrites its static calls on all processors at the end of the transition.
    pub processors: u32,
    /// File for what the guest prints to its first serial port.
    pub console: &'a Path,
    /// Further arguments: serial ports, disks, networks.
    pub arguments: Vec<String>,
}

/// A running guest.
#[derive(Debug)]
pub struct Qemu {
    process: Process,
    console: PathBuf,
}

impl Qemu {
    /// Switches the guest on.
    pub fn start(machine: &Machine<'_>) -> Result<Self> {
        let mut command = Command::new(qemu_program()?);
        command
            .args(["-accel", "tcg", "-cpu", "max", "-nodefaults", "-display", "none"])
            .args(["-smp", &machine.processors.to_string()])
            .args(["-m", &machine.memory.to_string()])
            .arg("-kernel")
            .arg(machine.kernel)
            .arg("-initrd")
            .arg(machine.initrd)
            .args(["-append", &format!("{COMMAND_LINE} {}", machine.append)])
            .args([
                "-chardev",
                &format!("file,id=console,append=on,path={}", machine.console.display()),
            ])
            .args(["-serial", "chardev:console"])
            .args(&machine.arguments);
        Ok(Self {
            process: Process::start(machine.name, &command, &machine.console.with_extension("qemu"))?,
            console: machine.console.to_owned(),
        })
    }

    /// Process id on this machine.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// How the process ended, `None` while it runs.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.process.ended()
    }

    /// An error with what qemu said if it has ended.
    pub fn check_running(&mut self) -> Result<()> {
        self.process.check_running()
    }

    /// Everything the guest printed to its console so far.
    pub fn console(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.console).unwrap_or_default()).into_owned()
    }

    /// The first line with which the kernel gave up, if it did.
    pub fn fatal(&self) -> Option<String> {
        let console = self.console();
        console
            .lines()
            .find(|line| FATAL.iter().any(|mark| line.contains(mark)))
            .map(str::to_owned)
    }

    /// Pulls the plug: the guest gets no chance to write anything.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }
}

/// Installs qemu if it is missing or too old.
pub fn qemu_program() -> Result<PathBuf> {
    const PROGRAM: &str = "qemu-system-x86_64";
    if let Some(path) = debian::program_path(PROGRAM)
        && version(&path)? >= QEMU_MAJOR
    {
        return Ok(path);
    }
    let release = fs::read_to_string("/etc/os-release").context("read /etc/os-release")?;
    let suite = if release.contains("VERSION_CODENAME=bookworm") {
        Suite::Named("bookworm-backports")
    } else {
        Suite::Machine
    };
    debian::install(suite, &["qemu-system-x86"])?;
    debian::program_path(PROGRAM).context("the package qemu-system-x86 brings no qemu-system-x86_64")
}

fn version(program: &Path) -> Result<u32> {
    let text = progress::output(Command::new(program).arg("--version"))?;
    Ok(text
        .split_whitespace()
        .find_map(|word| word.split_once('.')?.0.parse().ok())
        .unwrap_or(0))
}
