//! What a node may do on its own when things do not go straight: written by people in a set, carried to nodes in grants.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a node may do on its own. Everything has the most careful value as its default, and defaults are not written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct GrantPolicy {
    /// What follows when a transition does not finish in time.
    #[serde(skip_serializing_if = "is_default")]
    pub timeout_policy: TimeoutPolicy,
    /// What follows when somebody disables the livepatch by hand.
    #[serde(skip_serializing_if = "is_default")]
    pub drift: Drift,
    /// What follows when an atomic replace would throw out livepatches of somebody else.
    #[serde(skip_serializing_if = "is_default")]
    pub foreign_policy: ForeignPolicy,
    /// For an off-band livepatch.
    #[serde(skip_serializing_if = "is_default")]
    pub off_band: OffBandPolicy,
    /// For a cumulative livepatch: the off-band modules that it contains.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub supersedes: Vec<SupersededSet>,
}

impl GrantPolicy {
    /// Whether nothing differs from the defaults.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// What follows when a transition does not finish in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TimeoutPolicy {
    /// It is taken back, once that is proven to be without loss, and the node counts as failed.
    #[default]
    Revert,
    /// It goes on. Nothing else can be loaded on the node meanwhile.
    Wait,
}

/// What follows when somebody disables a livepatch by hand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Drift {
    /// It is reported.
    #[default]
    Report,
    /// It is loaded again, once an hour at most.
    Restore,
}

/// What follows when an atomic replace would throw out livepatches of somebody else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ForeignPolicy {
    /// The load is refused.
    #[default]
    Refuse,
    /// They are thrown out and not brought back.
    Replace,
}

/// How an off-band livepatch gives way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct OffBandPolicy {
    /// How a new version takes the place of the former one.
    #[serde(skip_serializing_if = "is_default")]
    pub upgrade: Upgrade,
    /// What an atomic replace on the same node means for it.
    #[serde(skip_serializing_if = "is_default")]
    pub on_atomic_replace: OnAtomicReplace,
}

/// How a new version of an off-band livepatch takes the place of the former one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Upgrade {
    /// The new one is loaded over the former one, which is then disabled: no moment without the fix. Refused where that
    /// is not safe, with the reason.
    #[default]
    LoadFirst,
    /// The former one is disabled before the new one is loaded: a gap, but it goes with every module.
    UnloadFirst,
}

/// What an atomic replace means for an off-band livepatch on the same node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnAtomicReplace {
    /// It is brought back right after it.
    #[default]
    Restore,
    /// The atomic replace is refused on this node.
    Block,
}

/// What follows on a node that a set selects no longer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RemovalPolicy {
    /// What is loaded stays loaded, and comes back after reboots.
    #[default]
    Retain,
    /// The livepatch is unloaded.
    Unload,
}

/// Modules of an off-band set that a cumulative livepatch contains.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SupersededSet {
    /// Name of the off-band set.
    #[schemars(length(min = 1, max = 52))]
    pub set: String,
    /// SHA-256 of the modules that are contained, hexadecimal. Another module of that set is not.
    #[serde(rename = "moduleSHA256")]
    #[schemars(
        length(min = 1, max = 16),
        inner(length(max = 64), regex(pattern = r"^[a-f0-9]{64}$"))
    )]
    pub module_sha256: Vec<String>,
}
