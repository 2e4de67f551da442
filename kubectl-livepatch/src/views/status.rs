//! `status`: follow a rollout to its end, for people and pipelines. The verdict is pure; [`run`] does IO.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use livepatch_crds::conditions::{self, COMPLETE, STALLED};
use tokio::time::Instant;

use crate::cluster::{Cluster, ClusterError, ClusterOptions, Kind};
use crate::family::{self, Family};
use crate::options::{RevisionPrefix, SetName};
use crate::output::{self, Failure};
use crate::seen::Seen;
use crate::text::Clean;

const ABOUT: &str = "\
Follow the rollout of a LivepatchSet to its end and say how it ended, in words and by exit code.

An end is: complete; halted, aborted or refused; or that a person has to act, because the rollout is paused, awaits
promotion or has a wave without nodes. A soak is no end, it is over by itself.";

const EXAMPLES: &str = "\
Examples:
  # In a pipeline, after the commit was applied.
  kubectl livepatch status nf-tables-uaf --timeout 2h

  # Of one revision only: exit code 4 as soon as the set asks for another one.
  kubectl livepatch status nf-tables-uaf --revision 089f8b6c9d

  # How does it stand now?
  kubectl livepatch status nf-tables-uaf --watch=false

Exit codes:
  0  complete
  1  degraded or halted
  2  paused, or waiting for a person
  3  not at an end within --timeout, or not at an end now with --watch=false
  4  superseded: the set asks for another revision than --revision
  5  it cannot be told: no such set, no access, or a wrong command line";

/// `status SET`.
#[derive(Debug, Clone, Args)]
#[command(about = "Follow a rollout to its end; exit codes for pipelines", long_about = ABOUT, after_help = EXAMPLES)]
pub struct StatusOptions {
    /// The LivepatchSet
    #[arg(value_name = "SET")]
    pub set: SetName,

    /// Follow the rollout to its end
    #[arg(long, short, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value_t = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub watch: bool,

    /// How long to follow, such as 90s, 30m, 2h; without it, for ever
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub timeout: Option<Duration>,

    /// Only of this revision; the first digits are enough
    #[arg(long, value_name = "REVISION")]
    pub revision: Option<RevisionPrefix>,

    #[command(flatten)]
    pub cluster: ClusterOptions,
}

/// Cannot be told.
pub const UNKNOWN: u8 = 5;

/// A length of time as kubectl takes it; a bare number is seconds.
fn duration(text: &str) -> Result<Duration, String> {
    const WRONG: &str = "a time is a number with a unit, such as 90s, 30m or 2h";
    if let Ok(seconds) = text.parse() {
        return Ok(Duration::from_secs(seconds));
    }
    let span: jiff::SignedDuration = text.parse().map_err(|_| WRONG.to_owned())?;
    Duration::try_from(span).map_err(|_| WRONG.to_owned())
}

/// How a rollout stands, for those who wait for it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    /// Not at an end.
    Going(String),
    /// At one.
    End(End, String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Complete,
    Degraded,
    Waiting,
    TimedOut,
    Superseded,
}

impl End {
    fn exit_code(self) -> u8 {
        match self {
            Self::Complete => 0,
            Self::Degraded => 1,
            Self::Waiting => 2,
            Self::TimedOut => 3,
            Self::Superseded => 4,
        }
    }
}

/// How the set's rollout stands; with a revision, how that one does.
fn verdict(family: &Family, revision: Option<&RevisionPrefix>) -> Verdict {
    let set = family.name();
    if !family.is_observed() {
        return Verdict::Going(format!("waiting for the operator to look at LivepatchSet {set}"));
    }
    let status = family.status();
    let update = status.update_revision.as_deref().unwrap_or_default();
    if let Some(revision) = revision.filter(|revision| !revision.means(update)) {
        let told = format!("revision {revision} is superseded: LivepatchSet {set} asks for revision {update}");
        return Verdict::End(End::Superseded, told);
    }
    let state = family::state(&status.conditions);
    let told = format!("{} {update}: {}: {}", set, state.reason, state.message);
    let is_true = |kind| conditions::is_true(&status.conditions, kind);
    // A change of the rollout that the operator has not seen yet may be what ends the wait. And the set is reported on
    // before the rollout: who acts on an end must find the rollout at it.
    let is_waited_for = family.current().is_some_and(|rollout| {
        !family::is_observed(rollout)
            || family::state(&family::rollout_status(rollout).conditions).reason != state.reason
    });
    match state.reason {
        _ if is_waited_for => Verdict::Going(format!("waiting for the operator to look at rollout {set}-{update}")),
        _ if is_true(COMPLETE) => Verdict::End(End::Complete, told),
        _ if is_true(STALLED) => Verdict::End(End::Degraded, told),
        "Paused" | "AwaitingPromotion" | "WaveEmpty" | "NoNodesSelected" => Verdict::End(End::Waiting, told),
        _ => Verdict::Going(told),
    }
}

