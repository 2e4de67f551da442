//! What is said of a set and of its rollouts: counts, conditions, failures, events.

use super::decide::Course;
use super::decision::{Decision, Happening, Regarding};
use super::reasons;
use super::snapshot::{Leave, RolloutView};
use super::standing::{Coverage, Standing, count, coverage, report};
use jiff::Timestamp;
use livepatch_crds::bounded::{MAX_ENTRY_MESSAGE, MAX_MESSAGE, bounded};
use livepatch_crds::conditions::{ACCEPTED, COMPLETE, DEGRADED, READY, RECONCILING, STALLED, Saying, merge};
use livepatch_crds::node::KernelIdentity;
use livepatch_crds::revision::revision;
use livepatch_crds::rollout::{
    ControlState, Failure, KernelStatus, LivepatchRolloutStatus, MAX_FAILURES, MAX_KERNELS, WaveState,
};
use livepatch_crds::set::{Counts, LivepatchSetStatus};
use std::collections::BTreeMap;
use std::fmt::Write;

/// What is said of one set.
pub(super) struct Report<'a> {
    course: &'a Course<'a>,
    now: Timestamp,
    counts: Counts,
    /// Why the set stands as it does: a reason code.
    reason: &'static str,
    blocked_by: Option<String>,
    failures: Vec<Failure>,
}

impl<'a> Report<'a> {
    pub fn of(course: &'a Course<'a>, leave: &Leave, now: Timestamp) -> Self {
        let counts = count(course.nodes.values().map(|(_, _, standing)| standing));
        let (reason, blocked_by) = ground(course, &counts, leave);
        let blocked_by = (!blocked_by.is_empty()).then(|| bounded(&blocked_by, MAX_MESSAGE));
        Self {
            course,
            now,
            counts,
            reason,
            blocked_by,
            failures: failures(course),
        }
    }

    pub fn write_into(self, decision: &mut Decision) {
        let course = self.course;
        let soak_until = course.progress.soak_until;
        decision.wake_at = [decision.wake_at, soak_until, course.next_settled]
            .into_iter()
            .flatten()
            .min();
        let set_status = self.set_status();
        if set_status != course.set.status {
            self.tell_of_set(&set_status, decision);
            decision.set_statuses.push((course.set.name.clone(), set_status));
        }
        if let Some(rollout) = course.rollout {
            let status = self.rollout_status(rollout);
            if status != rollout.status {
                Self::tell_of_waves(rollout, &status, decision);
                decision.rollout_statuses.push((rollout.name.clone(), status));
            }
        }
        let current = course.rollout.map(|rollout| rollout.name.as_str());
        for former in course
            .set
            .rollouts
            .iter()
            .filter(|r| Some(r.name.as_str()) != current && !r.deleting)
        {
            if let (Some(_), Some(status)) = (current, self.superseded(former)) {
                decision.rollout_statuses.push((former.name.clone(), status));
            }
        }
    }

    fn set_status(&self) -> LivepatchSetStatus {
        let set = self.course.set;
        let update = revision(&set.spec.template);
        let current = if self.is_complete() {
            Some(update.clone())
        } else {
            set.status.current_revision.clone()
        };
        LivepatchSetStatus {
            observed_generation: set.generation,
            current_revision: current,
            update_revision: Some(update),
            rollout: self.course.rollout.map(|rollout| rollout.name.clone()),
            wave: self.wave(),
            blocked_by: self.blocked_by.clone(),
            counts: self.counts,
            conditions: merge(&set.status.conditions, &self.sayings(), set.generation, self.now),
        }
    }

    fn rollout_status(&self, rollout: &RolloutView) -> LivepatchRolloutStatus {
        LivepatchRolloutStatus {
            observed_generation: rollout.generation,
            counts: self.counts,
            wave: self.wave(),
            blocked_by: self.blocked_by.clone(),
            waves: self.course.progress.waves.clone(),
            kernels: kernels(self.course),
            failures: self.failures.clone(),
            conditions: merge(
                &rollout.status.conditions,
                &self.sayings(),
                rollout.generation,
                self.now,
            ),
        }
    }

