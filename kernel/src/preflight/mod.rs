//! What can be known to fail is found before `finit_module` and named. No IO.
//!
//! These are the kernel's own reasons, and what a person should know of before. Whether a livepatch may be loaded next
//! to others by the project's rules is decided by [`livepatch_module::conflict`], which knows the sets; [`view`] gives
//! it a loaded livepatch.

mod state;
mod subject;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use livepatch_module::{Inspection, ReplaceValue, VMLINUX};
use strum::IntoEnumIterator as _;

use crate::policy::Lockdown;
use crate::refusal::RefusalReason;
use crate::seen::Seen;

pub use state::KernelState;
pub use subject::view;

/// How sure a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Weight {
    /// The load fails, or must not be tried.
    Fails,
    /// The load may fail: what decides about it cannot be seen or is not certain.
    Uncertain,
    /// The load works, and this is to be known.
    Notice,
}

/// One thing found.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// How sure it is.
    pub weight: Weight,
    /// Its reason code.
    pub reason: &'static str,
    /// What is the matter, with the names concerned.
    pub message: String,
}

impl Finding {
    /// What to do about it, in a sentence.
    pub fn advice(&self) -> &'static str {
        match self.reason {
            "WrongArchitecture" => "build the livepatch for this architecture",
            "ReplaceSetUnsupported" => "take a version of this program that knows the kernel's replace sets",
            "SettingsUnknown" => "look from the host itself, as root, with securityfs mounted",
            "SymbolsUnknown" => "look from the host itself: /proc/kallsyms has to be readable",
            "ObjectNotLoaded" => "nothing: the kernel patches the module when it is loaded, or refuses to load it",
            "AlreadyLoaded" => "nothing: it is in effect",
            "LeftoverRemoved" => "nothing: it is done by the load",
            "ShadowedByBpf" => "detach the BPF program, or make sure that it lets the patched function run",
            "ReplacesOthers" => "make sure that the livepatch contains their fixes",
            "SharedFunction" => "build one livepatch that holds both fixes",
            code => RefusalReason::iter()
                .find(|reason| <&str>::from(*reason) == code)
                .map_or("", RefusalReason::advice),
        }
    }
}

fn finding(weight: Weight, reason: &'static str, message: impl Into<String>) -> Finding {
    Finding {
        weight,
        reason,
        message: message.into(),
    }
}

/// Everything found, the certain failures first.
pub fn preflight(inspection: &Inspection, state: &KernelState) -> Vec<Finding> {
    let mut findings = Vec::new();
    for check in [
        kernel, settings, visible, name, depends, transition, symbols, tracers, effects,
    ] {
        check(inspection, state, &mut findings);
    }
    findings.sort_by_key(|finding| finding.weight);
    findings
}

/// Whether the module is for this kernel. The kernel itself leaves the release out of its comparison when it has symbol
/// versions, so this is the only place where a module of another release is found out.
fn kernel(inspection: &Inspection, state: &KernelState, findings: &mut Vec<Finding>) {
    let running = &state.identity;
    if inspection.architecture.uname() != running.architecture {
        findings.push(finding(
            Weight::Fails,
            "WrongArchitecture",
            format!(
                "the module is for {}, this is {}",
                inspection.architecture.uname(),
                running.architecture
            ),
        ));
    }
    if inspection.kernel_release != running.release {
        findings.push(finding(
            Weight::Fails,
            RefusalReason::VersionMagicMismatch.into(),
            format!(
                "the module is for kernel {}, this is {}",
                inspection.kernel_release, running.release
            ),
        ));
    }
}

fn settings(inspection: &Inspection, state: &KernelState, findings: &mut Vec<Finding>) {
    let policy = &state.policy;
    let unsigned = inspection.signature.is_none();
    let mut refused = |reason: RefusalReason, message| findings.push(finding(Weight::Fails, reason.into(), message));
    if policy.modules_disabled.is(&true) {
        refused(RefusalReason::ModulesDisabled, "kernel.modules_disabled is 1");
    }
    if unsigned && policy.signature_enforced.is(&true) {
        refused(
            RefusalReason::SignatureRequired,
            "the module is unsigned, and this kernel enforces signatures",
        );
    }
    if unsigned
        && matches!(
            policy.lockdown,
            Seen::Known(Lockdown::Integrity | Lockdown::Confidentiality)
        )
    {
        refused(
            RefusalReason::LockdownActive,
            "the module is unsigned, and this kernel is locked down",
        );
    }
    if policy.loadpin_enforced.is(&true) {
        refused(
            RefusalReason::LoadPinActive,
            "LoadPin accepts modules from one file system only, and this one comes from memory",
        );
    }
    if policy.ftrace_enabled.is(&false) {
        refused(RefusalReason::FtraceDisabled, "ftrace is off");
    }
    if policy.replace_set.is(&true) {
        findings.push(finding(
            Weight::Fails,
            "ReplaceSetUnsupported",
            "this kernel has replace sets, whose rules this version does not know",
        ));
    }
}

