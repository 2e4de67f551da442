//! `undo`: take a rollout back, for good. Pure.

use clap::Args;
use livepatch_crds::LivepatchRollout;
use livepatch_crds::rollout::ControlState;
use serde_json::json;

use super::{Change, Refusal, WriteOptions, rolled_back, subject};
use crate::family::{self, Family};
use crate::options::RevisionPrefix;

const ABOUT: &str = "\
Take a rollout back, for good: the nodes that it reached go to what they ran before it, within its budgets; the others are
not touched. The LivepatchSet is not changed and is not Ready until it has another revision.

With --to-revision only if that is the revision to which the nodes go back. To any other one the way is forward: with its
template in the LivepatchSet, through all waves (kubectl livepatch history SET --revision REVISION -o yaml).

Writes spec.control.state of the LivepatchRollout, as does
  kubectl patch lpr ROLLOUT --type=merge -p '{\"spec\":{\"control\":{\"state\":\"RolledBack\"}}}'";

/// `undo SET`.
#[derive(Debug, Clone, Args)]
#[command(about = "Take a rollout back, for good", long_about = ABOUT)]
pub struct UndoOptions {
    #[command(flatten)]
    pub write: WriteOptions,

    /// Only if the nodes go back to this revision; the first digits are enough
    #[arg(long, value_name = "REVISION")]
    pub to_revision: Option<RevisionPrefix>,
}

/// What to write.
pub fn undo(family: &Family, to: Option<&RevisionPrefix>) -> Result<Change, Refusal> {
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
    let former = former(family, rollout).map(|former| family.revision(former));
    if let Some(wanted) = to.filter(|wanted| !former.is_some_and(|former| wanted.means(former))) {
        let former = former.map_or_else(
            || "nothing of this set".to_owned(),
            |former| format!("revision {former}"),
        );
        return Err(Refusal::new(
            format!("the nodes would go back to {former}, not to revision {wanted}"),
            format!(
                "to roll that one out, put its template into the LivepatchSet, see kubectl livepatch history {} \
                 --revision {wanted} -o yaml",
                family.name()
            ),
        ));
    }
    Ok(Change {
        control: json!({"state": "RolledBack"}),
        told: "goes back: the nodes that it reached return to what they ran before".to_owned(),
    })
}

/// The rollout whose revision the nodes ran before: the one that was completed last, or else the youngest other.
fn former<'a>(family: &'a Family, rollout: &LivepatchRollout) -> Option<&'a LivepatchRollout> {
    let completed = family.status().current_revision;
    let others = || {
        let uid = rollout.metadata.uid.clone();
        family.rollouts.iter().filter(move |other| other.metadata.uid != uid)
    };
    others()
        .find(|other| completed.as_deref() == Some(family.revision(other)))
        .or_else(|| others().next())
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{family, status};
    use super::*;

    #[test]
    fn a_rollout_is_taken_back_once_and_only_if_there_is_a_way() {
        let change = undo(&family(json!({}), status("Halted", json!({}))), None).unwrap();
        assert_eq!(change.control, json!({"state": "RolledBack"}));
        let aborted = family(json!({"state": "Aborted"}), status("Aborted", json!({})));
        assert!(
            undo(&aborted, None).is_ok(),
            "what was aborted half way can be taken back"
        );
        let again = family(json!({"state": "RolledBack"}), status("RollingBack", json!({})));
        assert!(undo(&again, None).is_err());
        let mut said = status("Halted", json!({}));
        said["rollback"] = json!("Impossible: klp_state 7");
        let refusal = undo(&family(json!({}), said), None).unwrap_err().to_string();
        assert!(refusal.contains("klp_state 7"), "{refusal}");
    }

    #[test]
    fn it_leads_to_the_revision_before_and_to_no_other() {
        let mut family = family(json!({}), status("Halted", json!({})));
        let decide =
            |family: &Family, to: &str| undo(family, Some(&to.parse().unwrap())).map_err(|why| why.to_string());
        assert!(
            decide(&family, "aabb")
                .unwrap_err()
                .contains("go back to nothing of this set")
        );
        let mut former = family.rollouts[0].clone();
        former.metadata.name = Some("nf-aabbccddee".to_owned());
        former.metadata.uid = Some("former".to_owned());
        family.rollouts.push(former);
        assert!(decide(&family, "aabb").is_ok());
        let refused = decide(&family, "ffff").unwrap_err();
        assert!(
            refused.contains("go back to revision aabbccddee, not to revision ffff"),
            "{refused}"
        );
    }
}
