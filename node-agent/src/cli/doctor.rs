//! `doctor`: whether this host is fit for livepatches. Reads the kernel and the host's files.

mod judge;
mod look;
mod services;

use serde::Serialize;

use super::args::Doctor;
use super::exit::Exit;
use super::output::{self, Report};
use super::text::{Line, Text, Tone};

/// What was found of one matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Finding {
    /// As it has to be.
    Good,
    /// To be known; livepatches work.
    Notice,
    /// It decides, and cannot be seen from here.
    Unknown,
    /// Livepatches do not work like this.
    Unfit,
}

/// One matter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Item {
    pub check: &'static str,
    pub finding: Finding,
    /// A reason code; null if it is as it has to be.
    pub reason: Option<&'static str>,
    pub message: String,
    pub advice: Option<String>,
}

/// The whole answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Diagnosis {
    /// Null if something that decides cannot be seen.
    pub fit: Option<bool>,
    pub checks: Vec<Item>,
}

/// Answers.
pub fn run(options: &Doctor) -> Exit {
    let diagnosis = Diagnosis::of(judge::judge(&look::look(&options.place)));
    output::show(options.output, &diagnosis, diagnosis.exit())
}

impl Diagnosis {
    fn of(checks: Vec<Item>) -> Self {
        let fit = match checks.iter().map(|item| item.finding).max() {
            Some(Finding::Unfit) => Some(false),
            Some(Finding::Unknown) => None,
            Some(Finding::Good | Finding::Notice) | None => Some(true),
        };
        Self { fit, checks }
    }

    const fn exit(&self) -> Exit {
        match self.fit {
            Some(true) => Exit::Done,
            Some(false) => Exit::Refused,
            None => Exit::NotCertain,
        }
    }
}

impl Report for Diagnosis {
    fn text(&self) -> Text {
        let mut text = Text::default();
        let rows = self.checks.iter().map(|item| {
            let (tone, word) = match item.finding {
                Finding::Good => (Tone::Good, "ok"),
                Finding::Notice => (Tone::Warn, "notice"),
                Finding::Unknown => (Tone::Warn, "unknown"),
                Finding::Unfit => (Tone::Bad, "unfit"),
            };
            let reason = item.reason.map(|reason| format!("{reason}: ")).unwrap_or_default();
            vec![
                item.check.into(),
                Line::toned(tone, word),
                format!("{reason}{}", item.message).into(),
            ]
        });
        text.table(&["CHECK", "FINDING", "WHAT"], rows.collect());
        let todo: Vec<&Item> = self.checks.iter().filter(|item| item.advice.is_some()).collect();
        if !todo.is_empty() {
            text.gap();
            for item in todo {
                let advice = item.advice.as_deref().unwrap_or_default();
                text.line(Line::toned(Tone::Strong, item.check).and(Tone::Plain, format!(": {advice}")));
            }
        }
        text.gap();
        text.line(match self.fit {
            Some(true) => Line::toned(Tone::Good, "This host is fit for livepatches."),
            Some(false) => Line::toned(Tone::Bad, "This host is not fit for livepatches."),
            None => Line::toned(Tone::Warn, "Whether this host is fit cannot be told from here."),
        });
        text
    }
}
