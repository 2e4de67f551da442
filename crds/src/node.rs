//! `NodeLivepatch`: what one node was granted, and what its kernel really runs. The operator writes spec, the node's agent status.

use crate::policy::GrantPolicy;
use crate::set::LivepatchType;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Most livepatches that a node may be granted, and most that its status lists.
pub const MAX_LIVEPATCHES: usize = 64;

/// What one node was granted, and what its kernel really runs. It has the name of its node.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "livepatch.dev",
    version = "v1alpha1",
    kind = "NodeLivepatch",
    plural = "nodelivepatches",
    shortname = "nlp",
    category = "livepatch",
    status = "NodeLivepatchStatus",
    derive = "PartialEq",
    doc = "A NodeLivepatch says what one node was granted (spec, by the operator) and what its kernel runs (status, by the node's agent).",
    printcolumn(name = "Kernel", type_ = "string", json_path = ".status.kernel.release"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].reason"#
    ),
    printcolumn(name = "Loaded", type_ = "integer", json_path = ".status.loadedCount"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Modules",
        type_ = "string",
        json_path = ".status.loaded[*].module",
        priority = 1
    ),
    printcolumn(name = "Agent", type_ = "string", json_path = ".status.agentVersion", priority = 1)
)]
#[serde(rename_all = "camelCase")]
pub struct NodeLivepatchSpec {
    /// UID of the node. A node made anew under the same name gets a new object.
    #[serde(rename = "nodeUID")]
    #[schemars(length(max = 64))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("nodeUID is immutable"))]
    pub node_uid: String,
    /// Why nothing may be changed on this node; empty if it may.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 256))]
    pub hold: String,
    /// The grants, in load order. An entry allows the agent to load one module; no entry means: leave alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub livepatches: Vec<Grant>,
}

/// Leave for one node to load one module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Grant {
    /// The set that asks for it.
    pub set: SetReference,
    /// Name of the rollout it belongs to.
    #[schemars(length(max = 253))]
    pub rollout: String,
    /// The wave in which it was given.
    #[schemars(length(max = 63))]
    pub wave: String,
    /// `<uid of the operator's Lease>/<its leaseTransitions>`: the leadership under which it was given.
    #[schemars(length(max = 64))]
    pub epoch: String,
    /// The attempt of the rollout for which it was given.
    #[schemars(range(min = 1))]
    pub attempt: i32,
    /// What the kernel shall hold.
    pub state: DesiredState,
    /// Cumulative or `OffBand`, as the set says.
    #[serde(rename = "type")]
    pub livepatch_type: LivepatchType,
    /// The module.
    pub module: ModuleReference,
    /// The module that the set had on this node before: brought to the node and checked before anything is changed, so
    /// that the way back needs nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<ModuleReference>,
    /// What the node may do on its own.
    #[serde(default, skip_serializing_if = "GrantPolicy::is_default")]
    pub policy: GrantPolicy,
    /// Boot of the node when this was given. Another one before the wave's soak ends counts as a failure.
    #[serde(rename = "bootID")]
    #[schemars(length(max = 36))]
    pub boot_id: String,
    /// Taints of the node's kernel when this was given. A new D, W or L before the wave's soak ends counts as a failure.
    #[schemars(length(max = 32))]
    pub kernel_taints: String,
    /// Time for the transition. Seconds.
    #[schemars(range(min = 30, max = 86400))]
    pub transition_timeout_seconds: i32,
    /// The start of the rollout for which it was given: status.start of the LivepatchRollout at that time.
    #[serde(default)]
    pub start: i64,
    /// Why the operator counts this grant as failed, whatever the node looks like later: a reason code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub failed: Option<String>,
    /// Whether this takes the node back to what it ran before the rollout.
    #[serde(default)]
    pub back: bool,
}

/// A LivepatchSet, told apart from another one of the same name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SetReference {
    /// Name of the set.
    #[schemars(length(max = 253))]
    pub name: String,
    /// UID of the set.
    #[schemars(length(max = 36))]
    pub uid: String,
}

/// What the kernel shall hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DesiredState {
    /// The livepatch is loaded and enabled.
    Loaded,
    /// It is disabled and its module is gone.
    Absent,
}

