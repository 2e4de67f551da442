//! A node: a virtual machine with a livepatch kernel, a container runtime and a kubelet.
//!
//! Does IO. The guest reaches the API server and a registry on this machine's loopback as 10.0.2.2; its kubelet listens
//! on a port that is forwarded, so `kubectl logs` and `exec` work. The disk outlives a reset, the process does not
//! outlive its value.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::json;

use crate::control_channel::{Channel, CommandOutput};
use crate::control_plane::ControlPlane;
use crate::cpio::Archive;
use crate::debian::{self, Suite};
use crate::host::{Folder, Port};
use crate::kernels::{Kernel, Series};
use crate::progress::{self, Waited};
use crate::vm::{Machine, Qemu};
use crate::{cache, node_image};

/// Megabytes; a kubelet, a container runtime and a handful of pods fit.
const MEMORY: u32 = 1024;
/// From power-on until the control channel answers, on a machine that is busy with builds.
const BOOT: Duration = Duration::from_mins(10);
/// What a command on a node gets by default.
const COMMAND: Duration = Duration::from_mins(4);
const INITRD: &str = include_str!("../node/initrd.sh");
const CONTAINERD: &str = include_str!("../node/containerd.toml");

/// In loading order. What a kernel has built in is left out.
const DRIVERS: &[&str] = &[
    "virtio",
    "virtio_ring",
    "virtio_pci_modern_dev",
    "virtio_pci_legacy_dev",
    "virtio_pci",
    "virtio_blk",
];

/// What node to start.
#[derive(Debug, Clone)]
pub struct NodeSpec {
    /// Its name in the cluster.
    pub name: String,
    /// The kernel it boots.
    pub kernel: Series,
    /// Labels it registers with; of the prefix `kubernetes.io` a kubelet may set but a few.
    pub labels: BTreeMap<String, String>,
    /// Taints it registers with, such as `key=value:NoSchedule`.
    pub taints: Vec<String>,
    /// More of the kernel's command line.
    pub kernel_arguments: String,
    /// Files to put on its disk at every start: path, mode, content.
    pub files: Vec<(String, u32, Vec<u8>)>,
}

impl NodeSpec {
    /// A node without labels.
    pub fn new(name: &str, kernel: Series) -> Self {
        Self {
            name: name.to_owned(),
            kernel,
            labels: BTreeMap::new(),
            taints: Vec::new(),
            kernel_arguments: String::new(),
            files: Vec::new(),
        }
    }

    /// With one more label.
    #[must_use]
    pub fn label(mut self, key: &str, value: &str) -> Self {
        self.labels.insert(key.to_owned(), value.to_owned());
        self
    }

    /// With all `.ko` files of a folder below `/opt/modules`, for a person at the node to load.
    pub fn modules(mut self, folder: &Path) -> Result<Self> {
        for entry in fs::read_dir(folder)
            .with_context(|| format!("read {}", folder.display()))?
            .flatten()
        {
            let content = fs::read(entry.path()).with_context(|| format!("read {}", entry.path().display()))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            self.files.push((format!("opt/modules/{name}"), 0o644, content));
        }
        Ok(self)
    }
}

/// A node, switched on or off.
#[derive(Debug)]
pub struct NodeVm {
    // Before the folder, which nothing may write to when it goes.
    running: Mutex<Option<Running>>,
    spec: NodeSpec,
    kernel: Kernel,
    kubelet: Port,
    folder: Folder,
}

#[derive(Debug)]
struct Running {
    qemu: Qemu,
    channel: Channel,
}

impl NodeVm {
    /// Makes the node's disk and switches it on. It registers itself with the control plane once its kubelet is up.
    /// `registry` is the registry's name as the guest sees it; the sandbox image must be there.
    pub fn start(plane: &ControlPlane, registry: &str, index: u8, spec: NodeSpec) -> Result<Self> {
        let disk = node_image::disk()?;
        let kernel = Kernel::get(spec.kernel)?;
        let folder = Folder::create(&format!("node-{}", spec.name))?;
        let kubelet = Port::reserve()?;
        plane.set_host(&spec.name, IpAddr::V4(Ipv4Addr::LOCALHOST))?;
        progress::run(
            Command::new("cp")
                .arg("--sparse=always")
                .arg(&disk)
                .arg(folder.path().join("disk")),
        )?;
        let archive = archive(plane, registry, index, &spec, &kernel, kubelet.number())?;
        folder.write("initrd", archive)?;
        let node = Self {
            running: Mutex::new(None),
            spec,
            kernel,
            kubelet,
            folder,
        };
        node.power_on()?;
        Ok(node)
    }

    /// Its name in the cluster.
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// The kernel it boots.
    pub fn kernel(&self) -> &Kernel {
        &self.kernel
    }

