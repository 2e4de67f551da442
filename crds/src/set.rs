//! `LivepatchSet`: which nodes get which livepatch, and how it reaches them. People and GitOps write its spec.

use crate::concurrency::IntOrPercent;
use crate::policy::{Drift, ForeignPolicy, GrantPolicy, OffBandPolicy, RemovalPolicy, SupersededSet, TimeoutPolicy};
use crate::selector::NodeSelector;
use crate::tolerance::Tolerance;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Most waves a set may name. With the wave [`REST`] a rollout has at most 16.
pub const MAX_WAVES: usize = 15;
/// The last wave of every rollout: the nodes that no named wave takes.
pub const REST: &str = "rest";

/// Which nodes get which livepatch, and how it reaches them.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "livepatch.dev",
    version = "v1alpha1",
    kind = "LivepatchSet",
    plural = "livepatchsets",
    shortname = "lps",
    category = "livepatch",
    status = "LivepatchSetStatus",
    derive = "PartialEq",
    doc = "A LivepatchSet says which nodes get which kernel livepatch, and how it is rolled out to them.",
    validation = Rule::new("!has(self.spec.template.offBand) || self.spec.type == 'OffBand'").message("template.offBand is for sets of type OffBand"),
    validation = Rule::new("!has(self.spec.template.cumulative) || self.spec.type == 'Cumulative'").message("template.cumulative is for sets of type Cumulative"),
    validation = Rule::new("size(self.metadata.name) <= 52").message("the name of a LivepatchSet has at most 52 characters, so that its rollouts can be named after it"),
    printcolumn(name = "Type", type_ = "string", json_path = ".spec.type"),
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Reason", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].reason"#),
    printcolumn(name = "Settled", type_ = "integer", json_path = ".status.counts.settled"),
    printcolumn(name = "Selected", type_ = "integer", json_path = ".status.counts.selected"),
    printcolumn(name = "Failed", type_ = "integer", json_path = ".status.counts.failed"),
    printcolumn(name = "Wave", type_ = "string", json_path = ".status.wave"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Blocked by", type_ = "string", json_path = ".status.blockedBy", priority = 1),
    printcolumn(name = "Revision", type_ = "string", json_path = ".status.updateRevision", priority = 1)
)]
#[serde(rename_all = "camelCase")]
pub struct LivepatchSetSpec {
    /// `Cumulative`: the one livepatch that carries all fixes of a kernel build. `OffBand`: a further fix for some nodes.
    #[serde(rename = "type")]
    #[x_kube(validation = Rule::new("self == oldSelf").message("type is immutable: make another LivepatchSet"))]
    pub livepatch_type: LivepatchType,
    /// The nodes that are meant. `{}` is every node.
    pub node_selector: NodeSelector,
    /// What is rolled out. A change of it is a new revision, which gets a rollout of its own.
    pub template: Template,
    /// How it is rolled out. A change of it takes effect at once and is no new revision.
    #[serde(default)]
    pub rollout: RolloutStrategy,
    /// How long a node may take to switch its tasks over.
    #[serde(default)]
    pub transition: TransitionPolicy,
    /// What follows when somebody disables the livepatch on a node by hand.
    #[serde(default)]
    pub drift: Drift,
    /// What follows when loading it would throw out livepatches that are not this operator's.
    #[serde(default)]
    pub foreign_policy: ForeignPolicy,
    /// What follows on nodes that are selected no longer.
    #[serde(default)]
    pub removal_policy: RemovalPolicy,
    /// How many rollouts of former revisions are kept.
    #[serde(default = "default_revision_history_limit")]
    #[schemars(range(min = 1, max = 100))]
    pub revision_history_limit: i32,
}

impl LivepatchSetSpec {
    /// What the nodes of this set may do on their own, by a template of one of its revisions.
    pub fn grant_policy(&self, template: &Template) -> GrantPolicy {
        GrantPolicy {
            timeout_policy: self.transition.timeout_policy,
            drift: self.drift,
            foreign_policy: self.foreign_policy,
            off_band: template.off_band.unwrap_or_default(),
            supersedes: template
                .cumulative
                .as_ref()
                .map(|cumulative| cumulative.supersedes.clone())
                .unwrap_or_default(),
        }
    }
}

