//! What follows from what `doctor` saw. No IO.

mod kernel;
mod surroundings;
#[cfg(test)]
mod tests;

use livepatch_kernel::RefusalReason;

use super::look::Symptoms;
use super::{Finding, Item};

/// All matters, in the order in which a person would look at them.
pub(super) fn judge(seen: &Symptoms) -> Vec<Item> {
    vec![
        kernel::kernel(seen),
        kernel::livepatching(seen),
        kernel::config(seen.config.as_ref()),
        kernel::patch_state(seen),
        kernel::rights(seen),
        kernel::settings_of_modules(seen),
        kernel::signatures(seen),
        kernel::ftrace(seen),
        kernel::replace_sets(seen),
        surroundings::leftovers(seen),
        surroundings::taints(seen),
        surroundings::transition(seen),
        surroundings::others(seen),
        surroundings::log(seen),
        surroundings::modules(seen),
        surroundings::stop(seen),
        surroundings::state(seen),
        surroundings::lock(seen),
    ]
}

fn good(check: &'static str, message: impl Into<String>) -> Item {
    Item {
        check,
        finding: Finding::Good,
        reason: None,
        message: message.into(),
        advice: None,
    }
}

fn bad(check: &'static str, finding: Finding, reason: &'static str, message: impl Into<String>, advice: &str) -> Item {
    Item {
        check,
        finding,
        reason: Some(reason),
        message: message.into(),
        advice: Some(advice.to_owned()).filter(|advice| !advice.is_empty()),
    }
}

/// A reason that the kernel crate has an advice for.
fn refused(check: &'static str, reason: RefusalReason, message: impl Into<String>) -> Item {
    bad(check, Finding::Unfit, reason.into(), message, reason.advice())
}

fn unseen(check: &'static str, why: &str) -> Item {
    let advice = "look from the host itself, as root";
    bad(
        check,
        Finding::Unknown,
        "NotVisible",
        format!("cannot be seen: {why}"),
        advice,
    )
}
