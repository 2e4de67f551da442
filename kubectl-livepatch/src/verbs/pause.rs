//! `pause`: give no grants until the rollout is resumed. Pure.

use clap::Args;
use livepatch_crds::rollout::ControlState;
use serde_json::json;

use super::{Change, Refusal, WriteOptions, aborted, rolled_back, subject};
use crate::family::{self, Family};
use crate::text::count;

const ABOUT: &str = "\
Pause a rollout: no node gets a grant until it is resumed. Nodes that have one finish. Nothing is unloaded.

Writes spec.control.state of the LivepatchRollout, as does
  kubectl patch lpr ROLLOUT --type=merge -p '{\"spec\":{\"control\":{\"state\":\"Paused\"}}}'";

/// `pause SET`.
#[derive(Debug, Clone, Args)]
#[command(about = "Give no node a grant until the rollout is resumed", long_about = ABOUT)]
pub struct PauseOptions {
    #[command(flatten)]
    pub write: WriteOptions,
}

/// What to write.
pub fn pause(family: &Family) -> Result<Change, Refusal> {
    let rollout = subject(family)?;
    match family::control(rollout).state {
        ControlState::Aborted => Err(aborted()),
        ControlState::RolledBack => Err(rolled_back()),
        ControlState::Paused => Err(Refusal::new(
            "the rollout is paused already",
            format!("to go on, kubectl livepatch resume {}", family.name()),
        )),
        ControlState::Run => {
            let in_flight = family::rollout_status(rollout).counts.in_flight;
            let finish = match in_flight {
                0 => String::new(),
                number => format!("; {} in flight will finish", count(number, "node")),
            };
            Ok(Change {
                control: json!({"state": "Paused"}),
                told: format!("paused: no node gets a grant until it is resumed{finish}"),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{family, status};
    use super::*;

    #[test]
    fn a_running_rollout_is_paused_once() {
        let mut said = status("Progressing", json!({}));
        said["counts"]["inFlight"] = json!(1);
        let change = pause(&family(json!({}), said.clone())).unwrap();
        assert_eq!(change.control, json!({"state": "Paused"}));
        assert!(
            change.told.ends_with("; 1 node in flight will finish"),
            "{}",
            change.told
        );
        let again = pause(&family(json!({"state": "Paused"}), said)).unwrap_err();
        assert!(again.to_string().contains("kubectl livepatch resume nf"));
    }
}
