//! Helm against one control plane.
//!
//! Does IO. The rig's own Helm, with its settings in the control plane's folder, so a person's repositories and plugins
//! play no part.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use crate::kubectl::Kubectl;
use crate::{components, progress};

/// Helm as one user.
#[derive(Debug, Clone)]
pub struct Helm {
    program: PathBuf,
    kubeconfig: PathBuf,
}

impl Helm {
    /// With the identity of `kubectl`. Builds Helm if the cache has none.
    pub fn new(kubectl: &Kubectl) -> Result<Self> {
        Ok(Self {
            program: components::helm()?.join("helm"),
            kubeconfig: kubectl.kubeconfig().to_owned(),
        })
    }

    /// Runs it and returns what it printed; an error carries its message.
    pub fn run(&self, arguments: &[&str]) -> Result<String> {
        self.run_with_values(arguments, "")
    }

    /// As [`Self::run`], with a values file on standard input if it is not empty.
    fn run_with_values(&self, arguments: &[&str], values: &str) -> Result<String> {
        let home = self.kubeconfig.with_extension("helm");
        let mut command = Command::new(&self.program);
        command
            .args(arguments)
            .env("KUBECONFIG", &self.kubeconfig)
            .env("HELM_CACHE_HOME", home.join("cache"))
            .env("HELM_CONFIG_HOME", home.join("config"))
            .env("HELM_DATA_HOME", home.join("data"));
        if values.is_empty() {
            return progress::output(&mut command);
        }
        command.arg("--values=-");
        progress::output_with_input(&mut command, Some(values))
    }

    /// `helm upgrade --install` of a chart's folder; `values` is YAML or JSON. With `wait` it returns when everything
    /// is ready and fails after that time.
    pub fn upgrade_install(
        &self,
        release: &str,
        chart: &Path,
        namespace: &str,
        values: &str,
        wait: Option<Duration>,
    ) -> Result<String> {
        let chart = chart.to_string_lossy();
        let namespace = format!("--namespace={namespace}");
        let mut arguments = vec![
            "upgrade",
            "--install",
            release,
            &chart,
            &namespace,
            "--create-namespace",
        ];
        let timeout = wait.map(|wait| format!("--timeout={}s", wait.as_secs()));
        if let Some(timeout) = &timeout {
            arguments.extend(["--wait", timeout]);
        }
        progress::step(&format!("helm upgrade --install {release}"), || {
            self.run_with_values(&arguments, values)
        })
    }

    /// `helm uninstall`.
    pub fn uninstall(&self, release: &str, namespace: &str) -> Result<String> {
        let namespace = format!("--namespace={namespace}");
        progress::step(&format!("helm uninstall {release}"), || {
            self.run(&["uninstall", release, &namespace, "--wait", "--timeout=120s"])
        })
    }

    /// `helm template`: the manifests that an installation would apply. Reaches no server.
    pub fn template(&self, release: &str, chart: &Path, namespace: &str, values: &str) -> Result<String> {
        let namespace = format!("--namespace={namespace}");
        self.run_with_values(
            &[
                "template",
                release,
                &chart.to_string_lossy(),
                &namespace,
                "--include-crds",
            ],
            values,
        )
    }

    /// `helm lint --strict`.
    pub fn lint(&self, chart: &Path) -> Result<String> {
        self.run(&["lint", "--strict", &chart.to_string_lossy()])
    }
}
