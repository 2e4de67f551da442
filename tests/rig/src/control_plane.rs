//! A control plane of its own: etcd, kube-apiserver and, if wanted, kube-controller-manager and kube-scheduler.
//!
//! Does IO. Everything listens on the loopback address, which virtual machines reach as 10.0.2.2. Several may run at
//! once. Dropping one ends its processes and removes its data, unless the drop happens in a panic.

mod commands;
mod identities;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;

use self::identities::certificate_kubeconfig;
use crate::certs::{self, Authority, Pair};
use crate::diagnostics;
use crate::host::{Folder, Port, Process};
use crate::kubectl::Kubectl;
use crate::{components, http, progress};

/// The address of the host's loopback as a virtual machine with qemu's user network sees it.
pub const HOST_SEEN_FROM_VM: &str = "10.0.2.2";
/// The cluster address of the API server, which the nodes translate to [`HOST_SEEN_FROM_VM`].
pub const KUBERNETES_SERVICE: &str = "10.0.0.1";

/// How long a component may take to be ready: 1.3 s on an idle machine, far more beside a build.
const READY: Duration = Duration::from_mins(5);

/// Below the folder of a control plane.
const AUDIT_LOG: &str = "logs/audit.log";

/// What to start and how.
#[derive(Debug, Clone, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a switch of its own, named where it is set"
)]
pub struct Options {
    /// Name of the data folder; `plane` if empty.
    pub name: String,
    /// Start kube-controller-manager (service accounts' tokens, garbage collection, `DaemonSets`, Deployments, node
    /// lifecycle).
    pub controllers: bool,
    /// Start kube-scheduler.
    pub scheduler: bool,
    /// Let the API server resolve node names that [`ControlPlane::set_host`] gives; needs a mount namespace of its own.
    pub node_names: bool,
    /// Note every request, for [`ControlPlane::requests`].
    pub audit: bool,
    /// More flags for kube-apiserver; a later flag wins over an earlier one.
    pub apiserver_flags: Vec<String>,
    /// More flags for kube-controller-manager.
    pub controller_flags: Vec<String>,
}

impl Options {
    /// etcd and the API server: enough for schemas, CEL, admission policies, RBAC and watches.
    pub fn api_only() -> Self {
        Self::default()
    }

    /// Everything that a cluster with nodes needs.
    pub fn full() -> Self {
        Self {
            controllers: true,
            scheduler: true,
            node_names: true,
            ..Self::default()
        }
    }
}

/// A running control plane.
#[derive(Debug)]
pub struct ControlPlane {
    // Dropped in this order, see `Drop`; the folder last, when nothing writes to it any more.
    others: Vec<Process>,
    apiserver: Mutex<Option<Process>>,
    etcd: Option<Process>,
    options: Options,
    programs: PathBuf,
    authority: Authority,
    files: Files,
    port: Port,
    etcd_port: Port,
    /// Of the components that nobody else asks for by port.
    ports: Vec<Port>,
    admin: Kubectl,
    hosts: Mutex<BTreeMap<String, IpAddr>>,
    folder: Arc<Folder>,
}

#[derive(Debug)]
struct Files {
    /// `/etc/hosts` as the API server sees it.
    hosts: PathBuf,
    token_key: PathBuf,
    token_public: PathBuf,
    serving: Pair,
    kubelet_client: Pair,
}

impl ControlPlane {
    /// Starts one and waits until it is ready.
    pub fn start(options: Options) -> Result<Self> {
        let programs = components::kubernetes()?;
        progress::step("start a control plane", || Self::start_from(programs, options))
    }

    fn start_from(programs: PathBuf, options: Options) -> Result<Self> {
        let name = if options.name.is_empty() {
            "plane"
        } else {
            &options.name
        };
        let folder = Arc::new(Folder::create(name)?);
        for name in ["logs", "pki", "kubeconfig"] {
            folder.subfolder(name)?;
        }
        let pki = folder.path().join("pki");
        let authority = Authority::create(&pki, "ca")?;
        let (token_key, token_public) = certs::signing_key(&pki, "service-account")?;
        let serving = authority.server(
            "kube-apiserver",
            &[
                "127.0.0.1",
                HOST_SEEN_FROM_VM,
                KUBERNETES_SERVICE,
                "localhost",
                "kubernetes",
                "kubernetes.default",
                "kubernetes.default.svc",
                "kubernetes.default.svc.cluster.local",
            ],
        )?;
        let kubelet_client = authority.client("kubelet-client", "kube-apiserver", Some("system:masters"))?;
        let files = Files {
            hosts: folder.write("hosts", "")?,
            token_key,
            token_public,
            serving,
            kubelet_client,
        };
        let port = Port::reserve()?;
        let admin = authority.client("admin", "admin", Some("system:masters"))?;
        let admin = certificate_kubeconfig(folder.path(), "admin", port.number(), &admin)?;
        let mut plane = Self {
            others: Vec::new(),
            apiserver: Mutex::new(None),
            etcd: None,
            admin: Kubectl::new(&programs, &admin),
            options,
            programs,
            authority,
            files,
            port,
            etcd_port: Port::reserve()?,
            ports: Vec::new(),
            hosts: Mutex::new(BTreeMap::new()),
            folder,
        };
        plane.write_hosts()?;
        plane.start_etcd()?;
        plane.start_apiserver()?;
        if plane.options.controllers {
            plane.start_controllers()?;
        }
        if plane.options.scheduler {
            plane.start_scheduler()?;
        }
        Ok(plane)
    }

