//! What happened, line by line, for whoever has to understand a failure.

use std::time::Duration;

#[derive(Debug)]
pub(crate) struct Trace {
    on: bool,
    lines: Vec<String>,
}

impl Trace {
    pub fn new(on: bool) -> Self {
        Self { on, lines: Vec::new() }
    }

    pub fn say(&mut self, at: Duration, what: impl FnOnce() -> String) {
        if self.on {
            self.lines.push(format!("{:10.3} {}", at.as_secs_f64(), what()));
        }
    }

    pub fn into_lines(self) -> Vec<String> {
        self.lines
    }
}
