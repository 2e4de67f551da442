//! Watched objects cut down to what the operator uses. Pure.
//!
//! An object which cannot be decoded is kept as what it is, unreadable, and not left out: a node whose grants cannot be
//! read may hold some.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{NodeCondition, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::{DeserializeGuard, Object};
use kube::{Resource, ResourceExt};
use livepatch_crds::bounded::{MAX_MESSAGE, bounded};
use livepatch_crds::{
    LivepatchRollout, LivepatchRolloutSpec, LivepatchRolloutStatus, LivepatchSet, LivepatchSetSpec, LivepatchSetStatus,
    NodeLivepatch, NodeLivepatchSpec, NodeLivepatchStatus, SET_LABEL,
};
use serde::Deserialize;
use std::collections::BTreeMap;

/// An object as it was seen.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen<T> {
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
    /// Its version: within one kind the greater one is the later one (Kubernetes 1.35 and later say so, all storage so
    /// far has been so).
    pub version: u64,
    /// Generation of the spec.
    pub generation: i64,
    /// When it was made.
    pub created: Timestamp,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// The rest, or why it cannot be read.
    pub content: Result<T, String>,
}

/// What the operator keeps of one kind of object.
pub trait Content: Sized + Clone + Send + Sync + 'static {
    /// The object as the API server sends it.
    type Object: Resource + Clone + Send + 'static;

    /// Keeps what is used.
    fn of(object: Self::Object) -> Self;
}

impl<T: Content> Seen<T> {
    /// From an object that was decoded.
    pub fn of(object: T::Object) -> Self {
        let mut seen = Seen::<()>::of_meta(object.meta());
        let content = std::mem::replace(&mut seen.content, Ok(())).map(|()| T::of(object));
        seen.with(content)
    }

    /// From an object that may not have been decoded.
    pub fn of_guarded(object: DeserializeGuard<T::Object>) -> Self {
        match object.0 {
            Ok(object) => Self::of(object),
            Err(invalid) => {
                let error = bounded(&invalid.error, MAX_MESSAGE);
                Seen::<()>::of_meta(&invalid.metadata).with(Err(error))
            }
        }
    }
}

impl Seen<()> {
    fn of_meta(meta: &ObjectMeta) -> Self {
        let version = meta.resource_version.as_deref().unwrap_or_default();
        Self {
            name: meta.name.clone().unwrap_or_default(),
            uid: meta.uid.clone().unwrap_or_default(),
            version: version.parse().unwrap_or(0),
            generation: meta.generation.unwrap_or(0),
            created: meta
                .creation_timestamp
                .as_ref()
                .map_or(Timestamp::UNIX_EPOCH, |time| time.0),
            deleting: meta.deletion_timestamp.is_some(),
            content: version
                .parse::<u64>()
                .map(|_| ())
                .map_err(|_| format!("its resourceVersion {version:?} is not a number")),
        }
    }

    fn with<T>(self, content: Result<T, String>) -> Seen<T> {
        // Without `..`: a new field cannot be forgotten.
        let Self {
            name,
            uid,
            version,
            generation,
            created,
            deleting,
            content: _,
        } = self;
        Seen {
            name,
            uid,
            version,
            generation,
            created,
            deleting,
            content,
        }
    }
}

/// What is kept of a LivepatchSet.
#[derive(Clone, Debug, PartialEq)]
pub struct SetContent {
    /// Spec.
    pub spec: LivepatchSetSpec,
    /// Status.
    pub status: LivepatchSetStatus,
}

impl Content for SetContent {
    type Object = LivepatchSet;

    fn of(object: LivepatchSet) -> Self {
        Self {
            spec: object.spec,
            status: object.status.unwrap_or_default(),
        }
    }
}

/// What is kept of a LivepatchRollout.
#[derive(Clone, Debug, PartialEq)]
pub struct RolloutContent {
    /// Name of its set, as its label says.
    pub set: String,
    /// Spec.
    pub spec: LivepatchRolloutSpec,
    /// Status.
    pub status: LivepatchRolloutStatus,
}

impl Content for RolloutContent {
    type Object = LivepatchRollout;

    fn of(object: LivepatchRollout) -> Self {
        Self {
            set: object.labels().get(SET_LABEL).cloned().unwrap_or_default(),
            spec: object.spec,
            status: object.status.unwrap_or_default(),
        }
    }
}

/// What is kept of a NodeLivepatch.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeObjectContent {
    /// Spec.
    pub spec: NodeLivepatchSpec,
    /// Status.
    pub status: NodeLivepatchStatus,
}

impl Content for NodeObjectContent {
    type Object = NodeLivepatch;

    fn of(object: NodeLivepatch) -> Self {
        Self {
            spec: object.spec,
            status: object.status.unwrap_or_default(),
        }
    }
}

/// A Node as far as it is decoded: most of a real one (images, addresses, annotations) is never looked at.
pub type ApiNode = Object<ApiNodeSpec, ApiNodeStatus>;

/// The decoded part of a Node's spec.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct ApiNodeSpec {
    /// Taints.
    #[serde(default)]
    pub taints: Option<Vec<Taint>>,
}

