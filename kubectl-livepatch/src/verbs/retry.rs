//! `retry`: try failed nodes again. Pure.

use clap::Args;
use livepatch_crds::rollout::ControlState;
use serde_json::json;

use super::{Change, Refusal, WriteOptions, aborted, subject};
use crate::family::{self, Family};
use crate::text::count;

const ABOUT: &str = "\
Try the nodes that failed again. A failure stays one, and halts the rollout, until a person says so: see the cause first.

Raises spec.control.attempt of the LivepatchRollout by one, as does
  kubectl patch lpr ROLLOUT --type=merge -p '{\"spec\":{\"control\":{\"attempt\":2}}}'";

/// `retry SET`.
#[derive(Debug, Clone, Args)]
#[command(about = "Try failed nodes again", long_about = ABOUT)]
pub struct RetryOptions {
    #[command(flatten)]
    pub write: WriteOptions,
}

/// What to write.
pub fn retry(family: &Family) -> Result<Change, Refusal> {
    let rollout = subject(family)?;
    let set = family.name();
    let control = family::control(rollout);
    let status = family::rollout_status(rollout);
    if control.state == ControlState::Aborted {
        return Err(aborted());
    }
    if !family::is_observed(rollout) {
        return Err(Refusal::new(
            "the operator has not looked at the rollout since it was changed",
            "try again in a moment",
        ));
    }
    let failed = status.counts.failed;
    if failed == 0 {
        return Err(Refusal::new(
            "no node has failed, there is nothing to try again",
            format!("see what the rollout waits for with kubectl livepatch get {set}"),
        ));
    }
    let next = control.attempt.saturating_add(1);
    let paused = match control.state {
        ControlState::Paused => format!(" when it is resumed (kubectl livepatch resume {set})"),
        ControlState::Run | ControlState::Aborted | ControlState::RolledBack => String::new(),
    };
    Ok(Change {
        control: json!({"attempt": next}),
        told: format!("begins attempt {next}: {} tried again{paused}", are(failed)),
    })
}

fn are(failed: i32) -> String {
    let verb = if failed == 1 { "is" } else { "are" };
    format!("{} {verb}", count(failed, "failed node"))
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{family, status};
    use super::*;

    #[test]
    fn failed_nodes_are_tried_again() {
        let mut said = status("Halted", json!({"state": "Halted"}));
        said["counts"]["failed"] = json!(2);
        let change = retry(&family(json!({"attempt": 3}), said)).unwrap();
        assert_eq!(change.control, json!({"attempt": 4}));
        assert_eq!(change.told, "begins attempt 4: 2 failed nodes are tried again");
    }

    #[test]
    fn with_nothing_failed_or_a_retry_under_way_nothing_is_retried() {
        let fine = family(json!({}), status("Progressing", json!({})));
        assert!(retry(&fine).unwrap_err().to_string().contains("no node has failed"));
        let mut said = status("Halted", json!({"state": "Halted"}));
        said["counts"]["failed"] = json!(1);
        let mut under_way = family(json!({"attempt": 2}), said);
        under_way.rollouts[0].metadata.generation = Some(2);
        assert!(retry(&under_way).unwrap_err().to_string().contains("has not looked"));
    }
}
