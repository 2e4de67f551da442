//! `LivepatchRollout`: one revision of a set on its way over the fleet. Made by the operator; people steer it by `spec.control`.

use crate::set::{Counts, Template};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Most failures that a status lists; the counts tell how many there are.
pub const MAX_FAILURES: usize = 10;
/// Most nodes that a rollout can leave out.
pub const MAX_EXCLUDED: usize = 100;
/// Most kernel builds that a status lists.
pub const MAX_KERNELS: usize = 20;

/// One revision of a LivepatchSet on its way over the fleet. The objects of a set are its history.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "livepatch.dev",
    version = "v1alpha1",
    kind = "LivepatchRollout",
    plural = "livepatchrollouts",
    shortname = "lpr",
    category = "livepatch",
    status = "LivepatchRolloutStatus",
    derive = "PartialEq",
    doc = "A LivepatchRollout is one revision of a LivepatchSet on its way over the fleet. The operator makes it; people write only spec.control.",
    printcolumn(name = "Set", type_ = "string", json_path = r".metadata.labels.livepatch\.dev/set"),
    printcolumn(
        name = "State",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].reason"#
    ),
    printcolumn(name = "Wave", type_ = "string", json_path = ".status.wave"),
    printcolumn(name = "Settled", type_ = "integer", json_path = ".status.counts.settled"),
    printcolumn(name = "In flight", type_ = "integer", json_path = ".status.counts.inFlight"),
    printcolumn(name = "Selected", type_ = "integer", json_path = ".status.counts.selected"),
    printcolumn(name = "Failed", type_ = "integer", json_path = ".status.counts.failed"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Blocked by", type_ = "string", json_path = ".status.blockedBy", priority = 1)
)]
#[serde(rename_all = "camelCase")]
pub struct LivepatchRolloutSpec {
    /// UID of the set. A set made anew under the same name has rollouts of its own.
    #[serde(rename = "setUID")]
    #[schemars(length(max = 36))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("setUID is immutable"))]
    pub set_uid: String,
    /// What is rolled out: the set's template when this revision was made.
    #[x_kube(validation = Rule::new("self == oldSelf").message("template is immutable: change the template of the LivepatchSet"))]
    pub template: Template,
    /// What people want done with this rollout.
    #[serde(default)]
    pub control: Control,
}

/// What people want done with a rollout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Control {
    /// Run: grants are given. Paused: none; nodes in flight finish. Aborted: as Paused, and for good: only another
    /// revision of the set goes on. `RolledBack`: the nodes that were reached go back to what they ran before, for good.
    #[serde(default)]
    #[x_kube(validation = Rule::new("oldSelf in ['Run', 'Paused'] || self in ['Aborted', 'RolledBack']").message("a rollout that was aborted or rolled back never goes on: change the template of the LivepatchSet"))]
    pub state: ControlState,
    /// The wave up to and including which a person lets the rollout pass, an empty one or one that awaits promotion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub promoted_through: Option<String>,
    /// Raised by a person to try failed nodes again.
    #[serde(default = "first_attempt")]
    #[schemars(range(min = 1))]
    #[x_kube(validation = Rule::new("self >= oldSelf").message("attempt only grows"))]
    pub attempt: i32,
    /// Nodes that this rollout leaves out: they get no grant, and nothing waits for them. What is loaded there stays.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100), inner(length(min = 1, max = 253)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub exclude_nodes: Vec<String>,
}

impl Default for Control {
    fn default() -> Self {
        Self {
            state: ControlState::Run,
            promoted_through: None,
            attempt: first_attempt(),
            exclude_nodes: Vec::new(),
        }
    }
}

impl Control {
    /// Whether the node of that name is left out.
    pub fn excludes(&self, node: &str) -> bool {
        self.exclude_nodes.iter().any(|excluded| excluded == node)
    }
}

fn first_attempt() -> i32 {
    1
}

/// Whether grants are given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ControlState {
    /// Grants are given.
    #[default]
    Run,
    /// No grant is given; nodes in flight finish.
    Paused,
    /// No grant is given any more; nodes in flight finish. It stays so: only another revision of the set goes on.
    Aborted,
    /// The nodes that were reached go back to what they ran before, within the same budgets. It stays so, or is aborted.
    RolledBack,
}