/// How a livepatch relates to the others on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum LivepatchType {
    /// The one livepatch of a node that carries all fixes of its kernel build.
    Cumulative,
    /// A livepatch beside the cumulative one, for a part of the fleet. Its module must not have the replace flag.
    OffBand,
}

/// What is rolled out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Template {
    /// Where the modules come from.
    pub source: Source,
    /// For a set of type `OffBand`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub off_band: Option<OffBandPolicy>,
    /// For a set of type `Cumulative`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cumulative: Option<CumulativeTemplate>,
}

/// What is particular to a cumulative livepatch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct CumulativeTemplate {
    /// Off-band modules that it contains: they give way to it, and come back when it is rolled back.
    #[schemars(length(max = 8))]
    pub supersedes: Vec<SupersededSet>,
}

/// Where the modules come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Source {
    /// An OCI index with one manifest per kernel build, as `kubectl livepatch push` makes it.
    pub oci: OciSource,
}

/// An OCI index in a registry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct OciSource {
    /// `registry/repository@sha256:…`. A tag is refused, because what it names can change.
    #[schemars(length(max = 512))]
    #[x_kube(validation = Rule::new(
        r"self.matches('^[a-zA-Z0-9]([a-zA-Z0-9.-]*[a-zA-Z0-9])?(:[0-9]{1,5})?(/[a-z0-9]+([._-]+[a-z0-9]+)*)+@sha256:[a-f0-9]{64}$')"
    ).message("must name an OCI index by its digest, as registry/repository@sha256:<64 hex digits>; a tag is refused, because what it names can change"))]
    pub reference: String,
}

/// How a livepatch reaches its nodes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutStrategy {
    /// The waves, in order. A node belongs to the first wave that takes it; all others form a last wave `rest`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 15))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub waves: Vec<Wave>,
    /// Most nodes in flight at once over all waves: an integer, or a percentage of the selected nodes, rounded up.
    #[serde(default = "default_max_concurrent")]
    pub max_concurrent: IntOrPercent,
    /// So many nodes may crash, be lost or refuse the load before the rollout halts: an integer, or a percentage of the
    /// selected nodes, rounded down. Counted over all waves, from the start or the last retry.
    #[serde(default = "default_max_failed")]
    pub max_failed: Tolerance,
    /// On so many nodes the transition may stall before the rollout halts: as maxFailed, and counted apart.
    #[serde(default = "default_max_stalled")]
    pub max_stalled: Tolerance,
    /// What follows when more failed than is borne.
    #[serde(default)]
    pub failure_policy: FailurePolicy,
    /// A rollout that has to move and did not for that long is told as Stalled; it goes on as soon as it can. Seconds.
    #[serde(default = "default_progress_deadline_seconds")]
    #[schemars(range(min = 60, max = 2_592_000))]
    pub progress_deadline_seconds: i32,
    /// A node holds its slot until it was healthy for that long after the livepatch took effect. Seconds.
    #[serde(default = "default_min_ready_seconds")]
    #[schemars(range(min = 0, max = 86400))]
    pub min_ready_seconds: i32,
}

impl Default for RolloutStrategy {
    fn default() -> Self {
        Self {
            waves: Vec::new(),
            max_concurrent: default_max_concurrent(),
            max_failed: default_max_failed(),
            max_stalled: default_max_stalled(),
            failure_policy: FailurePolicy::default(),
            progress_deadline_seconds: default_progress_deadline_seconds(),
            min_ready_seconds: default_min_ready_seconds(),
        }
    }
}

/// What follows when more failed than is borne.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum FailurePolicy {
    /// Nothing more is granted, until a person says otherwise.
    #[default]
    Halt,
    /// The nodes that were reached go back to what they ran before, within the same budgets, and the rollout ends there.
    RollBack,
}