    fn running(&self) -> MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Switches it on if it is off, and returns as soon as qemu runs.
    pub fn power_on(&self) -> Result<()> {
        let mut running = self.running();
        if running.is_some() {
            return Ok(());
        }
        let socket = self.folder.path().join("control");
        if socket.exists() {
            fs::remove_file(&socket).with_context(|| format!("remove {}", socket.display()))?;
        }
        let port = self.kubelet.number();
        let mut arguments = vec![
            "-chardev".to_owned(),
            format!("socket,id=control,server=on,wait=off,path={}", socket.display()),
        ];
        for argument in [
            "-serial",
            "chardev:control",
            "-netdev",
            &format!("user,id=net,hostfwd=tcp:127.0.0.1:{port}-:{port}"),
            "-device",
            "virtio-net-pci,netdev=net,romfile=",
            "-drive",
            // What the guest has written is this machine's, so it survives a killed qemu as it would a power cut; what
            // the guest still holds in its own memory does not.
            &format!(
                "file={},if=virtio,format=raw,cache=unsafe,discard=unmap",
                self.folder.path().join("disk").display()
            ),
        ] {
            arguments.push(argument.to_owned());
        }
        let qemu = Qemu::start(&Machine {
            name: &self.spec.name,
            kernel: &self.kernel.image(),
            initrd: &self.folder.path().join("initrd"),
            append: &format!("quiet {}", self.spec.kernel_arguments),
            memory: MEMORY,
            processors: 1,
            console: &self.folder.path().join("console"),
            arguments,
        })?;
        let channel = Channel::connect(&socket)?;
        *running = Some(Running { qemu, channel });
        Ok(())
    }

    /// Waits until the control channel answers.
    pub fn wait_booted(&self) -> Result<()> {
        let mut running = self.running();
        let running = running.as_mut().context("the node is switched off")?;
        running.channel.wait_ready(Instant::now() + BOOT).with_context(|| {
            format!(
                "boot {}\n{}",
                self.spec.name,
                progress::tail(&running.qemu.console(), 40)
            )
        })
    }

    /// Pulls the plug. What the guest had not written to its disk is lost.
    pub fn power_cut(&self) -> Result<()> {
        match self.running().take() {
            Some(mut running) => running.qemu.kill(),
            None => Ok(()),
        }
    }

    /// Pulls the plug and switches it on again with the same disk; waits until the control channel answers.
    pub fn hard_reset(&self) -> Result<()> {
        self.power_cut()?;
        self.power_on()?;
        self.wait_booted()
    }

    /// The id of the present boot.
    pub fn boot_id(&self) -> Result<String> {
        Ok(self.shell("cat /proc/sys/kernel/random/boot_id")?.trim().to_owned())
    }

    /// Lets the kernel panic, as a bad livepatch would; it starts again at once. Waits until it has.
    pub fn crash(&self) -> Result<()> {
        let before = self.boot_id()?;
        self.shell("(sleep 0.5; echo c >/proc/sysrq-trigger) >/dev/null 2>&1 &")?;
        self.wait_rebooted(&before)
    }

    /// Waits until the guest has started again by itself, after a panic or a reboot: until its boot is not `previous`.
    pub fn wait_rebooted(&self, previous: &str) -> Result<()> {
        progress::wait_for(&format!("{} to start again", self.spec.name), BOOT, || {
            Ok(match self.boot_id() {
                Ok(boot) if boot != previous => Waited::Ready(()),
                Ok(_) => Waited::NotYet("the same boot".into()),
                Err(error) => Waited::NotYet(format!("{error:#}")),
            })
        })
    }

    /// Runs a shell command as root on the node, past all Kubernetes.
    pub fn run_command(&self, command: &str) -> Result<CommandOutput> {
        self.run_command_for(command, COMMAND)
    }

    /// As [`Self::run_command`], with a time of its own; what takes longer is killed (exit code 124).
    pub fn run_command_for(&self, command: &str, timeout: Duration) -> Result<CommandOutput> {
        let mut running = self.running();
        let running = running.as_mut().context("the node is switched off")?;
        running.qemu.check_running()?;
        running
            .channel
            .run(command, timeout)
            .with_context(|| format!("run {command:?} on {}", self.spec.name))
    }

    /// The output of a shell command that must succeed.
    pub fn shell(&self, command: &str) -> Result<String> {
        self.run_command(command)?
            .success()
            .with_context(|| format!("run {command:?} on {}", self.spec.name))
    }

