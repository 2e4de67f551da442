//! The chart, installed by Helm in a control plane of its own, and callers with the identities of a cluster.
//!
//! Does IO. The control plane runs the controllers too: garbage collection and the type check of policies are theirs.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use livepatch_rig::control_plane::{ControlPlane, Options};
use livepatch_rig::diagnostics::KeepOnPanic;
use livepatch_rig::helm::Helm;
use livepatch_rig::http::{self, Method};
use livepatch_rig::progress::{Waited, wait_for};
use serde_json::{Value, json};

/// Where the chart is installed.
pub const NAMESPACE: &str = "livepatch-system";
/// Path of the API group.
pub const GROUP: &str = "/apis/livepatch.dev/v1alpha1";
/// A digest of the right form.
pub const DIGEST: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

const RELEASE: &str = "livepatch-operator";

/// The folder of the chart.
pub fn chart() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../charts/livepatch-operator")
}

/// The least that has to be said to install it.
pub fn values() -> Value {
    let image = |name: &str| json!({"repository": format!("registry.example.com/{name}"), "digest": DIGEST});
    json!({
        "allowedRepositories": ["registry.example.com/livepatches"],
        "operator": {"image": image("livepatch-operator")},
        "agent": {"image": image("livepatch-agent")},
    })
}

/// A name that no other test uses.
pub fn fresh(what: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("{what}-{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

/// A control plane with the chart installed and its policies in force.
#[derive(Debug)]
pub struct Installed {
    plane: &'static ControlPlane,
    _keep: KeepOnPanic<'static>,
}

impl Installed {
    /// The one that the tests of this process share.
    pub fn shared() -> Self {
        static PLANE: LazyLock<ControlPlane> = LazyLock::new(|| {
            let plane = ControlPlane::start(Options {
                name: "installed".to_owned(),
                controllers: true,
                ..Options::api_only()
            })
            .unwrap();
            install(&plane);
            plane
        });
        Self {
            plane: &PLANE,
            _keep: KeepOnPanic(&PLANE),
        }
    }

    pub fn plane(&self) -> &'static ControlPlane {
        self.plane
    }

    /// The operator, by a token of its service account.
    pub fn operator(&self) -> Caller {
        self.account(NAMESPACE, RELEASE, None)
    }

    /// Somebody with every right, as a cluster administrator has.
    pub fn admin(&self) -> Caller {
        self.account(NAMESPACE, "administrator", None)
    }

    /// A service account, by a token that is bound to a pod if one is named.
    pub fn account(&self, namespace: &str, account: &str, pod: Option<&str>) -> Caller {
        let token = self.plane.token(namespace, account, pod).unwrap();
        Caller::new(self.plane, &token)
    }

    /// A person with one of the chart's roles, or another cluster role.
    pub fn person(&self, role: &str) -> Caller {
        let name = fresh(role);
        let kubectl = self.plane.admin();
        let account = format!("--serviceaccount=default:{name}");
        kubectl
            .run(&["--namespace=default", "create", "serviceaccount", &name])
            .unwrap();
        kubectl
            .run(&["create", "clusterrolebinding", &name, "--clusterrole", role, &account])
            .unwrap();
        self.account("default", &name, None)
    }

    /// A node, a pod of the agent bound to it, and a `NodeLivepatch` made by the operator: all that a kubelet and the
    /// controllers would have brought about. Returns the node's UID.
    pub fn node(&self, name: &str) -> String {
        let uid = self.bare_node(name);
        self.plane.admin().create(&agent_pod(name).to_string()).unwrap();
        let mut object = node_livepatch(name, &uid);
        object["metadata"]["ownerReferences"] = json!([{"apiVersion": "v1", "kind": "Node", "name": name, "uid": uid}]);
        self.operator().accepted(Method::POST, "nodelivepatches", &object);
        uid
    }

    /// A node alone; returns its UID.
    pub fn bare_node(&self, name: &str) -> String {
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}});
        self.plane.admin().create(&node.to_string()).unwrap();
        let node = self.plane.admin().get(&["node", name]).unwrap();
        node["metadata"]["uid"].as_str().unwrap().to_owned()
    }

    /// The agent of a node that [`Self::node`] made.
    pub fn agent(&self, node: &str) -> Caller {
        self.account(NAMESPACE, "livepatch-agent", Some(&pod_name(node)))
    }
}

