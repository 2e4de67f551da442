//! A node without a kubelet: a livepatch kernel, a small disk, the host's network, and one program that is kept running.
//!
//! Does IO. It boots in seconds, so a test can afford one of its own, and cut its power again and again. The guest reaches
//! the API server and a registry on this machine's loopback as 10.0.2.2. The disk, at `/disk`, outlives a reset; all
//! else is an initial ram disk.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::control_channel::{Channel, CommandOutput};
use crate::cpio::Archive;
use crate::debian::{self, Suite};
use crate::host::Folder;
use crate::kernel_vm::GuestFile;
use crate::kernels::Kernel;
use crate::progress::{self, Waited};
use crate::vm::{Machine, Qemu};

const MEMORY: u32 = 512;
const DISK: &str = "64M";
/// From power-on until the control channel answers: four seconds, and four minutes were seen on a machine with ten times
/// the work it can do.
const BOOT: Duration = Duration::from_mins(15);
const COMMAND: Duration = Duration::from_mins(10);
const INIT: &str = include_str!("../node/bare.sh");
const CONTROL: &str = include_str!("../node/control.sh");

/// In loading order. What a kernel has built in is left out.
const DRIVERS: &[&str] = &[
    "virtio",
    "virtio_ring",
    "virtio_pci_modern_dev",
    "virtio_pci_legacy_dev",
    "virtio_pci",
    "virtio_blk",
    "failover",
    "net_failover",
    "virtio_net",
];

/// What to boot.
#[derive(Debug)]
pub struct BareNodeSpec {
    /// What it is called.
    pub name: String,
    /// The kernel it boots.
    pub kernel: Kernel,
    /// Files of the guest, besides busybox with links for its commands in `/bin`.
    pub files: Vec<GuestFile>,
    /// Shell commands of every boot, before the program.
    pub at_boot: String,
    /// Shell command that starts the program; run again when it ends, unless there is a file `/run/stay-away`. What it
    /// prints is in `/disk/program.log`.
    pub program: String,
}

/// A node, switched on or off.
#[derive(Debug)]
pub struct BareNode {
    // Before the folder, which nothing may write to when it goes.
    running: Mutex<Option<Running>>,
    name: String,
    kernel: Kernel,
    folder: Folder,
}

#[derive(Debug)]
struct Running {
    qemu: Qemu,
    channel: Channel,
}

impl BareNode {
    /// Makes the disk and switches it on; returns when the control channel answers and the network is up.
    pub fn start(spec: &BareNodeSpec) -> Result<Self> {
        let folder = Folder::create(&format!("node-{}", spec.name))?;
        make_disk(&folder.path().join("disk"))?;
        folder.write("initrd", archive(spec)?)?;
        let node = Self {
            running: Mutex::new(None),
            name: spec.name.clone(),
            kernel: spec.kernel.clone(),
            folder,
        };
        progress::step(
            &format!("boot {} with Linux {}", spec.name, spec.kernel.release()),
            || node.power_on(),
        )?;
        Ok(node)
    }

    fn running(&self) -> MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Switches it on if it is off, and waits until it is up.
    pub fn power_on(&self) -> Result<()> {
        self.plug_in()?;
        if let Some(running) = self.running().as_mut() {
            let ready = running.channel.wait_ready(Instant::now() + BOOT);
            ready.with_context(|| format!("boot {}\n{}", self.name, progress::tail(&running.qemu.console(), 40)))?;
        }
        self.wait_up()
    }

    fn plug_in(&self) -> Result<()> {
        let mut running = self.running();
        if running.is_some() {
            return Ok(());
        }
        let socket = self.folder.path().join("control");
        if socket.exists() {
            fs::remove_file(&socket).with_context(|| format!("remove {}", socket.display()))?;
        }
        let disk = self.folder.path().join("disk");
        let control = format!("socket,id=control,server=on,wait=off,path={}", socket.display());
        // As for every node: what the guest has written survives a killed qemu, what it still holds in memory does not.
        let drive = format!("file={},if=virtio,format=raw,cache=unsafe", disk.display());
        let arguments = [
            "-chardev",
            &control,
            "-serial",
            "chardev:control",
            "-netdev",
            "user,id=net",
            "-device",
            "virtio-net-pci,netdev=net,romfile=",
            "-drive",
            &drive,
        ];
        let qemu = Qemu::start(&Machine {
            name: &self.name,
            kernel: &self.kernel.image(),
            initrd: &self.folder.path().join("initrd"),
            append: "printk.time=1",
            memory: MEMORY,
            processors: 1,
            console: &self.folder.path().join("console"),
            arguments: arguments.map(str::to_owned).to_vec(),
        })?;
        let channel = Channel::connect(&socket)?;
        *running = Some(Running { qemu, channel });
        Ok(())
    }

