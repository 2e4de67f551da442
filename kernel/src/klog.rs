//! The kernel log around one operation. No IO.

use serde::{Deserialize, Serialize};

/// How many lines of the log's end a mark remembers: enough that one repeated line does not mislead it.
const MARK_LINES: usize = 8;

/// Most lines kept of one operation.
const MAX_LINES: usize = 256;

/// Longest line kept, in bytes.
const MAX_LINE: usize = 512;

/// A place in the kernel log, remembered by its last lines (nothing may be written into the log to mark it).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogMark {
    /// `None` if the log could not be read.
    last: Option<Vec<String>>,
}

/// Lines of the kernel log, oldest first, with the level and time stamp removed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KernelLog {
    /// Untrusted text, each line at most 512 bytes, at most 256 lines.
    pub lines: Vec<String>,
    /// False if the log could not be read or had been overwritten since the mark: an absent line then proves nothing.
    pub complete: bool,
}

impl LogMark {
    /// A mark at the end of a log.
    pub fn at_end_of(log: &str) -> Self {
        let mut last: Vec<String> = log.lines().rev().take(MARK_LINES).map(str::to_owned).collect();
        last.reverse();
        Self { last: Some(last) }
    }

    /// The mark of a log that cannot be read.
    pub const fn unreadable() -> Self {
        Self { last: None }
    }
}

impl KernelLog {
    /// What came after a mark.
    pub fn since(mark: &LogMark, log: &str) -> Self {
        let Some(last) = &mark.last else { return Self::default() };
        let lines: Vec<&str> = log.lines().collect();
        let start = if last.is_empty() {
            Some(0)
        } else {
            (0..=lines.len().saturating_sub(last.len()))
                .rev()
                .find(|&i| {
                    lines
                        .get(i..i + last.len())
                        .is_some_and(|window| window == last.as_slice())
                })
                .map(|i| i + last.len())
        };
        let new = &lines[start.unwrap_or(0)..];
        let skipped = new.len().saturating_sub(MAX_LINES);
        Self {
            lines: new[skipped..].iter().map(|line| bounded(strip_prefix(line))).collect(),
            complete: start.is_some() && skipped == 0,
        }
    }

    /// The lines that contain one of the texts.
    pub fn matching<'a>(&'a self, texts: &'a [&str]) -> impl Iterator<Item = &'a str> {
        self.lines
            .iter()
            .map(String::as_str)
            .filter(move |line| texts.iter().any(|text| line.contains(text)))
    }
}

/// Removes `<6>` and `[   12.345678] `.
fn strip_prefix(line: &str) -> &str {
    let line = match line.strip_prefix('<').and_then(|rest| rest.split_once('>')) {
        Some((level, rest)) if level.bytes().all(|b| b.is_ascii_digit()) => rest,
        _ => line,
    };
    match line.strip_prefix('[').and_then(|rest| rest.split_once("] ")) {
        Some((time, rest)) if time.bytes().all(|b| b.is_ascii_digit() || b == b'.' || b == b' ') => rest,
        _ => line,
    }
}

fn bounded(line: &str) -> String {
    let mut end = line.len().min(MAX_LINE);
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    line[..end]
        .chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_came_after_the_mark() {
        let before =
            "<5>[    1.000000] livepatch: enabling patch 'a'\n<5>[    2.000000] livepatch: 'a': patching complete\n";
        let after = format!("{before}<3>[    3.100000] livepatch: symbol 'nope' not found in symbol table\n");
        let log = KernelLog::since(&LogMark::at_end_of(before), &after);
        assert_eq!(log.lines, ["livepatch: symbol 'nope' not found in symbol table"]);
        assert!(log.complete);
    }

    #[test]
    fn repeated_lines_without_time_stamps() {
        let before = "x\nsame\nsame\n";
        let log = KernelLog::since(&LogMark::at_end_of(before), "x\nsame\nsame\nsame\n");
        assert_eq!(log.lines, ["same"]);
    }

    #[test]
    fn a_log_that_lost_the_mark_is_incomplete() {
        let log = KernelLog::since(&LogMark::at_end_of("a\nb\n"), "y\nz\n");
        assert_eq!(log.lines, ["y", "z"]);
        assert!(!log.complete);
    }

    #[test]
    fn an_unreadable_log_proves_nothing() {
        assert!(!KernelLog::since(&LogMark::unreadable(), "a").complete);
    }

    #[test]
    fn an_empty_log_takes_a_mark() {
        assert_eq!(
            KernelLog::since(&LogMark::at_end_of(""), "a\n"),
            KernelLog {
                lines: vec!["a".into()],
                complete: true
            }
        );
    }

    #[test]
    fn text_in_brackets_stays() {
        assert_eq!(strip_prefix("<6>[drm] hello"), "[drm] hello");
        assert_eq!(strip_prefix("<6>[    0.1] a"), "a");
    }
}
