//! The flags of the components of a control plane. Starts the optional ones.

use std::path::Path;
use std::process::Command;

use anyhow::Result;
use serde_json::json;

use super::{AUDIT_LOG, ControlPlane, Files, HOST_SEEN_FROM_VM};
use crate::host::{IF_PARENT, Port};

impl ControlPlane {
    pub(super) fn apiserver_command(&self) -> Result<Command> {
        let program = self.programs.join("kube-apiserver");
        let mut command = if self.options.node_names {
            // A user namespace makes the kernel forget whose death ends the process, so that is said again inside.
            // Names of nodes are known to this process alone: in its mount namespace /etc/hosts is the file that
            // `set_host` writes.
            let mut command = Command::new("unshare");
            if !nix::unistd::geteuid().is_root() {
                command.arg("--map-root-user");
            }
            command
                .args([
                    "--mount",
                    "sh",
                    "-c",
                    r#"mount --bind "$0" /etc/hosts && exec setpriv --pdeathsig KILL -- sh -c "$@""#,
                ])
                .arg(&self.files.hosts)
                .args([IF_PARENT, &std::process::id().to_string()])
                .arg(program);
            command
        } else {
            Command::new(program)
        };
        let Files {
            hosts: _,
            token_key,
            token_public,
            serving,
            kubelet_client,
        } = &self.files;
        let flag = |command: &mut Command, name: &str, path: &Path| {
            command.arg(format!("--{name}")).arg(path);
        };
        command
            .arg(format!("--etcd-servers=http://127.0.0.1:{}", self.etcd_port.number()))
            .arg(format!("--secure-port={}", self.port.number()))
            .args([
                "--bind-address=127.0.0.1",
                &format!("--advertise-address={HOST_SEEN_FROM_VM}"),
            ])
            .args([
                "--authorization-mode=Node,RBAC",
                "--enable-admission-plugins=NodeRestriction",
            ])
            .args([
                "--allow-privileged",
                "--service-cluster-ip-range=10.0.0.0/24",
                "--endpoint-reconciler-type=none",
            ])
            .arg("--service-account-issuer=https://kubernetes.default.svc.cluster.local")
            .arg("--kubelet-preferred-address-types=Hostname,InternalIP");
        flag(&mut command, "client-ca-file", &self.folder.path().join("pki/ca.crt"));
        flag(&mut command, "tls-cert-file", &serving.certificate);
        flag(&mut command, "tls-private-key-file", &serving.key);
        flag(&mut command, "service-account-key-file", token_public);
        flag(&mut command, "service-account-signing-key-file", token_key);
        flag(&mut command, "kubelet-client-certificate", &kubelet_client.certificate);
        flag(&mut command, "kubelet-client-key", &kubelet_client.key);
        if self.options.audit {
            let policy = json!({
                "apiVersion": "audit.k8s.io/v1",
                "kind": "Policy",
                "omitStages": ["RequestReceived", "ResponseStarted"],
                "rules": [{ "level": "Metadata" }],
            });
            flag(
                &mut command,
                "audit-policy-file",
                &self.folder.write("audit-policy.json", policy.to_string())?,
            );
            flag(&mut command, "audit-log-path", &self.folder.path().join(AUDIT_LOG));
        }
        // Where the server would otherwise write a certificate of its own.
        flag(&mut command, "cert-dir", &self.folder.subfolder("apiserver")?);
        command.args(&self.options.apiserver_flags);
        Ok(command)
    }

    pub(super) fn start_controllers(&mut self) -> Result<()> {
        let user = "system:kube-controller-manager";
        let kubeconfig = self.user_kubeconfig("kube-controller-manager", user, None)?;
        let port = Port::reserve()?;
        let mut command = Command::new(self.programs.join("kube-controller-manager"));
        for name in ["kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig"] {
            command.arg(format!("--{name}")).arg(&kubeconfig);
        }
        command
            .args(["--bind-address=127.0.0.1", &format!("--secure-port={}", port.number())])
            .args(["--leader-elect=false", "--use-service-account-credentials"])
            .arg("--root-ca-file")
            .arg(self.folder.path().join("pki/ca.crt"))
            .arg("--service-account-private-key-file")
            .arg(&self.files.token_key)
            .arg("--cert-dir")
            .arg(self.folder.subfolder("controllers")?)
            .args(&self.options.controller_flags);
        let process = self.process("kube-controller-manager", &command)?;
        self.others.push(process);
        self.ports.push(port);
        Ok(())
    }

    pub(super) fn start_scheduler(&mut self) -> Result<()> {
        let kubeconfig = self.user_kubeconfig("kube-scheduler", "system:kube-scheduler", None)?;
        let port = Port::reserve()?;
        let mut command = Command::new(self.programs.join("kube-scheduler"));
        for name in ["kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig"] {
            command.arg(format!("--{name}")).arg(&kubeconfig);
        }
        command
            .args([
                "--bind-address=127.0.0.1",
                &format!("--secure-port={}", port.number()),
                "--leader-elect=false",
            ])
            .arg("--cert-dir")
            .arg(self.folder.subfolder("scheduler")?);
        let process = self.process("kube-scheduler", &command)?;
        self.others.push(process);
        self.ports.push(port);
        Ok(())
    }
}
