//! `status` for people. No IO.

use super::look::{HostStatus, Loaded, State, Task, Transition};
use crate::cli::output::Report;
use crate::cli::text::{Line, Text, Tone};

/// Most frames of a stack that are printed.
const FRAMES: usize = 4;

/// First digits of a build id, which tell builds apart for people.
const BUILD_ID: usize = 12;

impl Report for HostStatus {
    fn text(&self) -> Text {
        let mut text = Text::default();
        let field = |name: &str, value: Line| {
            let mut line = Line::toned(Tone::Faint, format!("{name:<13}"));
            line = line.join(value);
            line
        };
        let build = self.kernel.build_id.as_ref().map_or("unknown", |id| id.as_str());
        text.line(field("Kernel", Line::from(&self.kernel.release)));
        text.line(field("Build id", Line::from(build)));
        text.line(field("Architecture", Line::from(&self.kernel.architecture)));
        if !self.taints.is_empty() {
            let taints: Vec<String> = self
                .taints
                .iter()
                .map(|taint| format!("{} ({})", taint.letter, taint.meaning))
                .collect();
            text.line(field("Taints", Line::from(taints.join(", "))));
        }
        text.line(field("Lock", lock(self)));
        if let Some(why) = &self.agent.stopped {
            text.line(field("Stopped", Line::toned(Tone::Warn, why)));
        }
        text.gap();
        if self.livepatches.is_empty() {
            text.line("No livepatch is loaded.");
        } else {
            let rows = self.livepatches.iter().map(row).collect();
            text.table(
                &["NAME", "STATE", "REPLACE", "FUNCTIONS", "OBJECTS", "BUILD ID", "SET"],
                rows,
            );
        }
        if !self.leftovers.is_empty() {
            text.gap();
            let rows = self.leftovers.iter().map(|leftover| {
                let told = if leftover.references == 0 {
                    Line::from("not in use; `unload` removes it")
                } else {
                    let told = format!("{} references: only a reboot removes it", leftover.references);
                    Line::toned(Tone::Bad, told)
                };
                vec![Line::from(&leftover.name), told]
            });
            text.table(&["LEFTOVER", "STATE"], rows.collect());
        }
        if let Some(transition) = &self.transition {
            text.gap();
            text.add(transition.text());
        }
        if !self.unknown.is_empty() {
            text.gap();
            let rows = self
                .unknown
                .iter()
                .map(|u| vec![Line::from(&u.what), Line::from(&u.why)]);
            text.table(&["NOT VISIBLE", "WHY"], rows.collect());
        }
        text
    }
}

fn lock(status: &HostStatus) -> Line {
    match (status.agent.lock_held, &status.agent.holder) {
        (Some(true), Some(holder)) => Line::toned(Tone::Good, "held").and(Tone::Plain, format!(" by {holder}")),
        (Some(true), None) => Line::toned(Tone::Good, "held"),
        (Some(false), _) => Line::from("free: no agent works on this host"),
        (None, _) => Line::toned(Tone::Warn, "unknown"),
    }
}

fn row(loaded: &Loaded) -> Vec<Line> {
    let state = match loaded.state {
        State::Enabled => Line::toned(Tone::Good, "enabled"),
        State::Patching => Line::toned(Tone::Warn, "patching"),
        State::Unpatching => Line::toned(Tone::Warn, "unpatching"),
        State::Disabled => Line::toned(Tone::Bad, "disabled"),
    };
    let functions: usize = loaded.objects.iter().map(|object| object.functions.len()).sum();
    let functions = if loaded.functions_reliable {
        functions.to_string()
    } else {
        "unknown".to_owned()
    };
    let objects: Vec<&str> = loaded.objects.iter().map(|object| object.name.as_str()).collect();
    let replace = loaded
        .replace
        .map_or("unknown", |replace| if replace { "yes" } else { "no" });
    let build_id: String = loaded
        .build_id
        .as_deref()
        .unwrap_or("unknown")
        .chars()
        .take(BUILD_ID)
        .collect();
    vec![
        Line::from(&loaded.name),
        state,
        replace.into(),
        functions.into(),
        objects.join(",").into(),
        build_id.into(),
        loaded.set.as_deref().unwrap_or("-").into(),
    ]
}

impl Transition {
    /// The transition for people.
    pub fn text(&self) -> Text {
        let mut text = Text::default();
        text.line(Line::toned(Tone::Warn, self.headline()));
        if !self.tasks.is_empty() {
            text.table(
                &["PID", "TID", "TASK", "POD", "KERNEL STACK"],
                self.tasks.iter().map(Task::row).collect(),
            );
        }
        let listed = self.tasks.len();
        if let Some(more) = self
            .waiting_for
            .and_then(|seen| seen.checked_sub(listed))
            .filter(|more| *more > 0)
        {
            text.line(format!("and {more} more"));
        }
        text
    }

    /// The transition in one line.
    pub fn headline(&self) -> String {
        let word = if self.patching { "patching" } else { "unpatching" };
        let waits = match self.waiting_for {
            None => "tasks cannot be seen from here".to_owned(),
            // The idle tasks of the CPUs count for the kernel and are not among its tasks in /proc.
            Some(0) => "no task in /proc is in the way".to_owned(),
            Some(1) => "1 task in the way".to_owned(),
            Some(seen) => format!("{seen} tasks in the way"),
        };
        let part = if self.complete || self.waiting_for.is_none() {
            ""
        } else {
            " (not all could be looked at)"
        };
        format!("{}: {word}, {waits}{part}", self.name)
    }

    /// The first tasks in a few words.
    pub fn names(&self) -> String {
        let names: Vec<String> = self
            .tasks
            .iter()
            .take(5)
            .map(|task| format!("{} ({})", task.comm, task.tid))
            .collect();
        names.join(", ")
    }
}

impl Task {
    fn row(&self) -> Vec<Line> {
        let stack = self.stack.as_ref().map_or_else(
            || "not permitted".to_owned(),
            |stack| {
                let functions: Vec<&str> = stack
                    .iter()
                    .take(FRAMES)
                    .map(|frame| frame.split('+').next().unwrap_or(frame))
                    .collect();
                functions.join(" < ")
            },
        );
        vec![
            self.pid.to_string().into(),
            self.tid.to_string().into(),
            (&self.comm).into(),
            self.pod_uid.as_deref().unwrap_or("-").into(),
            stack.into(),
        ]
    }
}
