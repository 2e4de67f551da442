//! What is said of a set and of its rollouts: counts, conditions, failures, events.

use super::course::Course;
use super::deadline::{self, Deadline};
use super::decision::Decision;
use super::snapshot::{Leave, RolloutView};
use super::standing::{Coverage, coverage};
use super::states::is_stalled;
use super::{events, reasons, rollback};
use jiff::Timestamp;
use livepatch_crds::bounded::{MAX_MESSAGE, bounded};
use livepatch_crds::conditions::{ACCEPTED, COMPLETE, DEGRADED, READY, RECONCILING, STALLED, Saying, merge};
use livepatch_crds::revision::revision;
use livepatch_crds::rollout::{ControlState, KernelStatus, LivepatchRolloutStatus, MAX_KERNELS};
use livepatch_crds::set::{Counts, LivepatchSetStatus};
use std::fmt::Write;

/// What is said of one set.
pub(super) struct Report<'a> {
    course: &'a Course<'a>,
    now: Timestamp,
    counts: Counts,
    /// Why the set stands as it does: a reason code.
    reason: &'static str,
    blocked_by: Option<String>,
    deadline: Deadline,
}

impl<'a> Report<'a> {
    pub fn of(course: &'a Course<'a>, capped: Option<String>, now: Timestamp) -> Self {
        let counts = course.roster.counts();
        let (mut reason, mut blocked_by) = ground(course, &counts, capped);
        let mut deadline = deadline(course, reason, &counts, now);
        if let (Some(moved), Some(_)) = (&deadline.moved, deadline.over.take_if(|over| *over <= now)) {
            reason = reasons::PROGRESS_DEADLINE_EXCEEDED;
            blocked_by = format!("nothing has moved since {:.0}: {blocked_by}", moved.0);
        }
        let blocked_by = (!blocked_by.is_empty()).then(|| bounded(&blocked_by, MAX_MESSAGE));
        Self {
            course,
            now,
            counts,
            reason,
            blocked_by,
            deadline,
        }
    }

    pub fn write_into(self, decision: &mut Decision) {
        let course = self.course;
        let (soak_until, next_settled) = (course.progress.soak_until, course.roster.next_settled());
        decision.wake_at = [decision.wake_at, soak_until, next_settled, self.deadline.over]
            .into_iter()
            .flatten()
            .min();
        let set_status = self.set_status();
        if set_status != course.set.status {
            events::of_set(course, &self.told(), &set_status, decision);
            decision.set_statuses.push((course.set.name.clone(), set_status));
        }
        if let Some(rollout) = &course.rollout {
            let status = self.rollout_status(rollout);
            if status != rollout.status {
                events::of_rollout(rollout, &status, decision);
                decision.rollout_statuses.push((rollout.name.clone(), status));
            }
        }
        let current = course.rollout.as_ref().map(|rollout| rollout.name.as_str());
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
            rollout: self.course.rollout.as_ref().map(|rollout| rollout.name.clone()),
            start: self.course.start.clone().or_else(|| set.status.start.clone()),
            wave: self.wave(),
            blocked_by: self.blocked_by.clone(),
            counts: self.counts,
            conditions: merge(&set.status.conditions, &self.sayings(), set.generation, self.now),
        }
    }

    fn rollout_status(&self, rollout: &RolloutView) -> LivepatchRolloutStatus {
        LivepatchRolloutStatus {
            observed_generation: rollout.generation,
            start: self.course.start.as_ref().map_or(0, |start| start.number),
            counts: self.counts,
            wave: self.wave(),
            blocked_by: self.blocked_by.clone(),
            waves: self.course.progress.waves.clone(),
            kernels: kernels(self.course),
            failures: self.course.failures.listed.clone(),
            failed: self.course.failures.tally,
            rolling_back: self.course.turns_back,
            rollback: bounded(&self.course.rollback.told(), MAX_MESSAGE),
            last_progress_time: self.deadline.moved.clone(),
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
        let stalled = is_stalled(self.reason) || acceptance.status == Some(false);
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

    fn told(&self) -> events::Told {
        events::Told {
            reason: self.reason,
            message: self.message(),
        }
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
            (c.rolled_back, "at what they ran before"),
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
}

fn is_paused(rollout: &RolloutView) -> bool {
    rollout.control.state == ControlState::Paused
}

/// Since when nothing has moved.
fn deadline(course: &Course<'_>, reason: &'static str, counts: &Counts, now: Timestamp) -> Deadline {
    let Some(rollout) = &course.rollout else {
        return Deadline {
            moved: None,
            over: None,
        };
    };
    if course.acceptance.status == Some(false) {
        // A person is told what to change.
        let moved = rollout.status.last_progress_time.clone();
        return Deadline { moved, over: None };
    }
    let looks = deadline::Now {
        reason,
        generation: rollout.generation,
        counts,
        waves: &course.progress.waves,
        at: now,
    };
    Deadline::of(
        &rollout.status,
        &looks,
        course.set.spec.rollout.progress_deadline_seconds,
    )
}

/// Why a set stands as it does, and what it waits for: what keeps it from starting goes before how far it came.
fn ground(course: &Course<'_>, counts: &Counts, capped: Option<String>) -> (&'static str, String) {
    let progress = &course.progress;
    let running = (progress.reason, progress.blocked_by.clone());
    let is_on_its_way_back = course.rollout.as_ref().is_some_and(rollback::is_on);
    if [reasons::HALTED, reasons::ABORTED].contains(&progress.reason) {
        return running;
    }
    if !course.acceptance.is_accepted() && !is_on_its_way_back {
        return (course.acceptance.reason, course.acceptance.message.clone());
    }
    let Some(rollout) = &course.rollout else {
        return (reasons::PROGRESSING, "the rollout is being made".to_owned());
    };
    let wants_grants = counts.pending > 0
        && [reasons::PROGRESSING, reasons::ROLLING_BACK].contains(&progress.reason)
        && !is_paused(rollout);
    match course.leave {
        Leave::Withheld { reason, message } if wants_grants => (reason, message.clone()),
        _ if wants_grants && !course.is_started() => (
            progress.reason,
            "the start of the rollout is being written down".to_owned(),
        ),
        _ if wants_grants => (progress.reason, capped.unwrap_or_else(|| progress.blocked_by.clone())),
        _ => running,
    }
}

/// The kernel builds among the selected nodes, the most frequent ones first.
fn kernels(course: &Course<'_>) -> Vec<KernelStatus> {
    let number = |nodes: usize| i32::try_from(nodes).unwrap_or(i32::MAX);
    let known = course.roster.kernels().filter(|(_, nodes)| nodes.reported > 0);
    let mut kernels: Vec<KernelStatus> = known
        .map(|(kernel, nodes)| KernelStatus {
            release: kernel.release.clone(),
            build_id: kernel.build_id.clone(),
            covered: matches!(coverage(&course.set.bundle, kernel), Coverage::Covered(_)),
            nodes: number(nodes.reported),
            settled: number(nodes.settled),
        })
        .collect();
    kernels.sort_by_key(|kernel| std::cmp::Reverse(kernel.nodes));
    kernels.truncate(MAX_KERNELS);
    kernels
}
