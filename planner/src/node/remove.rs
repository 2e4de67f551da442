//! Taking a livepatch out because it is asked for. No IO.

use super::plan::{Action, Answer, Commit, Mode, Plan, Refusal, Step, Undo};
use super::situation::{Situation, Wish};

/// Disables and removes it, if it is there and nobody else's.
pub(super) fn plan(node: &Situation<'_>, wish: &Wish) -> Answer {
    let Some(running) = node.running(&wish.module, &wish.build_id) else {
        return Answer::Plan(Box::new(nothing()));
    };
    let others = node
        .records
        .iter()
        .find(|record| record.module == wish.module && record.set != wish.set && record.wanted);
    if let Some(other) = others {
        return Answer::Refused(Refusal::new(
            "WantedByOthers",
            format!("set {} wants {} here", other.set, wish.module),
        ));
    }
    let step = |action, undo| Step {
        action,
        module: running.module.clone(),
        key: Some(wish.key.clone()),
        undo,
    };
    Answer::Plan(Box::new(Plan {
        mode: Mode::Remove,
        because: vec![format!("set {} asks for its absence", wish.set)],
        verified: Vec::new(),
        steps: vec![
            step(Action::Disable, Undo::TakeBack),
            step(Action::Unload, Undo::Forward),
        ],
        commit: Some(Commit {
            step: 0,
            name: "the end of the transition that disables it".to_owned(),
        }),
        gaps: Vec::new(),
    }))
}

fn nothing() -> Plan {
    Plan {
        mode: Mode::Remove,
        because: vec!["it is not in the kernel".to_owned()],
        verified: Vec::new(),
        steps: Vec::new(),
        commit: None,
        gaps: Vec::new(),
    }
}
