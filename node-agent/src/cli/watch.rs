//! `watch`: a transition as it goes on, with the tasks it waits for. Reads the kernel.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use livepatch_kernel::{Kernel, KernelError};
use serde::Serialize;

use super::args::Watch;
use super::exit::Exit;
use super::output::{self, Format};
use super::status::{Transition, transition};
use super::text::{Line, Text, Tone};
use super::{chain, host};

/// Between two looks: a look at a transition is a pass over all tasks of the host.
const INTERVAL: Duration = Duration::from_secs(1);

/// What is seen at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Moment {
    /// RFC 3339.
    pub time: String,
    /// Whether each livepatch is enabled.
    pub livepatches: BTreeMap<String, bool>,
    pub transition: Option<Transition>,
}

/// Shows until interrupted, or until no transition runs.
pub fn run(options: &Watch) -> Exit {
    let kernel = match host::kernel() {
        Ok(kernel) => kernel,
        Err(error) => {
            output::complain(&chain(error.reason(), &error));
            return Exit::Failed;
        }
    };
    let screen = options.output == Format::Table && output::is_screen();
    let colour = output::colour(&std::io::stdout());
    let mut before: Option<Moment> = None;
    if screen {
        output::print("\u{1b}[2J", Exit::Done);
    }
    loop {
        let now = match look(&kernel, now()) {
            Ok(now) => now,
            Err(error) => {
                output::complain(&chain(error.reason(), &error));
                return Exit::Failed;
            }
        };
        let text = match options.output {
            Format::Table if screen => Ok(drawn(&now, colour)),
            Format::Table => Ok(lines(before.as_ref(), &now).render(colour)),
            _ if before.as_ref().is_some_and(|before| same(before, &now)) => Ok(String::new()),
            Format::Json => output::json_line(&now),
            Format::Yaml => output::yaml(&now).map(|text| format!("---\n{text}")),
        };
        let printed = text.map_or(Err(()), |text| output::write(&text).map_err(|_| ()));
        // Whoever reads this has gone.
        if printed.is_err() || options.until_done && now.transition.is_none() {
            return Exit::Done;
        }
        before = Some(now);
        thread::sleep(INTERVAL);
    }
}

/// Now, to the second.
fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Looks.
pub fn look(kernel: &dyn Kernel, time: String) -> Result<Moment, KernelError> {
    let (transition, _) = transition(kernel)?;
    let livepatches = kernel.livepatches()?;
    Ok(Moment {
        time,
        livepatches: livepatches
            .into_iter()
            .map(|livepatch| (livepatch.name, livepatch.standing.enabled))
            .collect(),
        transition,
    })
}

fn same(before: &Moment, now: &Moment) -> bool {
    before.livepatches == now.livepatches && before.transition == now.transition
}

/// The screen: from its first corner, each line to its end, and nothing below.
fn drawn(now: &Moment, colour: bool) -> String {
    let mut text = Text::default();
    text.line(Line::toned(Tone::Faint, format!("{}  (end with Ctrl-C)", now.time)));
    match &now.transition {
        Some(transition) => text.add(transition.text()),
        None => text.line("No transition runs."),
    }
    text.gap();
    for (name, enabled) in &now.livepatches {
        let (tone, word) = if *enabled {
            (Tone::Good, "enabled")
        } else {
            (Tone::Warn, "disabled")
        };
        text.line(Line::from(format!("{name}  ")).and(tone, word));
    }
    format!("\u{1b}[H{}\u{1b}[J", text.render(colour).replace('\n', "\u{1b}[K\r\n"))
}

