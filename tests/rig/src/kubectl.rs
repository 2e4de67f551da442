//! kubectl against one control plane as one user.
//!
//! Does IO. It is the kubectl of the same release as the API server, so what a test sees is what a person sees.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::progress::{self, Waited};

/// A user's way to the API server.
#[derive(Debug, Clone)]
pub struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
}

impl Kubectl {
    /// `programs` is the folder that holds kubectl.
    pub fn new(programs: &Path, kubeconfig: &Path) -> Self {
        Self {
            program: programs.join("kubectl"),
            kubeconfig: kubeconfig.to_owned(),
        }
    }

    /// The kubeconfig file it uses.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// A command to run or to add to; KUBECONFIG is set rather than passed, so plugins get it too.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        // kubectl keeps discovery below HOME, by server address; ports come back for other servers.
        let cache = self.kubeconfig.with_extension("cache");
        command
            .arg("--cache-dir")
            .arg(cache)
            .args(arguments)
            .env("KUBECONFIG", &self.kubeconfig);
        command
    }

    /// Runs it and returns what it printed; an error carries its message.
    pub fn run(&self, arguments: &[&str]) -> Result<String> {
        progress::output(&mut self.command(arguments))
    }

    /// Runs it and returns the message it failed with; an error if it did not fail.
    pub fn refused(&self, arguments: &[&str]) -> Result<String> {
        match self.run(arguments) {
            Ok(printed) => bail!("kubectl {} was not refused and printed: {printed}", arguments.join(" ")),
            Err(error) => Ok(format!("{error:#}")),
        }
    }

    /// Applies YAML or JSON server-side, with unknown fields refused.
    pub fn apply(&self, manifests: &str) -> Result<String> {
        let arguments = [
            "apply",
            "--server-side",
            "--force-conflicts",
            "--validate=strict",
            "--filename=-",
        ];
        progress::output_with_input(&mut self.command(&arguments), Some(manifests))
    }

    /// Creates what the YAML or JSON says; an object that exists is an error.
    pub fn create(&self, manifests: &str) -> Result<String> {
        let arguments = ["create", "--validate=strict", "--filename=-"];
        progress::output_with_input(&mut self.command(&arguments), Some(manifests))
    }

    /// `get` of one object or a list, such as `&["nodes"]` or `&["--namespace=x", "pod", "name"]`.
    pub fn get(&self, arguments: &[&str]) -> Result<Value> {
        let mut all = vec!["get", "--output=json"];
        all.extend(arguments);
        let printed = self.run(&all)?;
        serde_json::from_str(&printed).with_context(|| format!("read the JSON of kubectl get {}", arguments.join(" ")))
    }

    /// As [`Self::get`]; none when it does not exist.
    pub fn find(&self, arguments: &[&str]) -> Result<Option<Value>> {
        let mut all = vec!["get", "--output=json", "--ignore-not-found"];
        all.extend(arguments);
        let printed = self.run(&all)?;
        if printed.trim().is_empty() {
            return Ok(None);
        }
        serde_json::from_str(&printed)
            .map(Some)
            .with_context(|| format!("read the JSON of kubectl get {}", arguments.join(" ")))
    }

    /// Merge-patches an object; `object` is such as `&["lps", "name"]`, with `--subresource=status` if wanted.
    pub fn patch(&self, object: &[&str], patch: &Value) -> Result<String> {
        let patch = format!("--patch={patch}");
        let mut all = vec!["patch", "--type=merge", &patch];
        all.extend(object);
        self.run(&all)
    }

    /// Looks at an object until `holds` is content with it; `holds` says what it misses. An object that is not there is
    /// waited for too. While the API server cannot be reached the wait goes on.
    pub fn wait(
        &self,
        what: &str,
        object: &[&str],
        timeout: Duration,
        holds: impl Fn(&Value) -> Result<(), String>,
    ) -> Result<Value> {
        progress::wait_for(what, timeout, || {
            Ok(match self.find(object) {
                Ok(Some(value)) => match holds(&value) {
                    Ok(()) => Waited::Ready(value),
                    Err(reason) => Waited::NotYet(reason),
                },
                Ok(None) => Waited::NotYet("it does not exist".to_owned()),
                Err(error) => Waited::NotYet(format!("{error:#}")),
            })
        })
    }

    /// Waits until an object's condition has a status, such as `("Ready", "True")`.
    pub fn wait_condition(&self, object: &[&str], condition: (&str, &str), timeout: Duration) -> Result<Value> {
        let (kind, status) = condition;
        let what = format!("{} to be {kind}={status}", object.join(" "));
        self.wait(&what, object, timeout, |value| {
            let conditions = value["status"]["conditions"]
                .as_array()
                .map(Vec::as_slice)
                .unwrap_or_default();
            match conditions.iter().find(|one| one["type"] == kind) {
                Some(found) if found["status"] == status => Ok(()),
                Some(found) => Err(found.to_string()),
                None => Err(format!("no condition {kind} among {}", Value::from(conditions))),
            }
        })
    }
}