/// Installs the chart and waits until the API server acts on its policies.
pub fn install(plane: &ControlPlane) {
    let helm = Helm::new(plane.admin()).unwrap();
    helm.upgrade_install(RELEASE, &chart(), NAMESPACE, &values().to_string(), None)
        .unwrap();
    let kubectl = plane.admin();
    kubectl
        .run(&["create", "serviceaccount", "administrator", "--namespace", NAMESPACE])
        .unwrap();
    let account = format!("--serviceaccount={NAMESPACE}:administrator");
    kubectl
        .run(&[
            "create",
            "clusterrolebinding",
            "administrator",
            "--clusterrole=cluster-admin",
            &account,
        ])
        .unwrap();
    // A policy is in force when the API server's own watch has brought it.
    let admin = Caller::new(plane, &plane.token(NAMESPACE, "administrator", None).unwrap());
    for (plural, object) in [
        ("nodelivepatches", node_livepatch("probe", "probe")),
        ("livepatchrollouts", rollout("probe")),
    ] {
        wait_for(&format!("the policy for {plural}"), Duration::from_mins(1), || {
            let path = format!("{GROUP}/{plural}?dryRun=All");
            Ok(match admin.send(Method::POST, &path, &object) {
                Err(refusal) if refusal.code == 403 => Waited::Ready(()),
                other => Waited::NotYet(format!("{other:?}")),
            })
        })
        .unwrap();
    }
}

fn pod_name(node: &str) -> String {
    format!("livepatch-agent-{node}")
}

fn agent_pod(node: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": pod_name(node), "namespace": NAMESPACE},
        "spec": {
            "nodeName": node,
            "serviceAccountName": "livepatch-agent",
            "automountServiceAccountToken": false,
            "containers": [{"name": "agent", "image": "registry.example.com/agent"}],
        },
    })
}

/// A set that says no more than it must.
pub fn set(name: &str) -> Value {
    json!({
        "apiVersion": "livepatch.dev/v1alpha1",
        "kind": "LivepatchSet",
        "metadata": {"name": name},
        "spec": {"type": "OffBand", "nodeSelector": {}, "template": template()},
    })
}

/// What a set rolls out.
pub fn template() -> Value {
    json!({"source": {"oci": {"reference": format!("registry.example.com/livepatches/a@{DIGEST}")}}})
}

/// A rollout that says no more than it must.
pub fn rollout(name: &str) -> Value {
    json!({
        "apiVersion": "livepatch.dev/v1alpha1",
        "kind": "LivepatchRollout",
        "metadata": {"name": name, "labels": {"livepatch.dev/set": "a"}},
        "spec": {"setUID": "1234", "template": template()},
    })
}

/// A node without grants. Owned by nobody: the garbage collector would look for the owner.
pub fn node_livepatch(name: &str, uid: &str) -> Value {
    json!({
        "apiVersion": "livepatch.dev/v1alpha1",
        "kind": "NodeLivepatch",
        "metadata": {"name": name},
        "spec": {"nodeUID": uid},
    })
}

/// A grant as the operator writes it.
pub fn grant() -> Value {
    json!({
        "set": {"name": "a", "uid": "1234"},
        "rollout": "a-0123456789",
        "wave": "canary",
        "epoch": "uid/1",
        "attempt": 1,
        "state": "Loaded",
        "type": "OffBand",
        "module": {
            "name": "lp_a",
            "repository": "registry.example.com/livepatches/a",
            "digest": DIGEST,
            "sha256": &DIGEST["sha256:".len()..],
            "buildID": "b1",
            "kernelBuildID": "c1",
        },
        "bootID": "boot",
        "kernelTaints": "OE",
        "transitionTimeoutSeconds": 300,
    })
}

