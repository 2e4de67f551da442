//! A person with the plugin. Does IO.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::LazyLock;

use livepatch_rig::install::Programs;

use crate::cluster::{Cluster, NAMESPACE};

static PLUGIN: LazyLock<PathBuf> = LazyLock::new(|| Programs::build().unwrap().plugin().to_owned());

/// Somebody who may do what one of the chart's roles for people allows.
pub struct Person {
    kubeconfig: PathBuf,
}

/// What a command printed, and how it ended.
#[derive(Debug)]
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Person {
    /// With the rights of the `ClusterRole` `role`.
    pub fn with_role(cluster: &Cluster, role: &str) -> Self {
        let admin = cluster.plane().admin();
        let account = format!("{NAMESPACE}:{role}");
        admin
            .run(&["create", "serviceaccount", role, "--namespace", NAMESPACE])
            .unwrap();
        let binding = [
            "create",
            "clusterrolebinding",
            role,
            "--clusterrole",
            role,
            "--serviceaccount",
            &account,
        ];
        admin.run(&binding).unwrap();
        let token = cluster.plane().token(NAMESPACE, role, None).unwrap();
        let kubectl = cluster.plane().with_token(role, &token).unwrap();
        Self {
            kubeconfig: kubectl.kubeconfig().to_owned(),
        }
    }

    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// The plugin, to be run.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&*PLUGIN);
        command.args(arguments).env("KUBECONFIG", &self.kubeconfig);
        command
    }

    /// Runs the plugin.
    pub async fn says(&self, arguments: &[&str]) -> Said {
        let mut command = self.command(arguments);
        let output = tokio::task::spawn_blocking(move || command.output().unwrap())
            .await
            .unwrap();
        let said = Said::of(&output);
        // No terminal, no colour; whatever a node said, nothing that a terminal obeys.
        let obeyed = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
        assert!(
            !said.out.chars().any(obeyed) && !said.err.chars().any(obeyed),
            "{said:?}"
        );
        said
    }

    /// Runs the plugin, which must end with `code`; what it printed on both ways.
    pub async fn expects(&self, code: i32, arguments: &[&str]) -> String {
        let said = self.says(arguments).await;
        assert_eq!(said.code, code, "{arguments:?}: {said:#?}");
        said.out + &said.err
    }
}

impl Said {
    fn of(output: &Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}