/// A module, by where it is and by what it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModuleReference {
    /// Name in the kernel's spelling.
    #[schemars(length(min = 1, max = 55))]
    pub name: String,
    /// Registry and repository that hold the manifest.
    #[schemars(length(max = 448))]
    pub repository: String,
    /// Digest of the module's manifest.
    #[schemars(length(max = 71), regex(pattern = r"^sha256:[a-f0-9]{64}$"))]
    pub digest: String,
    /// SHA-256 of the module file, hexadecimal.
    #[schemars(length(max = 64), regex(pattern = r"^[a-f0-9]{64}$"))]
    pub sha256: String,
    /// GNU build id of the module, hexadecimal.
    #[serde(rename = "buildID")]
    #[schemars(length(max = 64))]
    pub build_id: String,
    /// GNU build id of the vmlinux for which this was granted. The grant is void on any other.
    #[serde(rename = "kernelBuildID")]
    #[schemars(length(max = 64))]
    pub kernel_build_id: String,
}

/// What a node's agent says of its node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeLivepatchStatus {
    /// The generation of the spec that the agent last acted on.
    #[serde(default)]
    pub observed_generation: i64,
    /// Version of the agent.
    #[serde(default)]
    #[schemars(length(max = 32))]
    pub agent_version: String,
    /// Boot to which everything here belongs.
    #[serde(default, rename = "bootID")]
    #[schemars(length(max = 36))]
    pub boot_id: String,
    /// What the agent can do beyond loading, so that nothing is granted that it would not understand.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 32)))]
    pub features: Vec<String>,
    /// The running kernel.
    #[serde(default)]
    pub kernel: KernelIdentity,
    /// Taints of the kernel, as letters.
    #[serde(default)]
    #[schemars(length(max = 32))]
    pub kernel_taints: String,
    /// Livepatches that the kernel holds.
    #[serde(default)]
    pub loaded_count: i32,
    /// What became of each grant.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub livepatches: Vec<GrantStatus>,
    /// What the kernel holds, read from sysfs and build ids.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub loaded: Vec<LoadedLivepatch>,
    /// Ready, Degraded.
    #[serde(default)]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// A kernel, told apart from every other build.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct KernelIdentity {
    /// `uname -r`.
    #[schemars(length(max = 64))]
    pub release: String,
    /// GNU build id of vmlinux, hexadecimal; empty if it cannot be read.
    #[serde(rename = "buildID")]
    #[schemars(length(max = 64))]
    pub build_id: String,
    /// Architecture as OCI names it, such as `amd64`.
    #[schemars(length(max = 16))]
    pub architecture: String,
}

/// What became of a grant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GrantStatus {
    /// Name of the set.
    #[schemars(length(max = 253))]
    pub set: String,
    /// Name of the rollout.
    #[schemars(length(max = 253))]
    pub rollout: String,
    /// The attempt.
    pub attempt: i32,
    /// How far it came.
    pub result: GrantResult,
    /// A reason code.
    #[schemars(length(max = 64))]
    pub reason: String,
    /// What happened, with errno and text where the kernel gave one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 256))]
    pub message: String,
    /// Tasks that keep a transition from finishing, the first ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 5))]
    pub blockers: Vec<Blocker>,
    /// How long this livepatch was out of effect, wholly or for some tasks, when another one was last loaded or it was
    /// exchanged. Milliseconds; absent if it never was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gap_milliseconds: Option<i64>,
}

/// How far a grant came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum GrantResult {
    /// Not started; the reason says what it waits for.
    Pending,
    /// Started; the kernel is switching its tasks over.
    Transitioning,
    /// Loaded, enabled and effective, as sysfs and the build id say.
    Loaded,
    /// The cumulative livepatch in effect contains it and says so.
    Superseded,
    /// Not in the kernel, as asked.
    Absent,
    /// Failed; the kernel runs what it ran before, or the message says what else.
    Failed,
}

/// A task that keeps a transition from finishing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Blocker {
    /// Process id in the node's own namespace.
    pub pid: i32,
    /// Name of the task.
    #[schemars(length(max = 16))]
    pub comm: String,
    /// UID of its pod, where it has one.
    #[serde(rename = "podUID", default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub pod_uid: Option<String>,
}

/// A livepatch that the kernel holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LoadedLivepatch {
    /// Name in the kernel's spelling.
    #[schemars(length(max = 64))]
    pub module: String,
    /// GNU build id of the module; empty if it cannot be read.
    #[serde(rename = "buildID")]
    #[schemars(length(max = 64))]
    pub build_id: String,
    /// Whose it is.
    pub owner: Owner,
    /// Name of the set, if it is a set's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub set: Option<String>,
    /// Whether the kernel means it to be in effect.
    pub enabled: bool,
    /// Whether the kernel is switching tasks to or from it.
    pub transition: bool,
    /// Functions it replaces; not told during a transition, when the kernel's list is wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub function_count: Option<i32>,
}

/// Whose a loaded livepatch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Owner {
    /// A LivepatchSet asks for it.
    Set,
    /// This operator loaded it, and no set asks for it any more.
    Retained,
    /// Somebody else loaded it.
    Foreign,
}