    /// The status of a rollout whose set asks for another revision by now; `None` if it says so already.
    fn superseded(&self, former: &RolloutView) -> Option<LivepatchRolloutStatus> {
        let message = "the set asks for another revision by now".to_owned();
        let say = |kind, status| Saying {
            kind,
            status: Some(status),
            reason: reasons::SUPERSEDED,
            message: message.clone(),
        };
        let sayings = [
            say(READY, false),
            say(RECONCILING, false),
            say(STALLED, false),
            say(COMPLETE, false),
        ];
        let status = LivepatchRolloutStatus {
            observed_generation: former.generation,
            blocked_by: None,
            wave: None,
            // Should the set return to this revision, it goes through all waves anew.
            waves: Vec::new(),
            conditions: merge(&former.status.conditions, &sayings, former.generation, self.now),
            ..former.status.clone()
        };
        (status != former.status).then_some(status)
    }

    fn wave(&self) -> Option<String> {
        let progress = &self.course.progress;
        progress
            .current
            .and_then(|index| progress.waves.get(index))
            .map(|wave| wave.name.clone())
    }

    fn is_complete(&self) -> bool {
        self.reason == reasons::COMPLETE
    }

    /// Kubernetes conditions; Ready, Reconciling and Stalled are such that kstatus reads them rightly.
    fn sayings(&self) -> [Saying; 6] {
        let acceptance = &self.course.acceptance;
        let complete = self.is_complete();
        let stalled = [reasons::HALTED, reasons::ABORTED].contains(&self.reason) || acceptance.status == Some(false);
        let (reason, message) = (self.reason, self.message());
        let say = |kind, status, reason, message: &str| Saying {
            kind,
            status,
            reason,
            message: message.to_owned(),
        };
        let idle = if stalled || complete { reason } else { reasons::IDLE };
        let degraded = self.counts.failed > 0 || stalled;
        [
            say(ACCEPTED, acceptance.status, acceptance.reason, &acceptance.message),
            say(READY, Some(complete), reason, &message),
            say(
                RECONCILING,
                Some(!complete && !stalled),
                if complete || stalled { idle } else { reason },
                &message,
            ),
            say(
                STALLED,
                Some(stalled),
                if stalled { reason } else { reasons::NO_FAILURE },
                &message,
            ),
            say(COMPLETE, Some(complete), reason, &message),
            say(
                DEGRADED,
                Some(degraded),
                if degraded { reason } else { reasons::NO_FAILURE },
                &message,
            ),
        ]
    }

    fn message(&self) -> String {
        let c = &self.counts;
        let mut message = format!("{}/{} nodes settled", c.settled, c.selected);
        let others = [
            (c.in_flight, "in flight"),
            (c.pending, "pending"),
            (c.failed, "failed"),
            (c.not_applicable, "without a module for their kernel"),
            (c.unreachable, "unreachable"),
            (c.held, "held"),
            (c.unknown, "not reported"),
            (c.excluded, "left out"),
        ];
        for (number, what) in others.into_iter().filter(|(number, _)| *number > 0) {
            let _ = write!(message, ", {number} {what}");
        }
        if let Some(blocked_by) = &self.blocked_by {
            message.push_str("; ");
            message.push_str(blocked_by);
        }
        message
    }

    fn tell_of_set(&self, status: &LivepatchSetStatus, decision: &mut Decision) {
        let set = self.course.set;
        let was = |kind| livepatch_crds::conditions::find(&set.status.conditions, kind).map(|c| c.reason.as_str());
        let acceptance = &self.course.acceptance;
        let mut tell = |warning, reason, note: &str| {
            let note = bounded(note, MAX_MESSAGE);
            decision.happenings.push(Happening {
                regarding: Regarding::Set(set.name.clone()),
                warning,
                reason,
                note,
            });
        };
        if acceptance.reason != reasons::READING_ARTEFACT
            && !acceptance.is_accepted()
            && was(ACCEPTED) != Some(acceptance.reason)
        {
            tell(true, acceptance.reason, &acceptance.message);
        }
        let turned = was(READY) != Some(self.reason);
        if turned && [reasons::HALTED, reasons::ABORTED].contains(&self.reason) {
            tell(true, self.reason, &self.message());
        }
        if turned && self.is_complete() && !set.status.conditions.is_empty() {
            tell(
                false,
                reasons::COMPLETE,
                &format!(
                    "revision {} : {}",
                    status.update_revision.as_deref().unwrap_or_default(),
                    self.message()
                ),
            );
        }
    }

