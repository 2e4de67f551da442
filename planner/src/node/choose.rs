//! Which way a livepatch comes to be. No IO.

use livepatch_crds::node::DesiredState;
use livepatch_crds::policy::Upgrade;
use livepatch_module::ReplaceValue;
use livepatch_module::conflict::{Boot, SetKind, stacking};

use super::conflicts::{Meeting, said};
use super::plan::{Answer, Mode, Plan, Refusal};
use super::situation::{Key, Situation, Standing, Wish, supersedes};
use super::{remove, steps};

/// How a wish comes true on a node, or why it does not.
///
/// Total: whatever is given, it answers; what it would have to guess, it asks for ([`Answer::Needs`]) or refuses.
pub fn plan(node: &Situation<'_>, wish: &Wish) -> Answer {
    if let Some(refusal) = unsafe_kernel(node) {
        return Answer::Refused(refusal);
    }
    if wish.state == DesiredState::Absent {
        return remove::plan(node, wish);
    }
    if let Some(done) = done(node, wish) {
        return Answer::Plan(Box::new(done));
    }
    let Some(inspection) = node.known(&wish.key) else {
        return Answer::Needs(vec![wish.key.clone()]);
    };
    let meeting = Meeting::new(node, wish, inspection);
    match chosen(&meeting) {
        Err(answer) => answer,
        Ok((mode, because)) => {
            let verified = verified(&meeting, mode);
            let missing = meeting.unknown(&verified);
            if !missing.is_empty() {
                return Answer::Needs(missing);
            }
            if let Some(refusal) = meeting.refusal().or_else(|| admitted(&meeting, mode)) {
                return Answer::Refused(refusal);
            }
            Answer::Plan(Box::new(steps::plan(&meeting, mode, because, verified)))
        }
    }
}

fn unsafe_kernel(node: &Situation<'_>) -> Option<Refusal> {
    if node.replace_set {
        let message = "this kernel has replace_set, whose rules this version does not know";
        return Some(Refusal::new("ReplaceSetUnsupported", message));
    }
    let pinned = node.leftovers.iter().find(|leftover| leftover.pinned)?;
    let message = format!(
        "module {} is no longer in use and keeps its reference, as after a forced transition: only a reboot removes it",
        pinned.module
    );
    Some(Refusal::new("RebootRequired", message))
}

/// All is as it should be.
fn done(node: &Situation<'_>, wish: &Wish) -> Option<Plan> {
    let nothing = |mode, because: String| Plan {
        mode,
        because: vec![because],
        verified: Vec::new(),
        steps: Vec::new(),
        commit: None,
        gaps: Vec::new(),
    };
    if node
        .running(&wish.module, &wish.build_id)
        .is_some_and(super::situation::Running::is_effective)
    {
        return Some(nothing(Mode::Adopt, "the kernel runs this very build".to_owned()));
    }
    let container = container(node, &wish.set, &wish.key.sha256)?;
    (wish.kind == SetKind::OffBand).then(|| {
        let because = format!("the cumulative livepatch of set {container} contains it");
        nothing(Mode::Superseded, because)
    })
}

/// Name of the set whose cumulative livepatch, in effect, says that it contains a module of `set`.
fn container<'a>(node: &Situation<'a>, set: &str, sha256: &str) -> Option<&'a str> {
    let contains = |record: &&super::Record| {
        record.standing == Standing::InEffect
            && record.kind == SetKind::Cumulative
            && supersedes(&record.policy, set, sha256)
    };
    node.records.iter().find(contains).map(|record| record.set.as_str())
}

