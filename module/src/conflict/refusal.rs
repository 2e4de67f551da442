//! Why a livepatch is not loaded: data for status and events, and the sentence for a person. No IO.

use std::fmt;

use strum::IntoStaticStr;

use super::functions::FunctionRef;
use super::view::{LoadedView, Owner, SetKind, Wanted};
use crate::inspection::Replace;

/// Functions named in a sentence; the data has them all.
const MAX_TOLD: usize = 5;

/// One side of a conflict.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Party {
    /// Module name in the kernel's spelling.
    pub module: String,
    /// Who wants it.
    pub owner: Owner,
}

impl Party {
    /// The party that a loaded livepatch is.
    pub fn of(loaded: &LoadedView) -> Self {
        Self {
            module: loaded.module.clone(),
            owner: loaded.owner.clone(),
        }
    }

    pub(super) fn wanted(wanted: &Wanted<'_>) -> Self {
        let owner = Owner::Set {
            name: wanted.set.to_owned(),
            kind: wanted.kind,
        };
        Self {
            module: wanted.inspection.name.clone(),
            owner,
        }
    }
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.owner {
            Owner::Set {
                name,
                kind: SetKind::Cumulative,
            } => write!(f, "cumulative set {name} ({})", self.module),
            Owner::Set {
                name,
                kind: SetKind::OffBand,
            } => write!(f, "off-band set {name} ({})", self.module),
            Owner::Retained { .. } => write!(f, "retained livepatch {}", self.module),
            Owner::Foreign => write!(f, "foreign livepatch {}", self.module),
        }
    }
}

/// Why a livepatch is not loaded next to others.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, IntoStaticStr)]
#[non_exhaustive]
pub enum Refusal {
    /// Both patch the same functions; the kernel would load both and let the later one win silently.
    #[error("{incumbent} and {newcomer} both patch {}: only a rebuilt livepatch can hold both fixes", told(.functions))]
    SharedFunction {
        /// The livepatch that is there.
        incumbent: Party,
        /// The one that is wanted.
        newcomer: Party,
        /// All functions that both patch.
        functions: Vec<FunctionRef>,
    },
    /// Both patch a function of that name, and it is not known whether it is the same one.
    #[error("{incumbent} and {newcomer} may both patch {}", told(.functions))]
    PositionUnknown {
        /// The livepatch that is there.
        incumbent: Party,
        /// The one that is wanted.
        newcomer: Party,
        /// The functions in question.
        functions: Vec<FunctionRef>,
    },
    /// It is not known what the incumbent patches.
    #[error(
        "it is not known which functions {incumbent} patches, so nothing shows that {newcomer} is independent of it"
    )]
    FunctionsUnknown {
        /// The livepatch that is there.
        incumbent: Party,
        /// The one that is wanted.
        newcomer: Party,
    },
    /// Both use the same `klp_state` ids.
    #[error("{incumbent} and {newcomer} both use klp_state {}", told(.ids))]
    SharedState {
        /// The livepatch that is there.
        incumbent: Party,
        /// The one that is wanted.
        newcomer: Party,
        /// The ids that both use, sorted.
        ids: Vec<u64>,
    },
    /// It is not known which `klp_state` ids the incumbent uses, and the newcomer uses some.
    #[error("it is not known which klp_state ids {incumbent} uses, and {newcomer} uses {}", told(.ids))]
    StatesUnknown {
        /// The livepatch that is there.
        incumbent: Party,
        /// The one that is wanted.
        newcomer: Party,
        /// The newcomer's ids, sorted.
        ids: Vec<u64>,
    },
    /// A module of that name is loaded.
    #[error("{newcomer} has the module name of {incumbent}, and the kernel loads a name once")]
    NameTaken {
        /// The livepatch that is there.
        incumbent: Party,
        /// The one that is wanted.
        newcomer: Party,
    },
    /// The node has a cumulative set already.
    #[error("{newcomer} is a second cumulative set on a node of {incumbent}")]
    SecondCumulative {
        /// The livepatch that is there.
        incumbent: Party,
        /// The one that is wanted.
        newcomer: Party,
    },
    /// An off-band livepatch that may throw out every other one.
    #[error("{newcomer} is off-band, but its replace flag is {}: {}", .replace.value, .replace.evidence)]
    ReplaceNotExcluded {
        /// The one that is wanted.
        newcomer: Party,
        /// The flag and how it was found.
        replace: Replace,
    },
    /// Loading it may throw out a livepatch that nobody here manages.
    #[error("{newcomer} may replace {incumbent}, which is not to be touched")]
    ForeignReplaced {
        /// The livepatch that is there.
        incumbent: Party,
        /// The one that is wanted.
        newcomer: Party,
    },
    /// The cumulative livepatch is said to contain an off-band one and does not.
    #[error("{newcomer} is said to supersede {incumbent} but does not patch {}", told(.functions))]
    NotCovered {
        /// The livepatch that is there.
        incumbent: Party,
        /// The one that is wanted.
        newcomer: Party,
        /// The functions that are missing.
        functions: Vec<FunctionRef>,
    },
    /// A `klp_state` version would go down; the kernel refuses that with `EINVAL`.
    #[error(
        "{newcomer} has klp_state {id} in version {wanted}, {incumbent} in version {loaded}: the kernel refuses a lower one"
    )]
    StateVersionDown {
        /// The livepatch that is there.
        incumbent: Party,
        /// The one that is wanted.
        newcomer: Party,
        /// The state.
        id: u64,
        /// Version that is loaded.
        loaded: u32,
        /// Version that is wanted.
        wanted: u32,
    },
    /// A replacing livepatch lacks a `klp_state` of a loaded one; the kernel refuses that with `EINVAL`.
    #[error("{newcomer} may replace {incumbent} but lacks its klp_state {}: the kernel refuses that", told(.ids))]
    StateMissing {
        /// The livepatch that is there.
        incumbent: Party,
        /// The one that is wanted.
        newcomer: Party,
        /// The ids that are missing, sorted.
        ids: Vec<u64>,
    },
    /// The new livepatch cannot be loaded over the old one without a gap.
    #[error("{newcomer} cannot be stacked on {incumbent}: {condition}")]
    NotStackable {
        /// The livepatch that is there.
        incumbent: Party,
        /// The one that is wanted.
        newcomer: Party,
        /// The condition that does not hold.
        condition: StackingCondition,
    },
}

