//! A plan as data, and what there is in place of one. No IO.

use serde::{Deserialize, Serialize};
use strum::{Display, IntoStaticStr};

use super::situation::Key;

/// What comes of planning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// This is to be done.
    Plan(Box<Plan>),
    /// These modules have to be on local disk and checked before it can be said what is to be done, or done.
    Needs(Vec<Key>),
    /// It passes by itself; until then nothing is done.
    Waits(Refusal),
    /// It is not done, and this is why.
    Refused(Refusal),
}

/// Why something is not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Refusal {
    /// A reason code.
    pub reason: String,
    /// One sentence for a person.
    pub message: String,
}

impl Refusal {
    pub(super) fn new(reason: &str, message: impl Into<String>) -> Self {
        Self {
            reason: reason.to_owned(),
            message: message.into(),
        }
    }
}

/// How a livepatch comes to be, or goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Display, IntoStaticStr)]
pub enum Mode {
    /// It is there already.
    Adopt,
    /// The cumulative livepatch in effect contains it.
    Superseded,
    /// It is loaded; nothing else changes.
    Load,
    /// It is loaded with atomic replace: the kernel throws out everything else, which is brought back afterwards.
    Atomic,
    /// A cumulative one is loaded over its predecessor, which is disabled afterwards. No gap for anybody.
    Stacked,
    /// An off-band one is loaded over its predecessor, which is disabled afterwards. No gap.
    LoadFirst,
    /// Its predecessor is disabled, then it is loaded: a gap, asked for by a person, or by taking a rollout back where
    /// loading first is not safe.
    UnloadFirst,
    /// It is disabled and its module removed.
    Remove,
}

/// What is done, in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// How.
    pub mode: Mode,
    /// Why this way, one sentence each.
    pub because: Vec<String>,
    /// Modules that have to be on local disk and checked before the first step: the way forward and the way back.
    pub verified: Vec<Key>,
    /// The steps. Empty if all is as it should be.
    pub steps: Vec<Step>,
    /// Where the way back ends; `None` if nothing is done.
    pub commit: Option<Commit>,
    /// Which fixes will be out of effect meanwhile.
    pub gaps: Vec<Gap>,
}

/// The point after which a plan only goes forward. Before it, failing leaves the effective set as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Commit {
    /// Position of the step with whose success it is reached.
    pub step: usize,
    /// Its name.
    pub name: String,
}

/// One step: at most one transition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// What is done.
    pub action: Action,
    /// Module it is done to.
    pub module: String,
    /// Whose livepatch that is; `None` if it is nobody's known here.
    pub key: Option<Key>,
    /// What makes it undone if the plan fails later, before its commit point.
    pub undo: Undo,
}

/// What is done to a module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Display, IntoStaticStr)]
pub enum Action {
    /// A leftover of its name is removed, it is loaded, and its transition waited for.
    Load,
    /// It is disabled, and its transition waited for.
    Disable,
    /// Its module, no longer in use, is removed.
    Unload,
}

/// What makes a step undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Display, IntoStaticStr)]
pub enum Undo {
    /// The transition is taken back while it runs; then nothing has changed.
    TakeBack,
    /// The transition is taken back while it runs; afterwards the module is loaded again.
    LoadAgain,
    /// Nothing: from here on a plan only goes forward.
    Forward,
}

/// A fix that will be out of effect, wholly or for some tasks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Gap {
    /// Name of the set.
    pub set: String,
    /// Module.
    pub module: String,
    /// Position of the step at whose beginning it opens.
    pub from: usize,
    /// Position of the step at whose end it is closed.
    pub to: usize,
}
