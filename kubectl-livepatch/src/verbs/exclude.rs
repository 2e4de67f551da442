//! `exclude`: leave nodes out of a rollout, or take them back in. Pure.

use std::collections::BTreeSet;

use clap::Args;
use livepatch_crds::rollout::{ControlState, MAX_EXCLUDED};
use serde_json::json;

use super::{Change, Refusal, WriteOptions, aborted, subject};
use crate::family::{self, Family};
use crate::options::NodeName;
use crate::text::count;

const ABOUT: &str = "\
Leave nodes out of a rollout: they get no grant, and nothing waits for them. What is loaded there stays. A rollout that
halted because of them stays halted until kubectl livepatch retry. With --undo take nodes back in.

It holds for this rollout only. To keep a node out of everything, label it livepatch.dev/skip=true.

Writes spec.control.excludeNodes of the LivepatchRollout, as does
  kubectl patch lpr ROLLOUT --type=merge -p '{\"spec\":{\"control\":{\"excludeNodes\":[\"NODE\"]}}}'";

/// `exclude SET NODE...`.
#[derive(Debug, Clone, Args)]
#[command(about = "Leave nodes out of a rollout", long_about = ABOUT)]
pub struct ExcludeOptions {
    #[command(flatten)]
    pub write: WriteOptions,

    /// The nodes
    #[arg(value_name = "NODE", required = true)]
    pub nodes: Vec<NodeName>,

    /// Take the nodes back in
    #[arg(long)]
    pub undo: bool,
}

/// What to write.
pub fn exclude(family: &Family, options: &ExcludeOptions) -> Result<Change, Refusal> {
    let rollout = subject(family)?;
    let set = family.name();
    let control = family::control(rollout);
    if control.state == ControlState::Aborted {
        return Err(aborted());
    }
    let before: BTreeSet<&str> = control.exclude_nodes.iter().map(String::as_str).collect();
    let named: BTreeSet<&str> = options.nodes.iter().map(NodeName::as_str).collect();
    let (changed, after): (Vec<&str>, BTreeSet<&str>) = if options.undo {
        (before.intersection(&named).copied().collect(), &before - &named)
    } else {
        (named.difference(&before).copied().collect(), &before | &named)
    };
    if changed.is_empty() {
        let all: Vec<&str> = named.into_iter().collect();
        return Err(if options.undo {
            let rollout = family::name(&rollout.metadata);
            let those = format!("those that are, are in spec.control.excludeNodes of LivepatchRollout {rollout}");
            Refusal::new(format!("{} not left out of the rollout", are(&all)), those)
        } else {
            let back = format!("to take nodes back in, kubectl livepatch exclude {set} --undo NODE");
            Refusal::new(format!("{} left out of the rollout already", are(&all)), back)
        });
    }
    if after.len() > MAX_EXCLUDED {
        return Err(Refusal::new(
            format!(
                "a rollout can leave out {MAX_EXCLUDED} nodes, these would be {}",
                after.len()
            ),
            "narrow spec.nodeSelector of the LivepatchSet, or label nodes livepatch.dev/skip=true",
        ));
    }
    let told = if options.undo {
        format!("takes {} back in", changed.join(", "))
    } else {
        let halted = match family::state(&family::rollout_status(rollout).conditions).reason {
            "Halted" => format!("; it stays halted until kubectl livepatch retry {set}"),
            _ => String::new(),
        };
        let left_out = count(after.len(), "node");
        format!(
            "leaves out {}: {left_out} in all get no grant and are not waited for{halted}",
            changed.join(", ")
        )
    };
    Ok(Change {
        control: json!({"excludeNodes": after}),
        told,
    })
}

fn are(nodes: &[&str]) -> String {
    let verb = if nodes.len() == 1 { "is" } else { "are" };
    format!("{} {verb}", nodes.join(", "))
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{family, status};
    use super::*;
    use clap::{CommandFactory as _, FromArgMatches as _, Parser};
    use serde_json::Value;

    #[derive(Parser)]
    struct Typed {
        #[command(flatten)]
        options: ExcludeOptions,
    }

    fn decide(control: Value, reason: &str, arguments: &[&str]) -> Result<Change, Refusal> {
        let typed = ["exclude", "nf"].iter().chain(arguments);
        let matches = Typed::command().try_get_matches_from(typed).unwrap();
        let options = Typed::from_arg_matches(&matches).unwrap().options;
        exclude(&family(control, status(reason, json!({}))), &options)
    }

    #[test]
    fn nodes_are_added_to_those_left_out_and_taken_back() {
        let control = json!({"excludeNodes": ["b"]});
        let added = decide(control.clone(), "Halted", &["node/c", "a", "b"]).unwrap();
        assert_eq!(added.control, json!({"excludeNodes": ["a", "b", "c"]}));
        assert_eq!(
            added.told,
            "leaves out a, c: 3 nodes in all get no grant and are not waited for; it stays halted until kubectl \
             livepatch retry nf"
        );
        let back = decide(control, "Progressing", &["--undo", "b"]).unwrap();
        assert_eq!(back.control, json!({"excludeNodes": []}));
        assert_eq!(back.told, "takes b back in");
    }

    #[test]
    fn what_changes_nothing_or_is_too_much_is_refused() {
        let refused = |control, arguments: &[&str]| decide(control, "Progressing", arguments).unwrap_err().to_string();
        let some = json!({"excludeNodes": ["b"]});
        assert!(refused(some.clone(), &["b"]).contains("b is left out of the rollout already"));
        assert!(refused(some, &["--undo", "a", "c"]).contains("a, c are not left out"));
        assert!(refused(json!({"state": "Aborted"}), &["a"]).contains("aborted"));
        let many: Vec<String> = (0..100).map(|n| format!("n{n}")).collect();
        assert!(refused(json!({"excludeNodes": many}), &["one-more"]).contains("these would be 101"));
    }
}