/// The mode, with its reasons.
fn chosen(meeting: &Meeting<'_>) -> Result<(Mode, Vec<String>), Answer> {
    let (wish, replace) = (meeting.wish, &meeting.inspection.replace);
    let flag = match replace.value {
        ReplaceValue::True => format!("its replace flag is set ({})", replace.evidence),
        ReplaceValue::False => format!("its replace flag is clear ({})", replace.evidence),
        ReplaceValue::Dynamic | ReplaceValue::Unknown => {
            format!("nothing proves its replace flag clear ({})", replace.evidence)
        }
    };
    if wish.kind == SetKind::OffBand && meeting.is_atomic() {
        let message = format!("an off-band livepatch must not have the replace flag, and {flag}");
        return Err(Answer::Refused(Refusal::new("ReplaceFlagUnproven", message)));
    }
    let predecessor = meeting.own().next();
    if meeting.is_atomic() {
        if let Some(refusal) = meeting.blocked() {
            return Err(Answer::Refused(refusal));
        }
        let alone = meeting.enabled().all(|(running, _)| running.module == wish.module);
        let mode = if alone { Mode::Load } else { Mode::Atomic };
        return Ok((mode, vec![flag]));
    }
    if let Some((running, _)) = meeting.own().find(|(_, record)| record.standing == Standing::Retiring) {
        let message = format!("{} of the same set has to be disabled first", running.module);
        return Err(Answer::Waits(Refusal::new("PredecessorRemains", message)));
    }
    let Some((old, record)) = predecessor else {
        return Ok((Mode::Load, vec![flag, "nothing of its set is loaded".to_owned()]));
    };
    if wish.kind == SetKind::OffBand && wish.policy.off_band.upgrade == Upgrade::UnloadFirst {
        return Ok((
            Mode::UnloadFirst,
            vec![format!("{} goes first, as the set asks", old.module)],
        ));
    }
    // What the predecessor keeps beyond its functions is told by its file only.
    let missing = meeting.unknown(std::slice::from_ref(&record.key));
    if !missing.is_empty() {
        return Err(Answer::Needs(missing));
    }
    let others: Vec<_> = meeting
        .enabled()
        .filter(|(running, _)| running.module != old.module)
        .map(|(running, record)| meeting.view(running, record))
        .collect();
    let boot = Boot {
        forced: meeting.node.forced,
    };
    let view = meeting.view(old, Some(record));
    if let Some(refusal) = said(&stacking(&view, &meeting.wanted(), &others, boot)) {
        if wish.back {
            let because = format!(
                "the rollout is taken back, and loading first is not safe: {}",
                refusal.message
            );
            return Ok((Mode::UnloadFirst, vec![because]));
        }
        return Err(Answer::Refused(refusal));
    }
    let mode = match wish.kind {
        SetKind::Cumulative => Mode::Stacked,
        SetKind::OffBand => Mode::LoadFirst,
    };
    Ok((
        mode,
        vec![flag, format!("it can be loaded over {} without a gap", old.module)],
    ))
}

/// What has to be on local disk: the way forward, and everything that may have to be brought back.
fn verified(meeting: &Meeting<'_>, mode: Mode) -> Vec<Key> {
    let mut keys = vec![meeting.wish.key.clone()];
    let mut add = |key: &Key| {
        if !keys.contains(key) {
            keys.push(key.clone());
        }
    };
    meeting.wish.previous.iter().for_each(&mut add);
    meeting.own().for_each(|(_, record)| add(&record.key));
    // What is swept comes back, and what it contains when it is rolled back; and what a livepatch keeps beyond its
    // functions is told by its file only.
    if mode == Mode::Atomic || !meeting.wish.returning {
        meeting.others().for_each(|(_, record)| add(&record.key));
    }
    if !meeting.wish.returning {
        meeting.to_come().for_each(|record| add(&record.key));
    }
    keys
}

/// What the kernel would say with what is loaded at the moment of the load.
fn admitted(meeting: &Meeting<'_>, mode: Mode) -> Option<Refusal> {
    let first = steps::disabled_first(meeting, mode);
    let loaded: Vec<_> = meeting
        .enabled()
        .filter(|(running, _)| !first.iter().any(|(gone, _)| gone.module == running.module))
        .map(|(running, record)| meeting.view(running, record))
        .collect();
    meeting.kernel_refusal(&loaded)
}
