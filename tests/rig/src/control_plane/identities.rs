//! Who may talk to a control plane: client certificates, service-account tokens and the kubeconfig files with them.
//!
//! Writes files; asks the API server for tokens.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{ControlPlane, HOST_SEEN_FROM_VM};
use crate::base64;
use crate::certs::Pair;
use crate::kubectl::Kubectl;

impl ControlPlane {
    /// kubectl as a user by client certificate. `name` names its files.
    pub fn user(&self, name: &str, user: &str, group: Option<&str>) -> Result<Kubectl> {
        Ok(Kubectl::new(&self.programs, &self.user_kubeconfig(name, user, group)?))
    }

    /// kubectl as the kubelet of a node: `system:node:NODE` in group `system:nodes`.
    pub fn node(&self, node: &str) -> Result<Kubectl> {
        self.user(
            &format!("node-{node}"),
            &format!("system:node:{node}"),
            Some("system:nodes"),
        )
    }

    /// A kubeconfig for a node's kubelet, to be put into its virtual machine: it holds its certificates and names the
    /// API server as the machine sees it.
    pub fn node_kubeconfig(&self, node: &str) -> Result<String> {
        let pair = self.authority.client(
            &format!("kubelet-{node}"),
            &format!("system:node:{node}"),
            Some("system:nodes"),
        )?;
        let read = |path: &Path| fs::read_to_string(path).with_context(|| format!("read {}", path.display()));
        let user = json!({
            "client-certificate-data": base64::encode(read(&pair.certificate)?.as_bytes()),
            "client-key-data": base64::encode(read(&pair.key)?.as_bytes()),
        });
        Ok(self.kubeconfig_in_vm(&user))
    }

    /// A kubeconfig for whoever has a token inside a virtual machine.
    pub fn token_kubeconfig(&self, token: &str) -> String {
        self.kubeconfig_in_vm(&json!({ "token": token }))
    }

    fn kubeconfig_in_vm(&self, user: &Value) -> String {
        let cluster = json!({
            "server": format!("https://{HOST_SEEN_FROM_VM}:{}", self.port.number()),
            "certificate-authority-data": base64::encode(self.authority.pem().as_bytes()),
        });
        kubeconfig(&cluster, user)
    }

    /// kubectl with a bearer token.
    pub fn with_token(&self, name: &str, token: &str) -> Result<Kubectl> {
        let path = self.write_kubeconfig(name, &json!({ "token": token }))?;
        Ok(Kubectl::new(&self.programs, &path))
    }

    /// A token of a service account, bound to a pod if one is named; such a token carries its node's name.
    pub fn token(&self, namespace: &str, account: &str, pod: Option<&str>) -> Result<String> {
        let namespace = format!("--namespace={namespace}");
        let mut arguments = vec!["create", "token", account, &namespace, "--duration=2h"];
        let bound = pod.map(|pod| format!("--bound-object-name={pod}"));
        if let Some(bound) = &bound {
            arguments.extend(["--bound-object-kind=Pod", bound]);
        }
        Ok(self.admin.run(&arguments)?.trim().to_owned())
    }

    pub(super) fn user_kubeconfig(&self, name: &str, user: &str, group: Option<&str>) -> Result<PathBuf> {
        let pair = self.authority.client(name, user, group)?;
        certificate_kubeconfig(self.folder.path(), name, self.port.number(), &pair)
    }

    fn write_kubeconfig(&self, name: &str, user: &Value) -> Result<PathBuf> {
        write_kubeconfig(self.folder.path(), name, self.port.number(), user)
    }
}

pub(super) fn certificate_kubeconfig(folder: &Path, name: &str, port: u16, pair: &Pair) -> Result<PathBuf> {
    write_kubeconfig(
        folder,
        name,
        port,
        &json!({ "client-certificate": pair.certificate, "client-key": pair.key }),
    )
}

fn write_kubeconfig(folder: &Path, name: &str, port: u16, user: &Value) -> Result<PathBuf> {
    let cluster = json!({
        "server": format!("https://{}:{port}", Ipv4Addr::LOCALHOST),
        "certificate-authority": folder.join("pki/ca.crt"),
    });
    let path = folder.join("kubeconfig").join(name);
    fs::write(&path, kubeconfig(&cluster, user)).with_context(|| format!("write {}", path.display()))?;
    Ok(path)
}

/// A kubeconfig file of one cluster and one user. JSON, which is YAML.
fn kubeconfig(cluster: &Value, user: &Value) -> String {
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": "rig", "cluster": cluster }],
        "users": [{ "name": "rig", "user": user }],
        "contexts": [{ "name": "rig", "context": { "cluster": "rig", "user": "rig" } }],
        "current-context": "rig",
    })
    .to_string()
}