/// A part of the nodes that is served before the next part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.nodeSelector) != has(self.percent)").message("a wave has either a nodeSelector or a percent"))]
pub struct Wave {
    /// Name of the wave, unique within the set. `rest` is the name of the last wave and not to be used.
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$') && self != 'rest'").message("must be a DNS label, and not rest, which is the wave of all other nodes"))]
    pub name: String,
    /// Takes the nodes it matches, of those that no wave before took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_selector: Option<NodeSelector>,
    /// Takes that share of all selected nodes, of those that no wave before took; the choice is stable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub percent: Option<i32>,
    /// Most nodes of this wave in flight at once; a percentage is of all selected nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_concurrent: Option<IntOrPercent>,
    /// So many nodes must have settled before the wave can pass.
    #[serde(default = "default_min_succeeded")]
    #[schemars(range(min = 1))]
    pub min_succeeded: i32,
    /// How long all is watched after the last node of the wave settled. Seconds, at most 30 days.
    #[serde(default)]
    #[schemars(range(min = 0, max = 2_592_000))]
    pub soak_seconds: i32,
    /// What follows the soak.
    #[serde(default)]
    pub then: Then,
}

/// What follows the soak of a wave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Then {
    /// The next wave begins.
    #[default]
    Continue,
    /// A person promotes the wave, by `spec.control.promotedThrough` of the rollout.
    AwaitPromotion,
}

/// How long a node may take to switch its tasks over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TransitionPolicy {
    /// Time for the transition. Seconds.
    #[serde(default = "default_timeout_seconds")]
    #[schemars(range(min = 30, max = 86400))]
    pub timeout_seconds: i32,
    /// What follows when it did not finish within that time.
    #[serde(default)]
    pub timeout_policy: TimeoutPolicy,
}

impl Default for TransitionPolicy {
    fn default() -> Self {
        Self {
            timeout_seconds: default_timeout_seconds(),
            timeout_policy: TimeoutPolicy::default(),
        }
    }
}

fn default_revision_history_limit() -> i32 {
    10
}

fn default_max_concurrent() -> IntOrPercent {
    IntOrPercent::Percent("10%".to_owned())
}

fn default_max_failed() -> Tolerance {
    Tolerance::Int(0)
}

fn default_max_stalled() -> Tolerance {
    Tolerance::Percent("5%".to_owned())
}

fn default_progress_deadline_seconds() -> i32 {
    7200
}

fn default_min_ready_seconds() -> i32 {
    60
}

fn default_min_succeeded() -> i32 {
    1
}

fn default_timeout_seconds() -> i32 {
    300
}

/// What the operator says of a set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct LivepatchSetStatus {
    /// The generation of the spec this status speaks of.
    #[serde(default)]
    pub observed_generation: i64,
    /// The revision that was last rolled out completely.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 10))]
    pub current_revision: Option<String>,
    /// The revision that the spec asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 10))]
    pub update_revision: Option<String>,
    /// Name of the LivepatchRollout of that revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub rollout: Option<String>,
    /// The rollout that was started last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<Start>,
    /// The wave that is being served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub wave: Option<String>,
    /// One sentence: what the rollout waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub blocked_by: Option<String>,
    /// Nodes by state.
    #[serde(default)]
    pub counts: Counts,
    /// Accepted, Ready, Reconciling, Stalled, Complete, Degraded.
    #[serde(default)]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// The latest start of a set's rollouts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Start {
    /// Name of the rollout.
    #[schemars(length(max = 63))]
    pub rollout: String,
    /// Counts the starts.
    pub number: i64,
}

/// Nodes by state. The states partition `selected`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Counts {
    /// Nodes that the selector matches.
    pub selected: i32,
    /// Nodes that wait for a grant.
    pub pending: i32,
    /// Nodes with a grant that have not settled.
    pub in_flight: i32,
    /// Nodes on which the livepatch is effective, healthy for minReadySeconds since.
    pub settled: i32,
    /// Nodes with a grant that failed or were lost.
    pub failed: i32,
    /// Nodes for whose kernel build the revision has no module.
    pub not_applicable: i32,
    /// Nodes without a grant that cannot be reached.
    pub unreachable: i32,
    /// Nodes that a person holds (label livepatch.dev/skip, or a stop switch on the node).
    pub held: i32,
    /// Nodes whose agent has not reported on this boot.
    pub unknown: i32,
    /// Nodes that a person left out of the rollout (spec.control.excludeNodes).
    pub excluded: i32,
    /// Nodes that run what they ran before this rollout, since it was rolled back; among them those it never reached.
    pub rolled_back: i32,
}
