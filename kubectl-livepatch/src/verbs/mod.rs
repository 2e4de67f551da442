//! The commands that write: each decides, on what was read, what to write to `spec.control` of the set's current rollout,
//! or why not. What they decide is pure; only [`run`] does IO.
//!
//! `kubectl patch` can do the same: what a command writes is in its help.

mod abort;
mod exclude;
mod pause;
mod promote;
mod resume;
mod retry;
mod undo;

pub use abort::{AbortOptions, abort};
pub use exclude::{ExcludeOptions, exclude};
pub use pause::{PauseOptions, pause};
pub use promote::{PromoteOptions, promote};
pub use resume::{ResumeOptions, resume};
pub use retry::{RetryOptions, retry};
pub use undo::{UndoOptions, undo};

use std::process::ExitCode;

use clap::{Args, ValueEnum};
use livepatch_crds::LivepatchRollout;
use livepatch_crds::conditions::{self, COMPLETE};
use serde_json::Value;

use crate::cluster::{Cluster, ClusterError, ClusterOptions};
use crate::family::{self, Family};
use crate::options::{SetName, WrittenFormat};
use crate::output::{self, Failure};

/// What every command that writes takes.
#[derive(Debug, Clone, Args)]
pub struct WriteOptions {
    /// The LivepatchSet whose current rollout is meant
    #[arg(value_name = "SET")]
    pub set: SetName,

    /// With server, let the API server check the change and say what it would do, but store nothing
    #[arg(long, value_enum, value_name = "WHERE", default_value_t = DryRun::None)]
    pub dry_run: DryRun,

    /// Print the rollout as it is after the change, instead of a sentence
    #[arg(long, short, value_enum)]
    pub output: Option<WrittenFormat>,

    #[command(flatten)]
    pub cluster: ClusterOptions,
}

/// Whether a change is only tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DryRun {
    /// The change is stored
    None,
    /// The API server checks the change and stores nothing
    Server,
}

/// What to write, and what to say of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Laid over `spec.control`.
    control: Value,
    /// What follows the name of the rollout in the sentence that says what changed.
    told: String,
}

/// Why a change is not made, and what to do instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}; {instead}")]
pub struct Refusal {
    why: String,
    instead: String,
}

impl Refusal {
    fn new(why: impl Into<String>, instead: impl Into<String>) -> Self {
        Self {
            why: why.into(),
            instead: instead.into(),
        }
    }
}

/// How often a change is decided anew because somebody else, the operator's status mostly, came in between.
const TRIES: usize = 8;

/// Reads, decides, writes, and says what changed.
pub fn run(options: &WriteOptions, plan: impl Fn(&Family) -> Result<Change, Refusal>) -> ExitCode {
    output::conclude(output::block_on(async {
        let cluster = Cluster::connect(&options.cluster).await?;
        let (change, rollout) = write(&cluster, options, plan).await?;
        written(options, &change, &rollout)
    }))
}

async fn write(
    cluster: &Cluster,
    options: &WriteOptions,
    plan: impl Fn(&Family) -> Result<Change, Refusal>,
) -> Result<(Change, LivepatchRollout), Failure> {
    let mut tries = 0;
    loop {
        let family = cluster.family(&options.set).await?;
        let change = plan(&family).map_err(|source| Failure::Refused { source })?;
        let rollout = subject(&family).map_err(|source| Failure::Refused { source })?;
        tries += 1;
        match cluster
            .control(rollout, &change.control, options.dry_run == DryRun::Server)
            .await
        {
            Err(error) if error.is_conflict() && tries < TRIES => {}
            answer => {
                return Ok((
                    change,
                    answer.map_err(|source: ClusterError| Failure::Cluster { source })?,
                ));
            }
        }
    }
}

fn written(options: &WriteOptions, change: &Change, rollout: &LivepatchRollout) -> Result<String, Failure> {
    let name = family::name(&rollout.metadata);
    match options.output {
        Some(WrittenFormat::Json) => output::json(rollout),
        Some(WrittenFormat::Yaml) => output::yaml(rollout),
        Some(WrittenFormat::Name) => Ok(output::names("livepatchrollout", [name])),
        None => {
            let dry = match options.dry_run {
                DryRun::None => "",
                DryRun::Server => " (server dry run)",
            };
            Ok(format!("livepatchrollout/{name} {}{dry}\n", change.told))
        }
    }
}

/// The rollout that a command for a set is about.
fn subject(family: &Family) -> Result<&LivepatchRollout, Refusal> {
    let set = family.name();
    if !family.is_observed() {
        return Err(Refusal::new(
            format!("the operator has not looked at LivepatchSet {set} since it was changed"),
            "try again in a moment, and see that the operator runs",
        ));
    }
    family.current().ok_or_else(|| {
        let status = family.status();
        let why = conditions::find(&status.conditions, conditions::ACCEPTED)
            .filter(|accepted| accepted.status != "True")
            .map_or_else(|| "it is being made".to_owned(), |accepted| accepted.message.clone());
        Refusal::new(
            format!("LivepatchSet {set} has no rollout yet: {why}"),
            format!("see kubectl livepatch get {set}"),
        )
    })
}