    fn start_etcd(&mut self) -> Result<()> {
        let peers = Port::reserve()?;
        let client_url = format!("http://127.0.0.1:{}", self.etcd_port.number());
        let peer_url = format!("http://127.0.0.1:{}", peers.number());
        let mut command = Command::new(self.programs.join("etcd"));
        command
            // The data does not outlive the test, and fsync is most of a write's time.
            .arg("--unsafe-no-fsync")
            .arg("--data-dir")
            .arg(self.folder.subfolder("etcd")?)
            .args([
                "--listen-client-urls",
                &client_url,
                "--advertise-client-urls",
                &client_url,
            ])
            .args([
                "--listen-peer-urls",
                &peer_url,
                "--initial-advertise-peer-urls",
                &peer_url,
            ])
            .args(["--initial-cluster", &format!("default={peer_url}")])
            .args(["--log-level", "warn"]);
        self.etcd = Some(self.process("etcd", &command)?);
        self.ports.push(peers);
        Ok(())
    }

    /// Starts the API server if it does not run and waits until it is ready; after [`Self::stop_apiserver`] it comes
    /// back with the same address and the same objects.
    pub fn start_apiserver(&self) -> Result<()> {
        let mut running = self.apiserver.lock().unwrap_or_else(PoisonError::into_inner);
        if running.is_none() {
            *running = Some(self.process("kube-apiserver", &self.apiserver_command()?)?);
        }
        let process = running.as_mut().context("the API server was not started")?;
        let authority = self.authority.pem();
        let url = format!("{}/readyz", self.url());
        let started = Instant::now();
        let client = http::Client::new(Some(authority), Duration::from_secs(5))?;
        loop {
            process.check_running()?;
            let seen = match client.get(&url) {
                Ok(answer) if answer.status == 200 => return Ok(()),
                Ok(answer) => format!("{} {}", answer.status, answer.text()),
                Err(error) => format!("{error:#}"),
            };
            if started.elapsed() > READY {
                bail!(
                    "the API server is not ready: {seen}\n{}",
                    progress::tail_of_file(process.log(), 20)
                );
            }
            thread::sleep(Duration::from_millis(30));
        }
    }

    fn process(&self, name: &str, command: &Command) -> Result<Process> {
        Process::start(name, command, &self.folder.path().join(format!("logs/{name}.log")))
    }

    /// `https://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port.number())
    }

    /// The API server's port, on the host's loopback and, for virtual machines, on [`HOST_SEEN_FROM_VM`].
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Its data: `logs/COMPONENT.log`, `kubeconfig/`, `pki/`. Others may put their logs there too.
    pub fn folder(&self) -> &Arc<Folder> {
        &self.folder
    }

    /// The folder of etcd, kube-apiserver, kubelet, kubectl and the others.
    pub fn programs(&self) -> &Path {
        &self.programs
    }

    /// The authority that signed the API server's certificate and whose client certificates it accepts.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// kubectl as a member of system:masters. Such a user is exempt from API priority and fairness.
    pub fn admin(&self) -> &Kubectl {
        &self.admin
    }

    /// Gives a host name an address in the eyes of the API server, for `kubectl logs` and `exec` on a node. Needs
    /// [`Options::node_names`].
    pub fn set_host(&self, name: &str, address: IpAddr) -> Result<()> {
        ensure!(
            self.options.node_names,
            "this control plane was started without names of nodes"
        );
        self.hosts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(name.to_owned(), address);
        self.write_hosts()
    }

    /// In place: the file is the source of a bind mount, a new file would not be seen.
    fn write_hosts(&self) -> Result<()> {
        let mut text = String::from("127.0.0.1 localhost\n");
        for (name, address) in self.hosts.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let _ = writeln!(text, "{address} {name}");
        }
        fs::write(&self.files.hosts, text).with_context(|| format!("write {}", self.files.hosts.display()))
    }

    /// Ends the API server, gracefully if it does so within `grace`. [`Self::start_apiserver`] brings it back.
    pub fn stop_apiserver(&self, grace: Duration) -> Result<()> {
        let mut running = self.apiserver.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(mut process) = running.take() {
            process.stop(grace)?;
        }
        Ok(())
    }

    /// Lets the API server hang: connections stay open and nothing is answered, as in a network partition, until
    /// [`Self::resume_apiserver`].
    pub fn pause_apiserver(&self) -> Result<()> {
        self.signal_apiserver(Signal::SIGSTOP)
    }

    /// Ends what [`Self::pause_apiserver`] began.
    pub fn resume_apiserver(&self) -> Result<()> {
        self.signal_apiserver(Signal::SIGCONT)
    }

    fn signal_apiserver(&self, signal: Signal) -> Result<()> {
        let running = self.apiserver.lock().unwrap_or_else(PoisonError::into_inner);
        running.as_ref().context("the API server does not run")?.signal(signal)
    }

    /// The requests that were answered so far, as audit events (`audit.k8s.io/v1`, level Metadata). Needs
    /// [`Options::audit`].
    pub fn requests(&self) -> Result<Vec<Value>> {
        let path = self.folder.path().join(AUDIT_LOG);
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        // The last line may be half written.
        Ok(text
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect())
    }

    /// The process ids of its components.
    pub fn process_ids(&self) -> Vec<u32> {
        let apiserver = self.apiserver.lock().unwrap_or_else(PoisonError::into_inner);
        self.others
            .iter()
            .chain(apiserver.as_ref())
            .chain(self.etcd.as_ref())
            .map(Process::id)
            .collect()
    }

    /// Keeps logs and data and writes down what the API server holds. Called on a failure, before the drop.
    pub fn keep(&self) {
        self.folder.keep();
        diagnostics::dump_objects(&self.admin, &self.folder.path().join("objects"));
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        if thread::panicking() {
            self.keep();
        }
        self.others.clear();
        // Without its etcd an API server hangs in its shutdown and holds its port, so it goes first.
        self.apiserver.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.etcd.take();
    }
}
