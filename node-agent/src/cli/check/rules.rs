//! What no kernel up to 7.2 checks: a fix that a load silently takes out of effect. No IO.
//!
//! On a cluster the sets of livepatches say what belongs together. On a host alone nobody does, so the rule here is the
//! one the kernel's own maintainers came to: a livepatch may replace what it contains, and may stand next to what it
//! shares no function with. Everything else is for a person to say.

use livepatch_kernel::preflight::Weight;
use livepatch_kernel::{Livepatch, LoadedModule};
use livepatch_module::conflict::FunctionRef;
use livepatch_module::{Inspection, ReplaceValue};

use super::Told;
use crate::cli::args::Allowed;

/// Functions named in a sentence.
const NAMED: usize = 5;

/// The reason code under which the kernel crate notes a shared function.
const SHARED: &str = "SharedFunction";

/// What a load would take out of effect.
pub(super) fn coexistence(inspection: &Inspection, loaded: &[Livepatch], allowed: Allowed, told: &mut Vec<Told>) {
    let own = FunctionRef::all_of(inspection);
    let others = loaded
        .iter()
        .filter(|other| other.standing.enabled && other.functions_reliable && other.name != inspection.name);
    for other in others {
        let (shared, lost): (Vec<FunctionRef>, Vec<FunctionRef>) = functions(other)
            .into_iter()
            .partition(|function| own.contains(function));
        let replaces = inspection.replace.value;
        if replaces != ReplaceValue::False && !lost.is_empty() && !allowed.allow_lost_fixes {
            let word = if replaces == ReplaceValue::True {
                "disables"
            } else {
                "may disable"
            };
            told.push(Told {
                weight: Weight::Fails,
                reason: "FixWouldBeLost",
                message: format!(
                    "the load {word} {}, and this livepatch does not patch {}",
                    other.name,
                    named(&lost)
                ),
                advice: "build the livepatch with these fixes in it, or load it all the same with --allow-lost-fixes"
                    .to_owned(),
            });
        }
        if replaces != ReplaceValue::True && !shared.is_empty() && !allowed.allow_shared_functions {
            told.retain(|finding| finding.reason != SHARED || finding.weight == Weight::Fails);
            told.push(Told {
                weight: Weight::Fails,
                reason: SHARED,
                message: format!(
                    "{} patches {} as well, and the one loaded last would silently win",
                    other.name,
                    named(&shared)
                ),
                advice: "build one livepatch that holds both fixes; if this one is the other's next version, load it with --allow-shared-functions and unload the other"
                    .to_owned(),
            });
        }
    }
}

/// A transition that was forced. The kernel's own documentation (livepatch.rst) wants a reboot after it, and no livepatch
/// before that: tasks may still run code that is thought to be gone.
pub(super) fn forced(leftovers: &[LoadedModule], told: &mut Vec<Told>) {
    let pinned = leftovers.iter().filter(|module| module.refcount > 0);
    told.extend(pinned.map(|module| Told {
        weight: Weight::Fails,
        reason: "RebootRequired",
        message: format!(
            "{} is no longer in use and keeps {} references: a transition was forced since the boot",
            module.name, module.refcount
        ),
        advice: "reboot the host before anything else is loaded".to_owned(),
    }));
}

fn functions(livepatch: &Livepatch) -> Vec<FunctionRef> {
    let objects = livepatch.objects.iter();
    objects
        .flat_map(|object| {
            let functions = object.functions.iter();
            functions.map(|function| FunctionRef::new(&object.name, &function.name, function.position))
        })
        .collect()
}

fn named(functions: &[FunctionRef]) -> String {
    let names: Vec<String> = functions.iter().take(NAMED).map(ToString::to_string).collect();
    match functions.len().saturating_sub(NAMED) {
        0 => names.join(", "),
        more => format!("{} and {more} more", names.join(", ")),
    }
}
