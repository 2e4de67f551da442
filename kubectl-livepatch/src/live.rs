//! A text that is drawn again and again: in place on a terminal, one below the other elsewhere. Does IO.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write as _};

use crate::text::{Clean, Screen, Table};

/// What is drawn on, and what is there.
pub struct Live {
    screen: Screen,
    /// Whether standard output is a terminal.
    in_place: bool,
    /// Lines of the last drawing, which the next one takes the place of.
    lines: usize,
    last: String,
}

impl Live {
    /// Draws on `screen`.
    pub fn new(screen: Screen) -> Self {
        Self {
            screen,
            in_place: io::stdout().is_terminal(),
            lines: 0,
            last: String::new(),
        }
    }

    /// Draws, with a remark below. An error means that nobody looks any more.
    pub fn draw(&mut self, table: &Table, remark: Option<&str>) -> io::Result<()> {
        let mut text = table.render(self.screen);
        if let Some(remark) = remark {
            let _ = writeln!(text, "({})", Clean::from(remark));
        }
        let mut out = io::stdout().lock();
        if self.in_place {
            // Sizes change, so they are asked for each time; where no line wraps, lines are counted rightly.
            if let Some((width, height)) = terminal_size::terminal_size() {
                self.screen.width = Some(usize::from(width.0));
                self.screen.height = Some(usize::from(height.0));
            }
            let frame = frame(&text, self.screen.height);
            out.write_all(over(self.lines, &frame).as_bytes())?;
            self.lines = frame.lines().count();
        } else if text != self.last {
            if !self.last.is_empty() {
                out.write_all(b"\n")?;
            }
            out.write_all(text.as_bytes())?;
            self.last = text;
        }
        out.flush()
    }
}

/// As many lines as there is room for, so that the first one can be returned to.
fn frame(text: &str, height: Option<usize>) -> String {
    let lines = text.lines().count();
    let room = height.map_or(usize::MAX, |height| height.saturating_sub(1).max(1));
    if lines <= room {
        return text.to_owned();
    }
    let shown = room - 1;
    let mut cut: String = text.split_inclusive('\n').take(shown).collect();
    let _ = writeln!(cut, "… {} more lines", lines - shown);
    cut
}

/// The text that draws `frame` over the `lines` lines above the cursor (ECMA-48: CUU, EL, ED). Each line is erased as it
/// is written and not all at once before, so that nothing flickers.
fn over(lines: usize, frame: &str) -> String {
    let mut text = String::with_capacity(frame.len() + 64);
    if lines > 0 {
        let _ = write!(text, "\u{1b}[{lines}A\r");
    }
    for line in frame.lines() {
        text.push_str(line);
        text.push_str("\u{1b}[K\n");
    }
    text.push_str("\u{1b}[J");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drawing_takes_the_place_of_the_one_before() {
        assert_eq!(over(0, "a\nb\n"), "a\u{1b}[K\nb\u{1b}[K\n\u{1b}[J");
        assert_eq!(over(2, "c\n"), "\u{1b}[2A\rc\u{1b}[K\n\u{1b}[J");
    }

    #[test]
    fn what_has_no_room_is_counted() {
        assert_eq!(frame("a\nb\nc\n", Some(4)), "a\nb\nc\n");
        assert_eq!(frame("a\nb\nc\n", Some(3)), "a\n… 2 more lines\n");
        assert_eq!(frame("a\nb\nc\n", Some(0)), "… 3 more lines\n");
        assert_eq!(frame("a\nb\nc\n", None), "a\nb\nc\n");
    }
}
