//! `resume`: let a paused rollout go on. Pure.

use clap::Args;
use livepatch_crds::rollout::ControlState;
use serde_json::json;

use super::{Change, Refusal, WriteOptions, aborted, rolled_back, subject};
use crate::family::{self, Family};

const ABOUT: &str = "\
Let a paused rollout go on where it was.

Writes spec.control.state of the LivepatchRollout, as does
  kubectl patch lpr ROLLOUT --type=merge -p '{\"spec\":{\"control\":{\"state\":\"Run\"}}}'";

/// `resume SET`.
#[derive(Debug, Clone, Args)]
#[command(about = "Let a paused rollout go on", long_about = ABOUT)]
pub struct ResumeOptions {
    #[command(flatten)]
    pub write: WriteOptions,
}

/// What to write.
pub fn resume(family: &Family) -> Result<Change, Refusal> {
    let rollout = subject(family)?;
    let set = family.name();
    match family::control(rollout).state {
        ControlState::Aborted => Err(aborted()),
        ControlState::RolledBack => Err(rolled_back()),
        ControlState::Paused => Ok(Change {
            control: json!({"state": "Run"}),
            told: "resumed: nodes get grants again".to_owned(),
        }),
        ControlState::Run => {
            let status = family::rollout_status(rollout);
            let instead = match family::state(&status.conditions).reason {
                "Halted" => format!("it is halted; try the failed nodes again with kubectl livepatch retry {set}"),
                "AwaitingPromotion" | "WaveEmpty" => {
                    format!("it waits for a promotion, kubectl livepatch promote {set}")
                }
                _ => format!("see kubectl livepatch get {set}"),
            };
            Err(Refusal::new("the rollout is not paused", instead))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{family, status};
    use super::*;

    #[test]
    fn only_a_paused_rollout_is_resumed() {
        let change = resume(&family(json!({"state": "Paused"}), status("Paused", json!({})))).unwrap();
        assert_eq!(change.control, json!({"state": "Run"}));
        let refused = |reason| {
            resume(&family(json!({}), status(reason, json!({}))))
                .unwrap_err()
                .to_string()
        };
        assert!(refused("Progressing").contains("is not paused"));
        assert!(refused("Halted").contains("kubectl livepatch retry nf"));
        assert!(refused("AwaitingPromotion").contains("kubectl livepatch promote nf"));
    }
}
