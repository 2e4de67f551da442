//! Operators as processes of their own, as they run in a cluster. Does IO.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use livepatch_rig::host::{Port, Process};
use livepatch_rig::http::Client;
use livepatch_rig::install::{NAMESPACE, Programs};
use serde_json::json;

use crate::cost;
use crate::fleet::Fleet;
use crate::times::Times;

/// The operators that were started.
pub struct Operators {
    program: PathBuf,
    folder: PathBuf,
    kubeconfig: PathBuf,
    repositories: String,
    running: Vec<Operator>,
}

struct Operator {
    name: String,
    process: Process,
    port: Port,
}

impl Operators {
    /// None yet.
    pub fn new(fleet: &Fleet, programs: &Programs) -> Result<Self> {
        let folder = fleet.plane.folder().subfolder("operators")?;
        let registry = fleet.repositories();
        let host = registry.split('/').next().unwrap_or_default();
        let mirrors = json!([{"prefix": host, "endpoint": format!("http://{host}"), "only": true}]);
        fs::write(folder.join("mirrors.yaml"), mirrors.to_string()).context("write mirrors.yaml")?;
        Ok(Self {
            program: programs.operator().to_owned(),
            folder,
            kubeconfig: fleet.kubeconfig_of("livepatch-operator", "operator")?,
            repositories: registry,
            running: Vec::new(),
        })
    }

    /// Starts one with the flags of the chart.
    pub fn start(&mut self, name: &str) -> Result<()> {
        let port = Port::reserve()?;
        let mut command = Command::new(&self.program);
        command
            .args(["run", "--namespace", NAMESPACE, "--pod-name", name])
            .args(["--allowed-repository", &self.repositories])
            .arg("--registry-config")
            .arg(&self.folder)
            .args(["--metrics-addr", &format!("127.0.0.1:{}", port.number())])
            .env("KUBECONFIG", &self.kubeconfig);
        let process = Process::start(name, &command, &self.log(name))?;
        self.running.push(Operator {
            name: name.to_owned(),
            process,
            port,
        });
        Ok(())
    }

    /// Sends a signal to the one of that name and forgets it.
    pub fn end(&mut self, name: &str, signal: &str) -> Result<()> {
        let index = self.running.iter().position(|operator| operator.name == name);
        let operator = self
            .running
            .remove(index.with_context(|| format!("no operator {name} runs"))?);
        let sent = Command::new("kill")
            .args([&format!("-{signal}"), &operator.process.id().to_string()])
            .status()?;
        anyhow::ensure!(sent.success(), "kill -{signal}: {sent}");
        // The handle's own end comes after the signal has done its work.
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_secs(30));
            drop(operator);
        });
        Ok(())
    }

    pub fn processes(&self) -> Vec<u32> {
        self.running.iter().map(|operator| operator.process.id()).collect()
    }

    /// Resident memory of the one that has run longest, in KiB; see [`cost::memory`].
    pub fn memory(&self, which: &str) -> Result<u64> {
        cost::memory(self.oldest()?.process.id(), which)
    }

    /// What the one that has run longest tells Prometheus.
    pub fn times(&self) -> Result<Times> {
        let url = format!("http://127.0.0.1:{}/metrics", self.oldest()?.port.number());
        let answer = Client::new(None, Duration::from_secs(10))?.get(&url)?;
        anyhow::ensure!(answer.status == 200, "{url}: {}", answer.status);
        Ok(Times::read(&answer.text()))
    }

    fn oldest(&self) -> Result<&Operator> {
        self.running.first().context("an operator runs")
    }

    pub fn log(&self, name: &str) -> PathBuf {
        Path::new(&self.folder).join(format!("{name}.log"))
    }
}