    /// What the kernel printed to its console, over all starts.
    pub fn console(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.folder.path().join("console")).unwrap_or_default()).into_owned()
    }

    /// Keeps console and disk after the value is gone and writes the node's logs beside them, best effort.
    pub fn keep(&self) {
        self.folder.keep();
        for (file, command) in [
            ("kubelet.log", "tail -c 1000000 /var/log/kubelet.log"),
            ("containerd.log", "tail -c 1000000 /var/log/containerd.log"),
            ("dmesg.log", "dmesg; ps axfww"),
            ("pods.log", "tail -v -n 500 /var/log/pods/*/*/*.log"),
        ] {
            // A node that does not answer once will not answer later.
            let Ok(printed) = self.run_command_for(command, Duration::from_secs(20)) else {
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

/// The initial ram disk: drivers, and the files that are this node's own.
fn archive(
    plane: &ControlPlane,
    registry: &str,
    index: u8,
    spec: &NodeSpec,
    kernel: &Kernel,
    port: u16,
) -> Result<Vec<u8>> {
    debian::ensure_programs(Suite::Machine, &[("busybox", "busybox-static")])?;
    let busybox = debian::program_path("busybox").context("the package busybox-static brings no busybox")?;
    let mut archive = Archive::new();
    archive.file(
        "bin/busybox",
        0o755,
        &fs::read(&busybox).with_context(|| format!("read {}", busybox.display()))?,
    );
    archive.file("init", 0o755, INITRD.as_bytes());
    for folder in ["proc", "sys", "root"] {
        archive.directory(folder);
    }
    for (order, driver) in DRIVERS.iter().enumerate() {
        if let Some(content) = kernel.module(driver)? {
            archive.file(&format!("drivers/{order}-{driver}.ko"), 0o644, &content);
        }
    }
    let mut own = |path: &str, mode: u32, content: &str| {
        archive.file(&format!("node/{path}"), mode, content.as_bytes());
    };
    own("etc/machine-id", 0o444, &format!("{}\n", machine_id(&spec.name)));
    own("etc/resolv.conf", 0o644, "nameserver 10.0.2.3\n");
    own("etc/hosts", 0o644, &format!("127.0.0.1 localhost {}\n", spec.name));
    own(
        "etc/node/settings",
        0o644,
        &format!(
            "NODE_NAME='{}'\nAPI_PORT={}\nKUBELET_FLAGS='{}'\n",
            spec.name,
            plane.port(),
            kubelet_flags(spec)
        ),
    );
    own("etc/node/kubeconfig", 0o600, &plane.node_kubeconfig(&spec.name)?);
    own("etc/node/ca.crt", 0o644, plane.authority().pem());
    // Else the kubelet makes a certificate at its first start and does not sync it: after a power cut it finds an empty
    // file and never starts again.
    let serving = plane
        .authority()
        .server(&format!("serving-{}", spec.name), &[&spec.name, "127.0.0.1"])?;
    own("etc/node/serving.crt", 0o644, &read(&serving.certificate)?);
    own("etc/node/serving.key", 0o600, &read(&serving.key)?);
    own("etc/node/kubelet.json", 0o644, &kubelet_config(port).to_string());
    let sandbox = format!("{registry}/{}:1", node_image::SANDBOX);
    own(
        "etc/containerd/config.toml",
        0o644,
        &CONTAINERD.replace("@SANDBOX@", &sandbox),
    );
    own(
        &format!("etc/containerd/certs.d/{registry}/hosts.toml"),
        0o644,
        &format!(
            "server = \"http://{registry}\"\n[host.\"http://{registry}\"]\n  capabilities = [\"pull\", \"resolve\"]\n"
        ),
    );
    own("etc/cni/net.d/10-ptp.conflist", 0o644, &network(index).to_string());
    for (path, mode, content) in &spec.files {
        archive.file(&format!("node/{}", path.trim_start_matches('/')), *mode, content);
    }
    Ok(archive.finish())
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("read {}", path.display()))
}

fn kubelet_flags(spec: &NodeSpec) -> String {
    let mut flags = String::new();
    if !spec.labels.is_empty() {
        let labels: Vec<String> = spec
            .labels
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        let _ = write!(flags, "--node-labels={} ", labels.join(","));
    }
    if !spec.taints.is_empty() {
        let _ = write!(flags, "--register-with-taints={} ", spec.taints.join(","));
    }
    flags
}

fn kubelet_config(port: u16) -> serde_json::Value {
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "port": port,
        "healthzPort": 0,
        "tlsCertFile": "/etc/node/serving.crt",
        "tlsPrivateKeyFile": "/etc/node/serving.key",
        "authentication": {
            "anonymous": { "enabled": false },
            "webhook": { "enabled": true },
            "x509": { "clientCAFile": "/etc/node/ca.crt" },
        },
        "authorization": { "mode": "Webhook" },
        "cgroupDriver": "cgroupfs",
        "failSwapOn": false,
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        "resolvConf": "/etc/resolv.conf",
        "evictionHard": { "memory.available": "20Mi", "nodefs.available": "1%", "imagefs.available": "1%" },
        "imagePullCredentialsVerificationPolicy": "NeverVerify",
        // A test waits for what these periods add up to.
        "nodeStatusUpdateFrequency": "5s",
        "syncFrequency": "10s",
    })
}

/// A network of pods behind the node's address; no two nodes share a range, so an address tells its node.
fn network(index: u8) -> serde_json::Value {
    json!({
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [{
            "type": "ptp",
            "ipMasq": true,
            "ipam": {
                "type": "host-local",
                "ranges": [[{ "subnet": format!("10.88.{index}.0/24") }]],
                "routes": [{ "dst": "0.0.0.0/0" }],
            },
        }],
    })
}

/// Stable for a name, as the id of a machine is over its reboots.
fn machine_id(name: &str) -> String {
    let mut id = cache::Key::new().text("machine", name).digest();
    id.push_str(&cache::Key::new().text("machine", name).text("half", "second").digest());
    id
}
