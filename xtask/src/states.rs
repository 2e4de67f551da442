//! The page about the states of a rollout, made of the planner's own table.
//!
//! No IO.

use std::fmt::Write;

use livepatch_planner::fleet::states::{AT_ANY_TIME, STATES};

use crate::generate::Generated;

/// The page.
pub fn file() -> Generated {
    let names = |reasons: &[&str]| {
        reasons
            .iter()
            .map(|reason| format!("`{reason}`"))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let mut page = format!(
        "# States of a rollout\n\n\
         <!-- Generated from the crate livepatch-planner by cargo xtask generate. Do not edit. -->\n\n\
         The reason of the condition Ready of a LivepatchSet and of its LivepatchRollout says which state it is in, and\n\
         `status.blockedBy` what it waits for, in one sentence. No state waits without an end or a name: the third column.\n\n\
         From every state it can go to {}.\n\n\
         | state | what it means | what ends it | Stalled | goes on to |\n|---|---|---|---|---|\n",
        names(AT_ANY_TIME)
    );
    for state in STATES {
        let stalled = if state.stalled { "True" } else { "False" };
        let _ = writeln!(
            page,
            "| `{}` | {} | {} | {stalled} | {} |",
            state.reason,
            state.meaning,
            state.ended_by.told(),
            names(state.next)
        );
    }
    page.push_str(
        "\nOther reasons say why nothing can be granted at the moment (the operator does not lead, is catching up, or misses\n\
         its admission policies) or why the set is not accepted. The runbook has them all.\n",
    );
    Generated {
        path: "docs/rollout-states.md".to_owned(),
        content: page,
    }
}