impl Refusal {
    /// Stable reason code for status, events, metrics and logs. For stacking it is the condition's.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotStackable { condition, .. } => condition.reason(),
            other => other.into(),
        }
    }

    /// The loaded livepatch that speaks against the load, if it is one.
    pub fn incumbent(&self) -> Option<&Party> {
        match self {
            Self::ReplaceNotExcluded { .. } => None,
            Self::SharedFunction { incumbent, .. }
            | Self::PositionUnknown { incumbent, .. }
            | Self::FunctionsUnknown { incumbent, .. }
            | Self::SharedState { incumbent, .. }
            | Self::StatesUnknown { incumbent, .. }
            | Self::NameTaken { incumbent, .. }
            | Self::SecondCumulative { incumbent, .. }
            | Self::ForeignReplaced { incumbent, .. }
            | Self::NotCovered { incumbent, .. }
            | Self::StateVersionDown { incumbent, .. }
            | Self::StateMissing { incumbent, .. }
            | Self::NotStackable { incumbent, .. } => Some(incumbent),
        }
    }
}

/// A condition of loading a livepatch over its predecessor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, IntoStaticStr)]
#[non_exhaustive]
pub enum StackingCondition {
    /// A replace flag is set or not provably clear.
    #[error("the replace flag of {module} is not provably clear")]
    StackingReplaceFlag {
        /// Which of the two.
        module: String,
    },
    /// One of the two has callbacks, or may have.
    #[error("{module} has callbacks, or may have")]
    StackingCallbacks {
        /// Which of the two.
        module: String,
    },
    /// One of the two has `klp_state` entries, or may have.
    #[error("{module} has klp_state entries, or may have")]
    StackingStates {
        /// Which of the two.
        module: String,
    },
    /// One of the two uses shadow variables, or may.
    #[error("{module} uses shadow variables, or may")]
    StackingShadowVariables {
        /// Which of the two.
        module: String,
    },
    /// The new one does not patch all that the old one patches: those fixes would end half-way.
    #[error("it does not patch {}", told(.functions))]
    StackingFunctionsDropped {
        /// The functions that are missing.
        functions: Vec<FunctionRef>,
    },
    /// It is not known what the old one patches.
    #[error("it is not known which functions the old one patches")]
    StackingFunctionsUnknown,
    /// Both have the same module name.
    #[error("both have the module name {module}")]
    StackingSameName {
        /// The name.
        module: String,
    },
    /// A third livepatch patches one of the functions, or may.
    #[error("{third} patches {} too, or may", told(.functions))]
    StackingThirdParty {
        /// The third one.
        third: Party,
        /// The functions in question; empty if it is not known what it patches.
        functions: Vec<FunctionRef>,
    },
    /// A transition was forced since the node booted.
    #[error("a transition was forced since the node booted, so tasks may still run old code")]
    StackingForced,
    /// It is not known whether a transition was forced.
    #[error("it is not known whether a transition was forced since the node booted")]
    StackingForcedUnknown,
}

impl StackingCondition {
    /// Stable reason code.
    pub fn reason(&self) -> &'static str {
        self.into()
    }
}

/// The first few of a list, and how many more there are.
fn told<T: fmt::Display>(items: &[T]) -> String {
    let mut text = items
        .iter()
        .take(MAX_TOLD)
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ");
    if items.is_empty() {
        "an unknown function".clone_into(&mut text);
    }
    match items.len().saturating_sub(MAX_TOLD) {
        0 => text,
        more => format!("{text} and {more} more"),
    }
}