/// What decides about the load and cannot be seen from here. Never taken for "fine".
fn visible(inspection: &Inspection, state: &KernelState, findings: &mut Vec<Finding>) {
    let policy = &state.policy;
    let lockdown = policy.lockdown.known().map(|_| ());
    let settings = [
        (
            "whether modules are disabled",
            policy.modules_disabled.known().map(|_| ()),
        ),
        (
            "whether signatures are enforced",
            policy.signature_enforced.known().map(|_| ()),
        ),
        (
            "the lockdown level",
            if inspection.signature.is_some() {
                Some(())
            } else {
                lockdown
            },
        ),
        ("whether ftrace is enabled", policy.ftrace_enabled.known().map(|_| ())),
        ("whether LoadPin enforces", policy.loadpin_enforced.known().map(|_| ())),
        (
            "whether the kernel has replace sets",
            policy.replace_set.known().map(|_| ()),
        ),
    ];
    let unseen: Vec<&str> = settings
        .iter()
        .filter(|(_, seen)| seen.is_none())
        .map(|(what, _)| *what)
        .collect();
    if !unseen.is_empty() {
        let message = format!("not visible from here: {}", unseen.join(", "));
        findings.push(finding(Weight::Uncertain, "SettingsUnknown", message));
    }
}

fn name(inspection: &Inspection, state: &KernelState, findings: &mut Vec<Finding>) {
    let name = &inspection.name;
    if let Some(loaded) = state.livepatches.iter().find(|livepatch| livepatch.name == *name) {
        let same = match (&inspection.build_id, loaded.build_id.known()) {
            (Some(wanted), Some(Some(found))) => wanted == found.as_str(),
            _ => false,
        };
        findings.push(if same && loaded.standing.enabled {
            finding(
                Weight::Notice,
                "AlreadyLoaded",
                format!("{name} is loaded already, the same build"),
            )
        } else {
            finding(
                Weight::Fails,
                RefusalReason::NameTaken.into(),
                format!("a livepatch {name} is loaded and is not proven to be this build"),
            )
        });
    } else if let Some(leftover) = state.leftovers.iter().find(|module| module.name == *name) {
        findings.push(if leftover.refcount == 0 {
            let message = format!("an old module {name} that is no longer in use will be removed first");
            finding(Weight::Notice, "LeftoverRemoved", message)
        } else {
            let message = format!(
                "an old module {name} is no longer in use and has {} references",
                leftover.refcount
            );
            finding(Weight::Uncertain, RefusalReason::LeftoverPinned.into(), message)
        });
    } else if state.same_name_loaded {
        let message = format!("an ordinary module {name} is loaded");
        findings.push(finding(Weight::Fails, RefusalReason::NameTaken.into(), message));
    }
}

fn transition(_: &Inspection, state: &KernelState, findings: &mut Vec<Finding>) {
    if let Some(livepatch) = state.livepatches.iter().find(|livepatch| livepatch.standing.transition) {
        let message = format!("{} is in transition: the load waits for it", livepatch.name);
        findings.push(finding(
            Weight::Uncertain,
            RefusalReason::TransitionRunning.into(),
            message,
        ));
    }
}