/// That a rollout was aborted, for commands that can do nothing with such a one.
fn aborted() -> Refusal {
    Refusal::new(
        "the rollout is aborted, which is for good",
        "to roll out something else, change spec.template of the LivepatchSet",
    )
}

fn rolled_back() -> Refusal {
    Refusal::new(
        "a person rolled the rollout back, which is for good",
        "to roll out something else, change spec.template of the LivepatchSet",
    )
}

/// Whether nothing is left to do for a rollout.
fn is_complete(rollout: &LivepatchRollout) -> bool {
    let status = family::rollout_status(rollout);
    family::is_observed(rollout) && conditions::is_true(&status.conditions, COMPLETE)
}

#[cfg(test)]
pub mod fixture {
    //! A set with one rollout, as tests write it.

    use super::Family;
    use serde_json::{Value, json};

    /// The parts that a test is about, laid over a rollout in its first wave of three.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "tests write the values where they give them"
    )]
    pub fn family(control: Value, status: Value) -> Family {
        let set = json!({
            "apiVersion": "livepatch.dev/v1alpha1", "kind": "LivepatchSet",
            "metadata": {"name": "nf", "uid": "set-uid", "generation": 2},
            "spec": {
                "type": "OffBand", "nodeSelector": {}, "template": {"source": {"oci": {"reference": "r.io/a@sha256:0"}}},
                "rollout": {"waves": [
                    {"name": "canary", "percent": 1, "soakSeconds": 3600, "then": "AwaitPromotion", "minSucceeded": 2},
                    {"name": "quarter", "percent": 25},
                ]},
            },
            "status": {"observedGeneration": 2, "rollout": "nf-0011223344", "updateRevision": "0011223344"},
        });
        let rollout = json!({
            "apiVersion": "livepatch.dev/v1alpha1", "kind": "LivepatchRollout",
            "metadata": {"name": "nf-0011223344", "uid": "rollout-uid", "generation": 1, "resourceVersion": "7"},
            "spec": {
                "setUID": "set-uid", "template": {"source": {"oci": {"reference": "r.io/a@sha256:0"}}}, "control": control,
            },
            "status": status,
        });
        Family::of(
            serde_json::from_value(set).unwrap(),
            [serde_json::from_value(rollout).unwrap()],
        )
    }

    /// A status whose first wave is in `state`; the others wait.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "tests write the values where they give them"
    )]
    pub fn status(reason: &str, wave: Value) -> Value {
        let mut first = json!({"name": "canary", "state": "Running", "selected": 2, "settled": 0});
        for (key, value) in wave.as_object().unwrap() {
            first[key] = value.clone();
        }
        let truth = |holds: bool| if holds { "True" } else { "False" };
        let condition = |kind: &str, holds: bool| {
            json!({
                "type": kind, "status": truth(holds), "reason": reason, "message": "words",
                "lastTransitionTime": "2026-11-01T00:00:00Z",
            })
        };
        json!({
            "observedGeneration": 1, "wave": "canary", "blockedBy": "words",
            "counts": {"selected": 100, "pending": 98, "inFlight": 0, "settled": 2},
            "waves": [
                first,
                {"name": "quarter", "state": "Waiting", "selected": 25, "settled": 0},
                {"name": "rest", "state": "Waiting", "selected": 73, "settled": 0},
            ],
            "conditions": [
                condition("Ready", reason == "Complete"), condition("Complete", reason == "Complete"),
                condition("Stalled", reason == "Halted" || reason == "Aborted"),
            ],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::fixture::{family, status};
    use super::*;
    use serde_json::json;

    #[test]
    fn without_a_rollout_the_reason_is_told() {
        let mut family = family(json!({}), status("Progressing", json!({})));
        family.set.metadata.generation = Some(3);
        assert!(subject(&family).unwrap_err().to_string().contains("has not looked"));

        family.set.metadata.generation = Some(2);
        let said = family.set.status.as_mut().unwrap();
        said.rollout = None;
        said.conditions = serde_json::from_value(json!([{
            "type": "Accepted", "status": "False", "reason": "SetConflict", "message": "another set is there",
            "lastTransitionTime": "2026-11-01T00:00:00Z",
        }]))
        .unwrap();
        assert_eq!(
            subject(&family).unwrap_err().to_string(),
            "LivepatchSet nf has no rollout yet: another set is there; see kubectl livepatch get nf"
        );
    }

    #[test]
    fn a_rollout_of_a_former_set_of_that_name_is_not_touched() {
        let mut other = family(json!({}), status("Progressing", json!({})));
        other.set.metadata.uid = Some("another".to_owned());
        let other = Family::of(other.set, other.rollouts);
        assert!(subject(&other).is_err());
    }
}
