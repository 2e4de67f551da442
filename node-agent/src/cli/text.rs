//! Text for people: lines of toned spans, and tables. No IO.
//!
//! Task names, module names, log lines and file names are text of others. Everything that is printed for people is a
//! [`Text`], and a [`Text`] renders no control characters but its own: what others wrote cannot reach the terminal as
//! anything but text.

use std::fmt::Write as _;

/// What a span says, apart from its words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tone {
    /// As the text around it.
    #[default]
    Plain,
    /// As it should be.
    Good,
    /// To be looked at.
    Warn,
    /// Not as it should be.
    Bad,
    /// Less important than the rest.
    Faint,
    /// A heading.
    Strong,
}

impl Tone {
    /// The escape sequence that begins it (ECMA-48, select graphic rendition).
    const fn begin(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Good => "\u{1b}[32m",
            Self::Warn => "\u{1b}[33m",
            Self::Bad => "\u{1b}[31m",
            Self::Faint => "\u{1b}[2m",
            Self::Strong => "\u{1b}[1m",
        }
    }
}

/// Whether a character could do something to a terminal, or make a line look like another: control characters, those
/// that turn the direction of writing, and those that are not seen at all.
pub fn is_deceptive(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// A text with each deceptive character replaced by `U+FFFD`.
pub fn clean(text: &str) -> String {
    text.chars()
        .map(|c| if is_deceptive(c) { '\u{fffd}' } else { c })
        .collect()
}

/// One line, or one cell of a table.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Line(Vec<(Tone, String)>);

impl Line {
    /// A line of one span.
    pub fn toned(tone: Tone, text: impl AsRef<str>) -> Self {
        Self::default().and(tone, text)
    }

    /// The line with another span at its end.
    #[must_use]
    pub fn and(mut self, tone: Tone, text: impl AsRef<str>) -> Self {
        self.0.push((tone, clean(text.as_ref())));
        self
    }

    /// The line with another one at its end.
    #[must_use]
    pub fn join(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    /// Its length in characters.
    fn width(&self) -> usize {
        self.0.iter().map(|(_, text)| text.chars().count()).sum()
    }

    fn render(&self, out: &mut String, colour: bool) {
        for (tone, text) in &self.0 {
            if colour && *tone != Tone::Plain {
                let _ = write!(out, "{}{text}\u{1b}[0m", tone.begin());
            } else {
                out.push_str(text);
            }
        }
    }
}

impl<T: AsRef<str>> From<T> for Line {
    fn from(text: T) -> Self {
        Self::toned(Tone::Plain, text)
    }
}

/// Lines.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Text(Vec<Line>);

impl Text {
    /// Adds a line.
    pub fn line(&mut self, line: impl Into<Line>) {
        self.0.push(line.into());
    }

    /// Adds an empty line, except at the beginning.
    pub fn gap(&mut self) {
        if !self.0.is_empty() {
            self.0.push(Line::default());
        }
    }

    /// Adds the lines of another text.
    pub fn add(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// Adds a table: columns as wide as their widest cell, two blanks apart, nothing after the last.
    pub fn table(&mut self, header: &[&str], rows: Vec<Vec<Line>>) {
        let header: Vec<Line> = header.iter().map(|title| Line::toned(Tone::Faint, title)).collect();
        let mut widths: Vec<usize> = header.iter().map(Line::width).collect();
        for row in &rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.width());
            }
        }
        for row in std::iter::once(header).chain(rows) {
            let mut line = Line::default();
            let last = row.len().saturating_sub(1);
            for (index, cell) in row.into_iter().enumerate() {
                let blanks = widths
                    .get(index)
                    .map_or(0, |width| width.saturating_sub(cell.width()) + 2);
                line.0.extend(cell.0);
                if index < last {
                    line = line.and(Tone::Plain, " ".repeat(blanks));
                }
            }
            self.0.push(line);
        }
    }

    /// The lines as they are printed, each with its end.
    pub fn render(&self, colour: bool) -> String {
        let mut out = String::new();
        for line in &self.0 {
            line.render(&mut out, colour);
            out.push('\n');
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_table_has_even_columns_and_no_blanks_at_its_ends() {
        let mut text = Text::default();
        text.table(
            &["NAME", "STATE"],
            vec![
                vec!["lp_fix".into(), Line::toned(Tone::Good, "enabled")],
                vec!["a".into(), "x".into()],
            ],
        );
        assert_eq!(text.render(false), "NAME    STATE\nlp_fix  enabled\na       x\n");
        assert!(text.render(true).contains("\u{1b}[32menabled\u{1b}[0m\n"));
    }

    proptest! {
        #[test]
        fn whatever_is_put_in_comes_out_without_control_characters(words in proptest::collection::vec("(?s).{0,20}", 0..6)) {
            let mut text = Text::default();
            for word in &words {
                text.line(Line::toned(Tone::Bad, word));
            }
            text.table(&["A"], words.iter().map(|word| vec![word.into()]).collect());
            let printed = text.render(false);
            prop_assert_eq!(printed.matches('\n').count(), 2 * words.len() + 1);
            prop_assert!(!printed.chars().any(|c| is_deceptive(c) && c != '\n'));
        }
    }
}