/// What is new since the look before, a line each.
pub fn lines(before: Option<&Moment>, now: &Moment) -> Text {
    let mut text = Text::default();
    let mut say = |tone, what: String| {
        text.line(Line::toned(Tone::Faint, format!("{} ", now.time)).and(tone, what));
    };
    let empty = BTreeMap::new();
    let was = before.map_or(&empty, |before| &before.livepatches);
    let moving = |moment: Option<&Moment>, name: &str| {
        moment
            .and_then(|moment| moment.transition.as_ref())
            .is_some_and(|t| t.name == *name)
    };
    for (name, enabled) in &now.livepatches {
        let ended = moving(before, name) && !moving(Some(now), name);
        if moving(Some(now), name) || was.get(name) == Some(enabled) && !ended {
            continue;
        }
        say(
            Tone::Good,
            format!("{name}: {}", if *enabled { "enabled" } else { "disabled" }),
        );
    }
    for name in was.keys().filter(|name| !now.livepatches.contains_key(*name)) {
        say(Tone::Warn, format!("{name}: gone"));
    }
    let told = |moment: &Moment| moment.transition.as_ref().map(|t| (t.headline(), t.names()));
    match (told(now), before) {
        (Some(told_now), before) if before.and_then(told).as_ref() != Some(&told_now) => {
            let (headline, names) = told_now;
            let names = if names.is_empty() { names } else { format!(": {names}") };
            say(Tone::Warn, format!("{headline}{names}"));
        }
        (None, None) => say(Tone::Plain, "no transition runs".to_owned()),
        _ => {}
    }
    text
}

#[cfg(test)]
mod tests {
    use livepatch_kernel::{FakeKernel, FakeModule, FakeTask};

    use super::*;

    fn begin(kernel: &FakeKernel, module: FakeModule) {
        let name = module.name.clone();
        let image = kernel.image(module);
        kernel.start_load(&name, &image, c"").unwrap().poll().unwrap().unwrap();
    }

    #[test]
    fn a_transition_is_told_line_by_line() {
        let kernel = FakeKernel::new();
        kernel.add_task(FakeTask {
            pid: 77,
            comm: "cat\u{1b}[2J".into(),
            pod_uid: None,
            sleeps_in: "f".into(),
            until: None,
        });
        let at = |n: u32| look(&kernel, format!("t{n}")).unwrap();
        let first = at(0);
        assert_eq!(lines(None, &first).render(false), "t0 no transition runs\n");
        begin(&kernel, FakeModule::new("lp_fix", &["f"]));
        let second = at(1);
        let told = lines(Some(&first), &second).render(false);
        assert_eq!(told, "t1 lp_fix: patching, 1 task in the way: cat\u{fffd}[2J (77)\n");
        kernel.advance(Duration::from_secs(3));
        assert_eq!(lines(Some(&second), &at(2)).render(false), "");
        kernel.wake("cat\u{1b}[2J");
        kernel.advance(Duration::from_secs(3));
        let third = at(3);
        assert_eq!(lines(Some(&second), &third).render(false), "t3 lp_fix: enabled\n");
        kernel.set_enabled("lp_fix", false).unwrap();
        kernel.advance(Duration::from_secs(3));
        assert_eq!(lines(Some(&third), &at(4)).render(false), "t4 lp_fix: gone\n");
    }

    #[test]
    fn what_is_drawn_holds_no_escape_sequence_of_a_task() {
        let kernel = FakeKernel::new();
        kernel.add_task(FakeTask {
            pid: 77,
            comm: "\u{1b}]0;x\u{7}\u{9b}2J".into(),
            pod_uid: Some("uid".into()),
            sleeps_in: "f".into(),
            until: None,
        });
        begin(&kernel, FakeModule::new("lp_fix", &["f"]));
        let drawn = drawn(&look(&kernel, "t".into()).unwrap(), false);
        let ours = drawn
            .replace("\u{1b}[K\r\n", "\n")
            .replace("\u{1b}[H", "")
            .replace("\u{1b}[J", "");
        assert!(!ours.chars().any(|c| c.is_control() && c != '\n'), "{ours:?}");
        assert!(ours.contains("1 task in the way") && ours.contains("77"), "{ours}");
    }
}
