//! The API types of `livepatch.dev/v1alpha1`: what people, the operator and the agents say to each other.
//!
//! No client and no IO: the planner, the programs and the generated YAML all start from these types.
//! Who writes what: people write [`LivepatchSet`] and `spec.control` of [`LivepatchRollout`]; the operator writes both
//! statuses and `spec` of [`NodeLivepatch`]; a node's agent writes `status` of that node's [`NodeLivepatch`], nothing else.

#![expect(
    clippy::duplicated_attributes,
    reason = "printer columns repeat their keys, the lint reads the derive macro wrongly"
)]

pub mod bounded;
pub mod concurrency;
pub mod conditions;
pub mod node;
pub mod policy;
pub mod revision;
pub mod rollout;
pub mod selector;
pub mod set;
pub mod tolerance;

pub use concurrency::IntOrPercent;
pub use node::{NodeLivepatch, NodeLivepatchSpec, NodeLivepatchStatus};
pub use rollout::{LivepatchRollout, LivepatchRolloutSpec, LivepatchRolloutStatus};
pub use selector::NodeSelector;
pub use set::{LivepatchSet, LivepatchSetSpec, LivepatchSetStatus, LivepatchType};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{CustomResourceDefinition, JSON};
use kube::CustomResourceExt;
use serde_json::json;

/// API group of every kind here.
pub const GROUP: &str = "livepatch.dev";
/// The one version served and stored.
pub const VERSION: &str = "v1alpha1";

/// Label on a node: with the value `true` no livepatch operation is started there.
pub const SKIP_LABEL: &str = "livepatch.dev/skip";
/// Label on a rollout: the name of its set.
pub const SET_LABEL: &str = "livepatch.dev/set";

/// The custom resource definitions, in the order in which a person meets them.
pub fn definitions() -> [CustomResourceDefinition; 3] {
    [
        unseen_at_first(LivepatchSet::crd()),
        unseen_at_first(LivepatchRollout::crd()),
        NodeLivepatch::crd(),
    ]
}

/// Gives objects without a status one that says that nobody has seen them: of an object without any, kstatus (Helm, Flux)
/// says that it is ready.
fn unseen_at_first(mut definition: CustomResourceDefinition) -> CustomResourceDefinition {
    let versions = definition.spec.versions.iter_mut();
    let schemas = versions.filter_map(|version| version.schema.as_mut()?.open_api_v3_schema.as_mut());
    for status in schemas.filter_map(|schema| schema.properties.as_mut()?.get_mut("status")) {
        status.default = Some(JSON(json!({"observedGeneration": 0})));
    }
    definition
}
