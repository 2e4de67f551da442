//! What a command that changes the host says at its end. No IO.

use std::time::Duration;

use livepatch_kernel::preflight::Weight;
use livepatch_kernel::{KernelError, RefusalReason, Seen, Stragglers};
use serde::Serialize;

use super::check::{Told, findings_text};
use super::exit::Exit;
use super::output::Report;
use super::ownership::NotOurs;
use super::text::{Line, Text, Tone};

/// How it ended, for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Ended {
    /// In effect.
    Loaded,
    /// Was in effect before.
    AlreadyLoaded,
    /// Removed from the kernel.
    Unloaded,
    /// Nothing was changed.
    Refused,
    /// Nothing was changed, because the kernel cannot be read.
    Failed,
    /// Begun, and taken back.
    TakenBack,
    /// A person has to look.
    Unfinished,
}

/// A task that was in the way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Blocker {
    pub pid: u32,
    pub tid: u32,
    pub comm: String,
}

/// What was done to one livepatch.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Changed {
    pub module: String,
    pub result: Ended,
    /// Why it is not as asked for; null if it is.
    pub reason: Option<&'static str>,
    pub message: String,
    pub advice: Option<String>,
    /// The signal that came meanwhile.
    pub signal: Option<&'static str>,
    /// From the call to the end of the transition, in seconds.
    pub seconds: Option<f64>,
    /// Livepatches that were in effect before and are not any more.
    pub replaced: Vec<String>,
    pub blockers: Vec<Blocker>,
    /// Lines of the kernel log that belong to it.
    pub kernel_log: Vec<String>,
    pub findings: Vec<Told>,
    #[serde(skip)]
    pub exit: Exit,
}

impl Changed {
    /// An end with a sentence.
    pub fn new(module: &str, result: Ended, message: impl Into<String>) -> Self {
        Self {
            module: module.to_owned(),
            result,
            reason: None,
            message: message.into(),
            advice: None,
            signal: None,
            seconds: None,
            replaced: Vec::new(),
            blockers: Vec::new(),
            kernel_log: Vec::new(),
            findings: Vec::new(),
            exit: match result {
                Ended::Loaded | Ended::AlreadyLoaded | Ended::Unloaded => Exit::Done,
                Ended::Refused => Exit::Refused,
                Ended::Failed => Exit::Failed,
                Ended::TakenBack => Exit::TakenBack,
                Ended::Unfinished => Exit::Unfinished,
            },
        }
    }

    /// The same with a reason and what to do about it.
    #[must_use]
    pub fn because(mut self, reason: &'static str, advice: impl Into<String>) -> Self {
        self.reason = Some(reason);
        self.advice = Some(advice.into()).filter(|advice| !advice.is_empty());
        self
    }

    /// The same with the tasks that were in the way.
    #[must_use]
    pub fn blocked_by(mut self, stragglers: Option<&Seen<Stragglers>>) -> Self {
        let listed = stragglers
            .and_then(Seen::known)
            .map_or(&[][..], |stragglers| &stragglers.listed);
        self.blockers = listed
            .iter()
            .map(|task| Blocker {
                pid: task.pid,
                tid: task.tid,
                comm: task.comm.clone(),
            })
            .collect();
        self
    }

    /// Refused for what was found before anything was done.
    pub fn refused_by(module: &str, findings: Vec<Told>) -> Self {
        let first = findings.iter().find(|finding| finding.weight == Weight::Fails);
        let refused = match first {
            Some(first) => {
                Self::new(module, Ended::Refused, first.message.clone()).because(first.reason, first.advice.clone())
            }
            None => Self::new(module, Ended::Refused, "refused"),
        };
        Self { findings, ..refused }
    }

    /// The host is somebody else's.
    pub fn not_ours(module: &str, error: &NotOurs) -> Self {
        Self::new(module, Ended::Refused, super::causes(error)).because(error.reason(), error.advice())
    }

    /// The kernel cannot be read, before anything was done.
    pub fn unreadable(module: &str, error: &KernelError) -> Self {
        Self::new(module, Ended::Failed, super::causes(error)).because(error.reason(), "`doctor` says more")
    }
}

/// That somebody else's transition did not end in time.
pub fn transition_runs(other: &str) -> Told {
    Told {
        weight: Weight::Fails,
        reason: RefusalReason::TransitionRunning.into(),
        message: format!("{other} is in transition"),
        advice: "wait until it ends, `watch` shows what holds it up".to_owned(),
    }
}

/// Seconds with as many digits as people want to read.
pub fn seconds(span: Duration) -> String {
    format!("{:.1} s", span.as_secs_f64())
}

impl Report for Changed {
    fn text(&self) -> Text {
        let (tone, word) = match self.result {
            Ended::Loaded => (Tone::Good, "loaded"),
            Ended::AlreadyLoaded => (Tone::Good, "already loaded"),
            Ended::Unloaded => (Tone::Good, "unloaded"),
            Ended::Refused => (Tone::Bad, "refused"),
            Ended::Failed => (Tone::Bad, "failed"),
            Ended::TakenBack => (Tone::Warn, "taken back"),
            Ended::Unfinished => (Tone::Bad, "not finished"),
        };
        let mut text = Text::default();
        let head = Line::from(format!("{} ", self.module)).and(tone, word);
        let told_below = self.findings.iter().any(|finding| finding.weight == Weight::Fails);
        if told_below {
            text.line(head);
            text.add(findings_text(&self.findings));
        } else {
            let reason = self.reason.map(|reason| format!("{reason}: ")).unwrap_or_default();
            text.line(head.and(Tone::Plain, format!(": {reason}{}", self.message)));
            if let Some(advice) = &self.advice {
                text.line(Line::toned(Tone::Faint, format!("  {advice}")));
            }
        }
        for line in &self.kernel_log {
            text.line(format!("  kernel log: {line}"));
        }
        for blocker in &self.blockers {
            text.line(format!(
                "  in the way: {} (pid {}, tid {})",
                blocker.comm, blocker.pid, blocker.tid
            ));
        }
        text
    }
}