fn symbols(inspection: &Inspection, state: &KernelState, findings: &mut Vec<Finding>) {
    let counts = match &state.symbols {
        Seen::Known(counts) => counts,
        Seen::Unknown(why) => {
            findings.push(finding(Weight::Uncertain, "SymbolsUnknown", why.clone()));
            return;
        }
    };
    for object in &inspection.objects {
        let present = object.name == VMLINUX || state.loaded_objects.contains(&object.name);
        if !present {
            let message = match state.module_files.known() {
                Some(files) if files.contains(&object.name) => {
                    format!(
                        "{} is not loaded: its functions are checked by the kernel when it is",
                        object.name
                    )
                }
                Some(_) => format!("{} is neither loaded nor among this kernel's modules", object.name),
                None => format!(
                    "{} is not loaded, and this kernel's modules cannot be seen",
                    object.name
                ),
            };
            findings.push(finding(Weight::Notice, "ObjectNotLoaded", message));
            continue;
        }
        for function in &object.functions {
            let what = format!("{} of {}", function.name, object.name);
            match counts.count(&object.name, &function.name) {
                0 => findings.push(finding(
                    Weight::Fails,
                    RefusalReason::SymbolNotFound.into(),
                    format!("this kernel has no function {what}"),
                )),
                count if function.position > count => findings.push(finding(
                    Weight::Fails,
                    RefusalReason::SymbolPositionNotFound.into(),
                    format!("this kernel has {count} functions {what}, not {}", function.position),
                )),
                // A position that was not given reads as 1 as well.
                count if count > 1 && function.position == 1 => findings.push(finding(
                    Weight::Uncertain,
                    RefusalReason::SymbolAmbiguous.into(),
                    format!("this kernel has {count} functions {what}: refused unless the module gives the position"),
                )),
                _ => {}
            }
        }
    }
}

/// `finit_module` loads no dependencies: what is missing makes symbols unknown.
fn depends(inspection: &Inspection, state: &KernelState, findings: &mut Vec<Finding>) {
    for name in &inspection.depends {
        if !state.loaded_objects.contains(name) {
            findings.push(finding(
                Weight::Fails,
                RefusalReason::UnknownSymbol.into(),
                format!("the module depends on {name}, which is not loaded"),
            ));
        }
    }
}

fn tracers(inspection: &Inspection, state: &KernelState, findings: &mut Vec<Finding>) {
    // A container sees no tracefs, and a clash is refused by the kernel without harm: not worth a finding.
    let Some(traced) = state.traced.known() else { return };
    let patched: BTreeSet<&str> = state
        .livepatches
        .iter()
        .flat_map(|livepatch| &livepatch.objects)
        .flat_map(|object| object.functions.iter().map(|function| function.name.as_str()))
        .collect();
    for (_, function) in inspection.functions() {
        for other in traced.iter().filter(|other| other.name == function.name) {
            if other.redirects && !patched.contains(other.name.as_str()) {
                let message = format!(
                    "{} is held by a kprobe or another tracer that may redirect it",
                    other.name
                );
                findings.push(finding(
                    Weight::Fails,
                    RefusalReason::FunctionHeldByTracer.into(),
                    message,
                ));
            } else if other.direct {
                let message = format!(
                    "a BPF program is attached to {}: it may run in place of the fix",
                    other.name
                );
                findings.push(finding(Weight::Uncertain, "ShadowedByBpf", message));
            }
        }
    }
}

/// What the load does to others.
fn effects(inspection: &Inspection, state: &KernelState, findings: &mut Vec<Finding>) {
    let others: Vec<&str> = state
        .livepatches
        .iter()
        .filter(|livepatch| livepatch.standing.enabled && livepatch.name != inspection.name)
        .map(|livepatch| livepatch.name.as_str())
        .collect();
    if inspection.replace.value != ReplaceValue::False && !others.is_empty() {
        let word = if inspection.replace.value == ReplaceValue::True {
            "disables"
        } else {
            "may disable"
        };
        let message = format!("the load {word} every other livepatch: {}", others.join(", "));
        findings.push(finding(Weight::Notice, "ReplacesOthers", message));
    }
    for livepatch in state
        .livepatches
        .iter()
        .filter(|livepatch| livepatch.name != inspection.name)
    {
        if !livepatch.functions_reliable {
            continue;
        }
        let shared: Vec<&str> = inspection
            .functions()
            .filter(|(object, function)| {
                livepatch.objects.iter().filter(|own| own.name == *object).any(|own| {
                    own.functions
                        .iter()
                        .any(|f| f.name == function.name && f.position == function.position)
                })
            })
            .map(|(_, function)| function.name.as_str())
            .collect();
        if !shared.is_empty() && inspection.replace.value != ReplaceValue::True {
            let message = format!(
                "{} patches {} as well: the later one wins silently",
                livepatch.name,
                shared.join(", ")
            );
            findings.push(finding(Weight::Notice, "SharedFunction", message));
        }
    }
}
