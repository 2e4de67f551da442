//! What the operator has seen: everything that [`super::decide`] may know.

use super::reasons;
use jiff::Timestamp;
use livepatch_crds::conditions::{READY, find};
use livepatch_crds::node::{Grant, NodeLivepatchSpec, NodeLivepatchStatus};
use livepatch_crds::rollout::{Control, LivepatchRolloutStatus, WaveState};
use livepatch_crds::set::{LivepatchSetSpec, LivepatchSetStatus, Template};
use livepatch_module::Inspection;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

/// All sets, rollouts and nodes, as seen at one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// The sets, in any order.
    pub sets: Vec<SetView>,
    /// The Linux nodes, by name.
    pub nodes: BTreeMap<String, NodeView>,
    /// Whether grants may be given, and under which epoch.
    pub leave: Leave,
    /// What holds for all sets together.
    pub limits: Limits,
}

/// What holds for all sets together, by the word of whoever runs the operator.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Most grants of all sets in flight at once; `None` is no limit.
    pub max_in_flight: Option<usize>,
    /// Why nothing may be begun on any node, if so.
    pub frozen: Option<String>,
}

/// Whether grants may be given at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leave {
    /// Grants may be given under this epoch: `<uid of the Lease>/<its leaseTransitions>`.
    Granted {
        /// The epoch.
        epoch: String,
    },
    /// Something the operator relies on is missing.
    Withheld {
        /// A reason code.
        reason: &'static str,
        /// One sentence for `blockedBy`.
        message: String,
    },
}

impl Default for Leave {
    fn default() -> Self {
        Self::Withheld {
            reason: "NotLeading",
            message: "this operator does not lead".to_owned(),
        }
    }
}

/// A LivepatchSet with all that belongs to it.
#[derive(Clone, Debug)]
pub struct SetView {
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
    /// Generation of the spec.
    pub generation: i64,
    /// When it was made; the older of two sets is the incumbent.
    pub created: Timestamp,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// Spec.
    pub spec: LivepatchSetSpec,
    /// Status as last written.
    pub status: LivepatchSetStatus,
    /// What is known of the artefact that the template names.
    pub bundle: BundleView,
    /// The same of the revision that the nodes ran before; `None` if there was none.
    pub former: Option<BundleView>,
    /// Its rollouts, all revisions.
    pub rollouts: Vec<RolloutView>,
}

/// What is known of an artefact.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum BundleView {
    /// It has not been read yet.
    #[default]
    Unread,
    /// It cannot be used.
    Unusable {
        /// A reason code.
        reason: &'static str,
        /// What failed, with the registry's words.
        message: String,
        /// Whether it is tried again without anybody doing anything.
        retried: bool,
    },
    /// It was read.
    Read(Arc<Vec<ModuleView>>),
}

/// A module of an artefact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModuleView {
    /// `uname -r` of the kernel it is for.
    pub kernel_release: String,
    /// Build id of that kernel's vmlinux, if the artefact tells it.
    pub kernel_build_id: Option<String>,
    /// Architecture as OCI names it.
    pub architecture: String,
    /// Name in the kernel's spelling.
    pub name: String,
    /// Registry and repository.
    pub repository: String,
    /// Digest of its manifest.
    pub digest: String,
    /// SHA-256 of the file.
    pub sha256: String,
    /// Build id of the module.
    pub build_id: String,
    /// What the artefact tells of its inside; `None` if nothing.
    pub described: Option<Arc<Described>>,
}

/// What an artefact tells of a module's inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    inspection: Inspection,
    /// Hashes of all that must not be in another livepatch as well, sorted: its name, functions and states.
    claims: Vec<u64>,
}

impl Described {
    /// With the claims of `inspection`, made once: they are compared at every decision.
    pub fn new(inspection: Inspection) -> Self {
        let mut claims = vec![claim(("module", &inspection.name))];
        // Without the position: whether one that is not known matters, the rules say.
        claims.extend(
            inspection
                .functions()
                .map(|(object, function)| claim((object, &function.name))),
        );
        claims.extend(inspection.states.iter().map(|state| claim(("state", state.id))));
        claims.sort_unstable();
        claims.dedup();
        Self { inspection, claims }
    }

    /// All that the artefact tells.
    pub fn inspection(&self) -> &Inspection {
        &self.inspection
    }

    /// Whether the two have surely nothing in common. If not, the rules have to be asked.
    pub fn is_apart_from(&self, other: &Self) -> bool {
        let (few, many) = if self.claims.len() < other.claims.len() {
            (self, other)
        } else {
            (other, self)
        };
        !few.claims.iter().any(|claim| many.claims.binary_search(claim).is_ok())
    }
}

fn claim(what: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}

/// A LivepatchRollout.
#[derive(Clone, Debug, PartialEq)]
pub struct RolloutView {
    /// Name: `<set>-<revision>`.
    pub name: String,
    /// UID of the set it was made for.
    pub set_uid: String,
    /// Generation of the spec.
    pub generation: i64,
    /// When it was made.
    pub created: Timestamp,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// What it rolls out.
    pub template: Template,
    /// What people want done with it.
    pub control: Control,
    /// Status as last written.
    pub status: LivepatchRolloutStatus,
}

impl RolloutView {
    /// Whether its written status says that the wave of that name has passed.
    pub fn has_passed(&self, wave: &str) -> bool {
        self.status
            .waves
            .iter()
            .any(|status| status.name == wave && status.state == WaveState::Passed)
    }

    /// Whether its written status says that every node it reached has gone back.
    pub fn has_gone_back(&self) -> bool {
        find(&self.status.conditions, READY).is_some_and(|ready| ready.reason == reasons::ROLLED_BACK)
    }
}

/// A node and its NodeLivepatch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeView {
    /// UID of the node.
    pub uid: String,
    /// Labels of the node.
    pub labels: BTreeMap<String, String>,
    /// Boot that the kubelet reports.
    pub boot_id: String,
    /// Whether the condition Ready is True and no taint says otherwise.
    pub ready: bool,
    /// Its NodeLivepatch, if there.
    pub object: Option<NodeObject>,
    /// UIDs of the sets whose grants here were sent under a former leadership and arrived after this one had begun. No
    /// agent begins with such a grant, and nobody has counted it.
    pub late: BTreeSet<String>,
    /// Since when each grant has been effective on a healthy node without a break, as far as this operator has watched it.
    pub effective_since: BTreeMap<GrantKey, Timestamp>,
}

impl NodeView {
    /// Since when `grant` has been effective on this node; `None` if it is not.
    pub fn effective_since(&self, grant: &Grant) -> Option<Timestamp> {
        // They are few, and a key would have to be made for a look-up.
        let mut known = self.effective_since.iter();
        let found = known.find(|((rollout, attempt, back), _)| {
            (rollout, *attempt, *back) == (&grant.rollout, grant.attempt, grant.back)
        });
        found.map(|(_, since)| *since)
    }
}

/// What tells the grants of a node apart: the rollout, the attempt, and whether it is one to go back.
pub type GrantKey = (String, i32, bool);

/// A NodeLivepatch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeObject {
    /// UID of the object.
    pub uid: String,
    /// Its resourceVersion: the precondition of every write.
    pub resource_version: String,
    /// Generation of the spec.
    pub generation: i64,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// Spec.
    pub spec: NodeLivepatchSpec,
    /// Status, as the agent wrote it.
    pub status: NodeLivepatchStatus,
}
