//! `abort`: end a rollout where it is, for good. Pure.

use clap::Args;
use livepatch_crds::rollout::ControlState;
use serde_json::json;

use super::{Change, Refusal, WriteOptions, is_complete, subject};
use crate::family::{self, Family};
use crate::text::count;

const ABOUT: &str = "\
End a rollout where it is, for good: no node gets a grant any more, those that have one finish, nothing is unloaded. Only
another revision of the LivepatchSet goes on.

Writes spec.control.state of the LivepatchRollout, as does
  kubectl patch lpr ROLLOUT --type=merge -p '{\"spec\":{\"control\":{\"state\":\"Aborted\"}}}'";

/// `abort SET`.
#[derive(Debug, Clone, Args)]
#[command(about = "End a rollout where it is, for good", long_about = ABOUT)]
pub struct AbortOptions {
    #[command(flatten)]
    pub write: WriteOptions,
}

/// What to write.
pub fn abort(family: &Family) -> Result<Change, Refusal> {
    let rollout = subject(family)?;
    let set = family.name();
    let another = "to roll out something else, change spec.template of the LivepatchSet";
    if is_complete(rollout) {
        return Err(Refusal::new(
            "the rollout is complete, nothing is left to abort",
            format!("to keep nodes that come later from it, kubectl livepatch pause {set}; {another}"),
        ));
    }
    match family::control(rollout).state {
        ControlState::Aborted => Err(Refusal::new("the rollout is aborted already", another)),
        ControlState::RolledBack => Ok(Change {
            control: json!({"state": "Aborted"}),
            told: "aborted on its way back: no more nodes go back, those in flight will finish".to_owned(),
        }),
        ControlState::Run | ControlState::Paused => {
            let counts = family::rollout_status(rollout).counts;
            let finish = match counts.in_flight {
                0 => String::new(),
                number => format!(", {} in flight will finish", count(number, "node")),
            };
            Ok(Change {
                control: json!({"state": "Aborted"}),
                told: format!(
                    "aborted: {} keep the livepatch{finish}, no other gets it",
                    count(counts.settled, "settled node")
                ),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{family, status};
    use super::*;

    #[test]
    fn what_is_not_at_its_end_is_aborted() {
        for control in [json!({}), json!({"state": "Paused"})] {
            let mut said = status("Progressing", json!({}));
            said["counts"]["inFlight"] = json!(3);
            let change = abort(&family(control, said)).unwrap();
            assert_eq!(change.control, json!({"state": "Aborted"}));
            assert_eq!(
                change.told,
                "aborted: 2 settled nodes keep the livepatch, 3 nodes in flight will finish, no other gets it"
            );
        }
    }

    #[test]
    fn what_is_at_its_end_is_not() {
        let complete = abort(&family(json!({}), status("Complete", json!({"state": "Passed"}))));
        assert!(complete.unwrap_err().to_string().contains("is complete"));
        let aborted = abort(&family(json!({"state": "Aborted"}), status("Aborted", json!({}))));
        assert!(aborted.unwrap_err().to_string().contains("change spec.template"));
    }
}