/// What the operator says of a rollout.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct LivepatchRolloutStatus {
    /// The generation of the spec this status speaks of.
    #[serde(default)]
    pub observed_generation: i64,
    /// Counts the starts of the set's rollouts; this one's latest. A set that returns to a former revision starts its
    /// rollout anew, and the waves below belong to this start.
    #[serde(default)]
    pub start: i64,
    /// Nodes by state.
    #[serde(default)]
    pub counts: Counts,
    /// The wave that is being served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub wave: Option<String>,
    /// One sentence: what the rollout waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub blocked_by: Option<String>,
    /// The waves, in order.
    #[serde(default)]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub waves: Vec<WaveStatus>,
    /// The kernel builds of the selected nodes, the most frequent ones.
    #[serde(default)]
    #[schemars(length(max = 20))]
    pub kernels: Vec<KernelStatus>,
    /// Nodes that failed, the first ones.
    #[serde(default)]
    #[schemars(length(max = 10))]
    pub failures: Vec<Failure>,
    /// How many failed in the present attempt, listed or not.
    #[serde(default)]
    pub failed: FailureTally,
    /// Whether failurePolicy began the way back; it is never turned round.
    #[serde(default)]
    pub rolling_back: bool,
    /// `Possible`, or why not, as far as the artefacts tell.
    #[serde(default)]
    #[schemars(length(max = 1024))]
    pub rollback: String,
    /// When a node last settled or failed, a wave went on or a person said something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_progress_time: Option<Time>,
    /// Accepted, Ready, Reconciling, Stalled, Complete, Degraded.
    #[serde(default)]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// Where a wave stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WaveStatus {
    /// Name of the wave.
    #[schemars(length(max = 63))]
    pub name: String,
    /// Where it stands.
    pub state: WaveState,
    /// Nodes of the wave.
    pub selected: i32,
    /// Nodes of the wave on which the livepatch is effective and which were healthy since.
    pub settled: i32,
    /// When the last node of the wave settled: the soak counts from here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settled_at: Option<Time>,
}

/// Where a wave stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum WaveState {
    /// A wave before it has not passed.
    Waiting,
    /// Its nodes are being served.
    Running,
    /// Its nodes have settled and are watched.
    Soaking,
    /// A person has to promote it.
    AwaitingPromotion,
    /// It takes no node, and a person has to promote it.
    Empty,
    /// Something failed.
    Halted,
    /// The next wave may begin.
    Passed,
}

/// One kernel build among the selected nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KernelStatus {
    /// `uname -r`.
    #[schemars(length(max = 64))]
    pub release: String,
    /// GNU build id of vmlinux.
    #[serde(rename = "buildID")]
    #[schemars(length(max = 64))]
    pub build_id: String,
    /// Whether the revision has a module for it.
    pub covered: bool,
    /// Nodes with that kernel.
    pub nodes: i32,
    /// Nodes with that kernel that have settled.
    pub settled: i32,
}

/// A node that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// Name of the node.
    #[schemars(length(max = 253))]
    pub node: String,
    /// Its wave.
    #[schemars(length(max = 63))]
    pub wave: String,
    /// The attempt that failed.
    pub attempt: i32,
    /// A reason code.
    #[schemars(length(max = 64))]
    pub reason: String,
    /// What happened, with errno and text where the kernel gave one.
    #[schemars(length(max = 256))]
    pub message: String,
    /// Whether it failed on the way back.
    #[serde(default, skip_serializing_if = "is_false")]
    pub back: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for this signature")]
fn is_false(value: &bool) -> bool {
    !*value
}

/// How many nodes failed in an attempt, by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct FailureTally {
    /// The attempt.
    pub attempt: i32,
    /// The livepatch was not loaded, or did not stay; the node runs on.
    pub refused: i32,
    /// The transition did not finish in its time.
    pub stalled: i32,
    /// The node crashed, rebooted, warned or was heard of no more.
    pub lost: i32,
    /// Whether these failed on the way back.
    pub back: bool,
}