/// The decoded part of a Node's status.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ApiNodeStatus {
    /// Conditions.
    #[serde(default)]
    pub conditions: Option<Vec<NodeCondition>>,
    /// What the kubelet tells of the system.
    #[serde(default)]
    pub node_info: Option<ApiNodeInfo>,
}

/// The decoded part of what the kubelet tells of the system.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ApiNodeInfo {
    /// Boot id.
    #[serde(default, rename = "bootID")]
    pub boot_id: String,
    /// `linux` or `windows`.
    #[serde(default)]
    pub operating_system: String,
}

/// What is kept of a Node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeContent {
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Boot that the kubelet reports.
    pub boot_id: String,
    /// The condition Ready is True and no taint says otherwise.
    pub ready: bool,
    /// It runs Linux.
    pub linux: bool,
}

/// Label that the kubelet sets to the operating system.
const OS_LABEL: &str = "kubernetes.io/os";
/// Taints by which Kubernetes says that a node does not work or is not heard of.
const NOT_READY_TAINTS: [&str; 2] = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];

impl Content for NodeContent {
    type Object = ApiNode;

    fn of(object: ApiNode) -> Self {
        let labels = object.metadata.labels.unwrap_or_default();
        let status = object.status.unwrap_or_default();
        let info = status.node_info.unwrap_or_default();
        let told_ready = status
            .conditions
            .iter()
            .flatten()
            .any(|condition| condition.type_ == "Ready" && condition.status == "True");
        let tainted = object
            .spec
            .taints
            .iter()
            .flatten()
            .any(|taint| NOT_READY_TAINTS.contains(&taint.key.as_str()));
        let label = labels.get(OS_LABEL).map(String::as_str);
        let linux = match (info.operating_system.as_str(), label) {
            // The kubelet's word goes before a label, which people can write.
            ("", label) => label == Some("linux"),
            (system, _) => system == "linux",
        };
        Self {
            labels,
            boot_id: info.boot_id,
            ready: told_ready && !tainted,
            linux,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn node(value: Value) -> NodeContent {
        let guarded: DeserializeGuard<ApiNode> = serde_json::from_value(value).unwrap();
        Seen::<NodeContent>::of_guarded(guarded).content.unwrap()
    }

    fn real_node() -> Value {
        json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": {"name": "a", "uid": "u", "resourceVersion": "7", "labels": {"kubernetes.io/os": "linux", "pool": "canary"}},
            "spec": {"podCIDR": "10.1.0.0/24"},
            "status": {
                "conditions": [{"type": "MemoryPressure", "status": "False"}, {"type": "Ready", "status": "True"}],
                "nodeInfo": {"bootID": "b", "operatingSystem": "linux", "kernelVersion": "6.1.0"},
                "images": [{"names": ["x"], "sizeBytes": 1}],
            },
        })
    }

    #[test]
    fn a_node_is_ready_when_it_says_so_and_no_taint_says_otherwise() {
        let seen = node(real_node());
        assert!(seen.ready && seen.linux);
        assert_eq!((seen.boot_id.as_str(), seen.labels["pool"].as_str()), ("b", "canary"));

        for taint in NOT_READY_TAINTS {
            let mut tainted = real_node();
            tainted["spec"]["taints"] = json!([{"key": taint, "effect": "NoExecute"}]);
            assert!(!node(tainted).ready, "{taint}");
        }
        let mut cordoned = real_node();
        cordoned["spec"]["taints"] = json!([{"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}]);
        assert!(node(cordoned).ready, "a cordoned node is served");
        let mut unknown = real_node();
        unknown["status"]["conditions"][1]["status"] = json!("Unknown");
        assert!(!node(unknown).ready);
    }

    #[test]
    fn a_node_that_has_not_reported_is_neither_ready_nor_linux() {
        let seen = node(json!({"metadata": {"name": "a", "uid": "u", "resourceVersion": "7"}, "spec": {}}));
        assert!(!seen.ready && !seen.linux);
    }

    #[test]
    fn the_kubelet_knows_the_operating_system_better_than_a_label() {
        let mut windows = real_node();
        windows["status"]["nodeInfo"]["operatingSystem"] = json!("windows");
        assert!(!node(windows).linux);
        let mut silent = real_node();
        silent["status"]["nodeInfo"]["operatingSystem"] = json!("");
        assert!(node(silent).linux);
    }

    #[test]
    fn what_cannot_be_decoded_is_kept_as_unreadable() {
        let broken = json!({
            "metadata": {"name": "a", "uid": "u", "resourceVersion": "7"},
            "spec": {"nodeUID": 3},
        });
        let guarded: DeserializeGuard<NodeLivepatch> = serde_json::from_value(broken).unwrap();
        let seen = Seen::<NodeObjectContent>::of_guarded(guarded);
        assert_eq!((seen.name.as_str(), seen.uid.as_str(), seen.version), ("a", "u", 7));
        assert!(seen.content.is_err());
    }

    #[test]
    fn a_version_that_is_no_number_is_unreadable() {
        let odd = json!({"metadata": {"name": "a", "uid": "u", "resourceVersion": "x"}, "spec": {"nodeUID": "u"}});
        let guarded: DeserializeGuard<NodeLivepatch> = serde_json::from_value(odd).unwrap();
        let seen = Seen::<NodeObjectContent>::of_guarded(guarded);
        assert!(seen.content.unwrap_err().contains("resourceVersion"));
    }
}