    fn tell_of_waves(rollout: &RolloutView, status: &LivepatchRolloutStatus, decision: &mut Decision) {
        let mut tell = |warning, reason, note: String| {
            let note = bounded(&note, MAX_MESSAGE);
            let regarding = Regarding::Rollout(rollout.name.clone());
            decision.happenings.push(Happening {
                regarding,
                warning,
                reason,
                note,
            });
        };
        for wave in &status.waves {
            let before = rollout
                .status
                .waves
                .iter()
                .find(|old| old.name == wave.name)
                .map(|old| old.state);
            if before == Some(wave.state) {
                continue;
            }
            let name = &wave.name;
            match wave.state {
                WaveState::Running if before != Some(WaveState::Soaking) => {
                    tell(
                        false,
                        reasons::WAVE_STARTED,
                        format!("wave {name} begins with {} nodes", wave.selected),
                    );
                }
                WaveState::Soaking => tell(
                    false,
                    reasons::SOAKING,
                    format!("wave {name}: {} nodes settled", wave.settled),
                ),
                WaveState::AwaitingPromotion => {
                    tell(
                        false,
                        reasons::AWAITING_PROMOTION,
                        format!("wave {name} awaits promotion"),
                    );
                }
                WaveState::Empty => tell(true, reasons::WAVE_EMPTY, format!("wave {name} takes no node")),
                WaveState::Passed if wave.selected > 0 => {
                    tell(
                        false,
                        reasons::WAVE_PASSED,
                        format!("wave {name} passed with {} settled nodes", wave.settled),
                    );
                }
                _ => {}
            }
        }
        for failure in status
            .failures
            .iter()
            .filter(|failure| !rollout.status.failures.contains(failure))
        {
            let Failure {
                node,
                wave,
                reason,
                message,
                ..
            } = failure;
            tell(
                true,
                reasons::NODE_FAILED,
                format!("node {node} (wave {wave}) failed with {reason}: {message}"),
            );
        }
    }
}

/// Why a set stands as it does, and what it waits for: what keeps it from starting goes before how far it came.
fn ground(course: &Course<'_>, counts: &Counts, leave: &Leave) -> (&'static str, String) {
    let progress = &course.progress;
    let running = (progress.reason, progress.blocked_by.clone());
    if [reasons::HALTED, reasons::ABORTED].contains(&progress.reason) {
        return running;
    }
    if !course.acceptance.is_accepted() {
        return (course.acceptance.reason, course.acceptance.message.clone());
    }
    let Some(rollout) = course.rollout else {
        return (reasons::PROGRESSING, "the rollout is being made".to_owned());
    };
    match leave {
        Leave::Withheld { reason, message }
            if counts.pending > 0
                && rollout.control.state == ControlState::Run
                && progress.reason == reasons::PROGRESSING =>
        {
            (reason, message.clone())
        }
        _ => running,
    }
}

/// The failures that were listed before, and the new ones: they stay until they are too many, the oldest attempts first.
fn failures(course: &Course<'_>) -> Vec<Failure> {
    let Some(rollout) = course.rollout else {
        return Vec::new();
    };
    let attempt = rollout.control.attempt;
    let mut failures = rollout.status.failures.clone();
    for (name, (wave, _, standing)) in &course.nodes {
        let Standing::Failed { reason, message } = standing else {
            continue;
        };
        if failures
            .iter()
            .any(|failure| failure.node == *name && failure.attempt == attempt)
        {
            continue;
        }
        let wave = course
            .progress
            .waves
            .get(*wave)
            .map_or_else(String::new, |wave| wave.name.clone());
        let message = bounded(message, MAX_ENTRY_MESSAGE);
        failures.push(Failure {
            node: (*name).to_owned(),
            wave,
            attempt,
            reason: reason.clone(),
            message,
        });
    }
    failures.sort_by_key(|failure| std::cmp::Reverse(failure.attempt));
    failures.truncate(MAX_FAILURES);
    failures
}

/// The kernel builds among the selected nodes, the most frequent ones first.
fn kernels(course: &Course<'_>) -> Vec<KernelStatus> {
    let mut builds: BTreeMap<&KernelIdentity, (i32, i32)> = BTreeMap::new();
    for (_, node, standing) in course.nodes.values() {
        if let Some(object) = report(node) {
            let (nodes, settled) = builds.entry(&object.status.kernel).or_default();
            *nodes += 1;
            *settled += i32::from(*standing == Standing::Settled);
        }
    }
    let mut kernels: Vec<KernelStatus> = builds
        .into_iter()
        .map(|(kernel, (nodes, settled))| KernelStatus {
            release: kernel.release.clone(),
            build_id: kernel.build_id.clone(),
            covered: matches!(coverage(&course.set.bundle, kernel), Coverage::Covered(_)),
            nodes,
            settled,
        })
        .collect();
    kernels.sort_by_key(|kernel| std::cmp::Reverse(kernel.nodes));
    kernels.truncate(MAX_KERNELS);
    kernels
}