/// Runs the command.
pub fn run(options: &StatusOptions) -> ExitCode {
    match output::block_on(follow(options)) {
        Ok(end) => ExitCode::from(end.exit_code()),
        Err(failure) => {
            output::complain(&failure);
            ExitCode::from(UNKNOWN)
        }
    }
}

async fn follow(options: &StatusOptions) -> Result<End, Failure> {
    let deadline = options.timeout.map(|timeout| Instant::now() + timeout);
    let cluster = Cluster::connect(&options.cluster).await?;
    // Read first: a wrong name or a missing right is an error and no endless wait.
    let mut told = Told::default();
    let mut now = verdict(&cluster.family(&options.set).await?, options.revision.as_ref());
    let kinds = [Kind::Sets, Kind::Rollouts];
    let mut seen = Seen::of(&kinds);
    let mut changes = None;
    loop {
        match now {
            Verdict::End(end, text) => {
                told.tell(&text);
                return Ok(end);
            }
            Verdict::Going(text) => told.tell(&text),
        }
        if !options.watch {
            return Ok(End::TimedOut);
        }
        let changes = changes.get_or_insert_with(|| cluster.follow(Some(&options.set), &kinds));
        let next = async {
            loop {
                let change = changes.next().await?;
                seen.take(change);
                told.trouble(seen.trouble());
                if seen.is_known() {
                    return Some(seen.families());
                }
            }
        };
        let families = if let Some(deadline) = deadline {
            let Ok(families) = tokio::time::timeout_at(deadline, next).await else {
                output::note("error: the rollout did not come to an end in time");
                return Ok(End::TimedOut);
            };
            families
        } else {
            next.await
        };
        let gone = || ClusterError::NoSuchSet {
            name: options.set.to_string(),
        };
        let family = families.and_then(|families| families.into_iter().next());
        now = verdict(&family.ok_or_else(gone)?, options.revision.as_ref());
    }
}

/// What was said last: nothing is said twice.
#[derive(Default)]
struct Told {
    text: String,
    trouble: Option<String>,
}

impl Told {
    fn tell(&mut self, text: &str) {
        if self.text != text {
            self.text = text.to_owned();
            let _ = output::print(&format!("{}\n", Clean::from(text)));
        }
    }

    fn trouble(&mut self, trouble: Option<&str>) {
        if let Some(trouble) = trouble.filter(|trouble| self.trouble.as_deref() != Some(*trouble)) {
            output::note(&format!("warning: {trouble}; trying again"));
        }
        self.trouble = trouble.map(str::to_owned);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verbs::fixture::{family, status};
    use serde_json::json;

    /// A set whose condition Ready has that reason.
    fn standing(reason: &str) -> Family {
        let said = status(reason, json!({}));
        let mut family = family(json!({}), said.clone());
        let of_set = family.set.status.as_mut().unwrap();
        of_set.conditions = serde_json::from_value(said["conditions"].clone()).unwrap();
        family
    }

    fn code(family: &Family, revision: Option<&str>) -> Option<u8> {
        let revision = revision.map(|revision| revision.parse().unwrap());
        match verdict(family, revision.as_ref()) {
            Verdict::End(end, _) => Some(end.exit_code()),
            Verdict::Going(_) => None,
        }
    }

    #[test]
    fn every_end_has_its_exit_code() {
        for (reason, wanted) in [
            ("Complete", Some(0)),
            ("Halted", Some(1)),
            ("Paused", Some(2)),
            ("AwaitingPromotion", Some(2)),
            ("WaveEmpty", Some(2)),
            ("Progressing", None),
            ("Soaking", None),
            ("ReadingArtefact", None),
        ] {
            assert_eq!(code(&standing(reason), None), wanted, "{reason}");
        }
        assert_eq!(code(&standing("Progressing"), Some("9999")), Some(4));
        assert_eq!(code(&standing("Complete"), Some("0011")), Some(0));
    }

    #[test]
    fn what_the_operator_has_not_seen_is_no_end() {
        let mut edited = standing("Complete");
        edited.set.metadata.generation = Some(3);
        assert_eq!(code(&edited, Some("9999")), None);
        let mut resumed = standing("Paused");
        resumed.rollouts[0].metadata.generation = Some(2);
        assert_eq!(code(&resumed, None), None);
        let mut behind = standing("AwaitingPromotion");
        behind.rollouts[0].status.as_mut().unwrap().conditions[0].reason = "Progressing".to_owned();
        assert_eq!(code(&behind, None), None);
    }

    #[test]
    fn times_are_written_as_kubectl_takes_them() {
        assert_eq!(duration("90"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("1h30m"), Ok(Duration::from_mins(90)));
        for wrong in ["", "soon", "-5s"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