/// What the API server said no with.
#[derive(Debug)]
pub struct Refusal {
    pub code: u16,
    pub message: String,
}

/// One identity, sending single requests: what comes back is what the API server says, with no client's retries and
/// checks in between.
#[derive(Debug)]
pub struct Caller {
    url: String,
    client: http::Client,
}

impl Caller {
    pub fn new(plane: &ControlPlane, token: &str) -> Self {
        let client = http::Client::new(Some(plane.authority().pem()), Duration::from_mins(1)).unwrap();
        Self {
            url: plane.url(),
            client: client.with_token(token),
        }
    }

    /// A request with a JSON body, a merge patch if it is a PATCH; none for null.
    pub fn send(&self, method: Method, path: &str, body: &Value) -> Result<Value, Refusal> {
        let media_type = if method == Method::PATCH {
            "application/merge-patch+json"
        } else {
            "application/json"
        };
        self.send_as(method, path, media_type, body)
    }

    /// A server-side apply.
    pub fn apply(&self, path: &str, object: &Value) -> Result<Value, Refusal> {
        let path = format!("{path}?fieldManager=test&force=true&fieldValidation=Strict");
        self.send_as(Method::PATCH, &path, "application/apply-patch+yaml", object)
    }

    /// The answer as it is, to a request with a JSON body; none for null.
    pub fn answer(&self, method: Method, path: &str, media_type: &str, body: &Value) -> http::Answer {
        let url = format!("{}{path}", self.url);
        let (media_type, body) = match body {
            Value::Null => ("", Vec::new()),
            body => (media_type, body.to_string().into_bytes()),
        };
        self.client.send(method, &url, media_type, &body).unwrap()
    }

    fn send_as(&self, method: Method, path: &str, media_type: &str, body: &Value) -> Result<Value, Refusal> {
        let answer = self.answer(method, path, media_type, body);
        let told: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        if (200..300).contains(&answer.status) {
            return Ok(told);
        }
        let message = told["message"].as_str().map_or_else(|| answer.text(), str::to_owned);
        Err(Refusal {
            code: answer.status,
            message,
        })
    }

    pub fn get(&self, object: &str) -> Value {
        self.send(Method::GET, &format!("{GROUP}/{object}"), &Value::Null)
            .unwrap()
    }

    /// A write of the API group, with unknown fields refused, which has to succeed.
    pub fn accepted(&self, method: Method, object: &str, body: &Value) -> Value {
        self.send(method, &strict(object), body)
            .unwrap_or_else(|refusal| panic!("{object} was refused: {refusal:?}\n{body}"))
    }

    /// A write of the API group, with unknown fields refused, which has to be refused.
    pub fn refused(&self, method: Method, object: &str, body: &Value) -> Refusal {
        match self.send(method, &strict(object), body) {
            Ok(told) => panic!("{object} was not refused: {told}"),
            Err(refusal) => refusal,
        }
    }

    /// A write that the policy `policy` has to refuse, with `message` in what it says.
    pub fn forbidden(&self, method: Method, object: &str, body: &Value, policy: &str, message: &str) {
        let refusal = self.refused(method, object, body);
        refused_by(&refusal, policy, message);
    }
}

/// Whether it was that policy, in these words.
pub fn refused_by(refusal: &Refusal, policy: &str, message: &str) {
    assert_eq!(refusal.code, 403, "{refusal:?}");
    let by = format!("ValidatingAdmissionPolicy '{policy}'");
    assert!(
        refusal.message.contains(&by) && refusal.message.contains(message),
        "not refused by {policy} with {message:?}: {refusal:?}"
    );
}

fn strict(object: &str) -> String {
    format!("{GROUP}/{object}?fieldValidation=Strict")
}
