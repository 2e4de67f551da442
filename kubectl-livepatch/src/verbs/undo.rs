//! `undo`: take a rollout back, for good. Pure.

use clap::Args;
use livepatch_crds::rollout::ControlState;
use serde_json::json;

use super::{Change, Refusal, WriteOptions, rolled_back, subject};
use crate::family::{self, Family};

const ABOUT: &str = "\
Take a rollout back, for good: the nodes that it reached go to what they ran before it, within its budgets; the others are
not touched. The LivepatchSet is not changed and is not Ready until it has another revision.

Writes spec.control.state of the LivepatchRollout, as does
  kubectl patch lpr ROLLOUT --type=merge -p '{\"spec\":{\"control\":{\"state\":\"RolledBack\"}}}'";

/// `undo SET`.
#[derive(Debug, Clone, Args)]
#[command(about = "Take a rollout back, for good", long_about = ABOUT)]
pub struct UndoOptions {
    #[command(flatten)]
    pub write: WriteOptions,
}

/// What to write.
pub fn undo(family: &Family) -> Result<Change, Refusal> {
    let rollout = subject(family)?;
    let status = family::rollout_status(rollout);
    if family::control(rollout).state == ControlState::RolledBack {
        return Err(rolled_back());
    }
    if status.rolling_back {
        return Err(Refusal::new(
            "the rollout is on its way back already, by its failurePolicy",
            format!("see kubectl livepatch get {}", family.name()),
        ));
    }
    if status.rollback.starts_with("Impossible") {
        return Err(Refusal::new(
            format!("the kernel would refuse the way back ({})", status.rollback),
            "change spec.template of the LivepatchSet to a livepatch that can take its place",
        ));
    }
    Ok(Change {
        control: json!({"state": "RolledBack"}),
        told: "goes back: the nodes that it reached return to what they ran before".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{family, status};
    use super::*;

    #[test]
    fn a_rollout_is_taken_back_once_and_only_if_there_is_a_way() {
        let change = undo(&family(json!({}), status("Halted", json!({})))).unwrap();
        assert_eq!(change.control, json!({"state": "RolledBack"}));
        let aborted = family(json!({"state": "Aborted"}), status("Aborted", json!({})));
        assert!(undo(&aborted).is_ok(), "what was aborted half way can be taken back");
        let again = family(json!({"state": "RolledBack"}), status("RollingBack", json!({})));
        assert!(undo(&again).is_err());
        let mut said = status("Halted", json!({}));
        said["rollback"] = json!("Impossible: klp_state 7");
        let refusal = undo(&family(json!({}), said)).unwrap_err().to_string();
        assert!(refusal.contains("klp_state 7"), "{refusal}");
    }
}
