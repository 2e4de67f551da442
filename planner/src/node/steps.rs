//! The steps of each way. No IO.

use livepatch_module::conflict::SetKind;

use super::conflicts::Meeting;
use super::plan::{Action, Commit, Gap, Mode, Plan, Step, Undo};
use super::situation::{Key, Record, Running};

/// What is disabled before the load, in order: an atomic replace sweeps a livepatch without running its callbacks, and
/// is refused for its `klp_state`.
pub(super) fn disabled_first<'a>(meeting: &Meeting<'a>, mode: Mode) -> Vec<(&'a Running, &'a Record)> {
    match mode {
        Mode::Atomic => meeting
            .others()
            .filter(|(_, record)| record.kind == SetKind::OffBand)
            .filter(|(_, record)| {
                let file = meeting.node.known(&record.key);
                file.is_none_or(livepatch_module::Inspection::keeps_state)
            })
            .collect(),
        Mode::UnloadFirst => meeting.own().collect(),
        _ => Vec::new(),
    }
}

/// The plan for a mode that loads.
pub(super) fn plan(meeting: &Meeting<'_>, mode: Mode, because: Vec<String>, verified: Vec<Key>) -> Plan {
    let mut steps = Vec::new();
    let mut gaps = Vec::new();
    let first = disabled_first(meeting, mode);
    for (running, record) in &first {
        steps.push(step(
            Action::Disable,
            &running.module,
            Some(&record.key),
            Undo::LoadAgain,
        ));
    }
    let load = steps.len();
    let undo = Undo::TakeBack;
    steps.push(step(Action::Load, &meeting.wish.module, Some(&meeting.wish.key), undo));
    let commit = Commit {
        step: load,
        name: format!("the end of the transition of {}", meeting.wish.module),
    };
    match mode {
        Mode::Atomic => restores(meeting, load, &mut steps, &mut gaps),
        Mode::Stacked | Mode::LoadFirst => {
            for (running, record) in meeting.own() {
                retire(&mut steps, &running.module, &record.key);
            }
        }
        Mode::UnloadFirst => {
            for (running, record) in &first {
                steps.push(step(Action::Unload, &running.module, Some(&record.key), Undo::Forward));
            }
            gaps.push(Gap {
                set: meeting.wish.set.clone(),
                module: meeting.wish.module.clone(),
                from: 0,
                to: load,
            });
        }
        _ => {}
    }
    if !meeting.is_atomic() {
        for (running, record) in meeting.others().filter(|(_, record)| meeting.contains(record)) {
            retire(&mut steps, &running.module, &record.key);
        }
    }
    Plan {
        mode,
        because,
        verified,
        steps,
        commit: Some(commit),
        gaps,
    }
}

/// After an atomic replace: what it swept and nobody wants any more is removed, the rest brought back in order.
fn restores(meeting: &Meeting<'_>, load: usize, steps: &mut Vec<Step>, gaps: &mut Vec<Gap>) {
    for (running, record) in meeting.own() {
        steps.push(step(Action::Unload, &running.module, Some(&record.key), Undo::Forward));
    }
    for record in meeting.node.records {
        if !meeting.displaced().any(|displaced| displaced.key == record.key) {
            continue;
        }
        let disabled = steps
            .iter()
            .position(|step| step.action == Action::Disable && step.key.as_ref() == Some(&record.key));
        gaps.push(Gap {
            set: record.set.clone(),
            module: record.module.clone(),
            from: disabled.unwrap_or(load),
            to: steps.len(),
        });
        steps.push(step(Action::Load, &record.module, Some(&record.key), Undo::Forward));
    }
}

fn retire(steps: &mut Vec<Step>, module: &str, key: &Key) {
    steps.push(step(Action::Disable, module, Some(key), Undo::Forward));
    steps.push(step(Action::Unload, module, Some(key), Undo::Forward));
}

fn step(action: Action, module: &str, key: Option<&Key>, undo: Undo) -> Step {
    Step {
        action,
        module: module.to_owned(),
        key: key.cloned(),
        undo,
    }
}