    fn wait_up(&self) -> Result<()> {
        self.run_for("until [ -e /run/up ]; do sleep 0.1; done", BOOT)?
            .success()
            .map(drop)
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The kernel it boots.
    pub fn kernel(&self) -> &Kernel {
        &self.kernel
    }

    /// Pulls the plug. What the guest had not written to its disk is lost.
    pub fn power_cut(&self) -> Result<()> {
        match self.running().take() {
            Some(mut running) => running.qemu.kill(),
            None => Ok(()),
        }
    }

    /// Pulls the plug and switches it on again with the same disk.
    pub fn hard_reset(&self) -> Result<()> {
        self.power_cut()?;
        self.power_on()
    }

    /// Keeps a copy of the disk under a name; the node must be off.
    pub fn keep_disk(&self, name: &str) -> Result<()> {
        self.copy_disk("disk", &format!("disk-{name}"))
    }

    /// Puts the disk back as it was; the node must be off.
    pub fn return_disk(&self, name: &str) -> Result<()> {
        self.copy_disk(&format!("disk-{name}"), "disk")
    }

    fn copy_disk(&self, from: &str, to: &str) -> Result<()> {
        ensure!(self.running().is_none(), "the node {} is on", self.name);
        let path = |name: &str| self.folder.path().join(name);
        progress::run(Command::new("cp").arg("--sparse=always").args([path(from), path(to)]))
    }

    /// The id of the present boot.
    pub fn boot_id(&self) -> Result<String> {
        Ok(self.shell("cat /proc/sys/kernel/random/boot_id")?.trim().to_owned())
    }

    /// Waits until it has started again by itself, as after a panic: until its boot is not `previous`.
    pub fn wait_rebooted(&self, previous: &str, within: Duration) -> Result<()> {
        progress::wait_for(&format!("{} to start again", self.name), within, || {
            Ok(match self.boot_id() {
                Ok(boot) if boot != previous => Waited::Ready(()),
                Ok(_) => Waited::NotYet("the same boot".into()),
                Err(error) => Waited::NotYet(format!("{error:#}")),
            })
        })?;
        self.wait_up()
    }

    /// Runs a shell command as root; what takes longer than ten minutes is killed (exit code 124).
    pub fn run(&self, command: &str) -> Result<CommandOutput> {
        self.run_for(command, COMMAND)
    }

    /// As [`Self::run`], with a time of its own.
    pub fn run_for(&self, command: &str, timeout: Duration) -> Result<CommandOutput> {
        let mut running = self.running();
        let running = running.as_mut().context("the node is switched off")?;
        running.qemu.check_running()?;
        running
            .channel
            .run(command, timeout)
            .with_context(|| format!("run {command:?} on {}", self.name))
    }

    /// The output of a shell command that must succeed.
    pub fn shell(&self, command: &str) -> Result<String> {
        self.run(command)?
            .success()
            .with_context(|| format!("run {command:?} on {}", self.name))
    }

    /// What the kernel printed to its console, over all starts.
    pub fn console(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.folder.path().join("console")).unwrap_or_default()).into_owned()
    }

    /// Keeps console and disk after the value is gone and writes the program's log beside them, best effort.
    pub fn keep(&self) {
        self.folder.keep();
        for (file, command) in [
            ("program.log", "tail -c 1000000 /disk/program.log"),
            ("dmesg.log", "dmesg; ps"),
        ] {
            let Ok(printed) = self.run_for(command, Duration::from_secs(20)) else {
                return;
            };
            let _ = fs::write(self.folder.path().join(file), printed.output);
        }
    }

    /// Where console, disk and, after [`Self::keep`], logs are.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

fn make_disk(path: &Path) -> Result<()> {
    debian::ensure_programs(Suite::Machine, &[("mke2fs", "e2fsprogs")])?;
    let mke2fs = debian::program_path("mke2fs").context("the package e2fsprogs brings no mke2fs")?;
    progress::run(
        Command::new(mke2fs)
            .args(["-q", "-t", "ext4", "-O", "^metadata_csum", "-m", "0"])
            .args(["-E", "lazy_itable_init=1,lazy_journal_init=1,root_owner=0:0"])
            .arg(path)
            .arg(DISK),
    )
}

fn archive(spec: &BareNodeSpec) -> Result<Vec<u8>> {
    debian::ensure_programs(Suite::Machine, &[("busybox", "busybox-static")])?;
    let busybox = debian::program_path("busybox").context("the package busybox-static brings no busybox")?;
    let busybox = fs::read(&busybox).with_context(|| format!("read {}", busybox.display()))?;
    let mut archive = Archive::new();
    archive.file("bin/busybox", 0o755, &busybox);
    for (path, content) in [
        ("init", INIT),
        ("control.sh", CONTROL),
        ("start.sh", &spec.at_boot),
        ("program.sh", &spec.program),
    ] {
        archive.file(path, 0o755, content.as_bytes());
    }
    for folder in ["proc", "sys", "tmp", "run", "var"] {
        archive.directory(folder);
    }
    for (order, driver) in DRIVERS.iter().enumerate() {
        if let Some(content) = spec.kernel.module(driver)? {
            archive.file(&format!("drivers/{order}-{driver}.ko"), 0o644, &content);
        }
    }
    for file in &spec.files {
        file.add_to(&mut archive)?;
    }
    Ok(archive.finish())
}
