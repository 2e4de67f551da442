//! What happens while an operation runs, told on standard error; and the loop that runs it. Writes to the kernel
//! through the seam.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use livepatch_kernel::operation::{Operation, Step};
use livepatch_kernel::{BootTime, Kernel, Seen, Stragglers};

use super::interrupts::Interrupts;
use super::output;
use super::text::clean;

/// A long silence is broken this often where lines cannot be drawn again.
const REMINDER: Duration = Duration::from_secs(30);

/// Most tasks named in a line.
const NAMED: usize = 3;

/// Tells of one operation.
#[derive(Debug)]
pub struct Progress {
    quiet: bool,
    /// Whether the last line can be drawn again.
    screen: bool,
    drawn: bool,
    last: String,
    told: Option<BootTime>,
}

impl Progress {
    /// On standard error, or nowhere.
    pub fn new(quiet: bool) -> Self {
        Self {
            quiet,
            screen: io::stderr().is_terminal() && std::env::var_os("TERM").is_some_and(|term| term != "dumb"),
            drawn: false,
            last: String::new(),
            told: None,
        }
    }

    /// A sentence, once.
    pub fn say(&mut self, sentence: &str) {
        if !self.quiet {
            self.clear();
            output::note(sentence);
        }
    }

    /// What the operation is at, and since when.
    fn at(&mut self, what: &str, since: BootTime, now: BootTime) {
        if self.quiet {
            return;
        }
        if self.screen {
            let line = format!("{} ({} s)", clean(what), now.since(since).as_secs());
            if !self.drawn || line != self.last {
                let _ = write!(io::stderr().lock(), "\r\u{1b}[K{line}");
                self.drawn = true;
                self.last = line;
            }
        } else if what != self.last || self.told.is_none_or(|at| now.since(at) >= REMINDER) {
            output::note(what);
            self.told = Some(now);
            what.clone_into(&mut self.last);
        }
    }

    /// Removes the line that is drawn again.
    pub fn clear(&mut self) {
        if self.drawn {
            self.drawn = false;
            let _ = write!(io::stderr().lock(), "\r\u{1b}[K");
        }
    }
}

/// Steps an operation to its end. Asked to end it looks for the nearest safe one and says so.
pub fn to_its_end<O: Operation>(
    operation: &mut O,
    kernel: &dyn Kernel,
    interrupts: &Interrupts,
    progress: &mut Progress,
    what: &str,
) -> O::Outcome {
    let since = kernel.now();
    let mut interrupted = false;
    loop {
        if let Some(signal) = interrupts.asked().filter(|_| !interrupted) {
            interrupted = true;
            progress.say(&format!("{signal}: going to the nearest safe end"));
            operation.interrupt();
        }
        match operation.step(kernel) {
            Step::Done(outcome) => {
                progress.clear();
                return outcome;
            }
            Step::Wait(span) => {
                progress.at(&sentence(what, operation.stragglers()), since, kernel.now());
                kernel.sleep(span);
            }
        }
    }
}

fn sentence(what: &str, stragglers: Option<&Seen<Stragglers>>) -> String {
    match stragglers {
        None => what.to_owned(),
        Some(Seen::Unknown(why)) => format!("{what}; {why}"),
        Some(Seen::Known(stragglers)) => {
            let named: Vec<String> = stragglers
                .listed
                .iter()
                .take(NAMED)
                .map(|task| format!("{} ({})", task.comm, task.tid))
                .collect();
            match (stragglers.seen, named.is_empty()) {
                (0, _) | (_, true) => what.to_owned(),
                (1, false) => format!("{what}: 1 task in the way: {}", named.join(", ")),
                (seen, false) if seen > NAMED => {
                    format!("{what}: {seen} tasks in the way: {} and others", named.join(", "))
                }
                (seen, false) => format!("{what}: {seen} tasks in the way: {}", named.join(", ")),
            }
        }
    }
}
