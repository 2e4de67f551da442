//! Columns, and colour where it is wanted. No IO.

use std::fmt::Write as _;

use super::Clean;

/// What a colour stands for. Without colour nothing is lost: symbols and words say the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tone {
    /// As it is.
    #[default]
    Plain,
    /// All is well.
    Good,
    /// Being worked on.
    Busy,
    /// Waits for a person or for time.
    Wait,
    /// Failed.
    Bad,
    /// Beside the point.
    Faint,
}

impl Tone {
    /// The SGR parameter of ECMA-48; the sixteen colours that every terminal has and every theme makes readable.
    fn code(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Good => Some("32"),
            Self::Busy => Some("36"),
            Self::Wait => Some("33"),
            Self::Bad => Some("31"),
            Self::Faint => Some("2"),
        }
    }
}

/// One field of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cell {
    text: Clean,
    tone: Tone,
}

impl Cell {
    /// Text with a tone.
    pub fn new(tone: Tone, text: impl Into<Clean>) -> Self {
        Self {
            text: text.into(),
            tone,
        }
    }
}

impl<T: Into<Clean>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::new(Tone::Plain, text)
    }
}

/// What a text is drawn for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Screen {
    /// Whether tones become colours.
    pub colour: bool,
    /// Columns after which a line is cut; none where lines may be of any length.
    pub width: Option<usize>,
    /// Lines after which a text that is redrawn is cut.
    pub height: Option<usize>,
}

/// Rows whose fields are aligned. The last field of a row is as long as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    rows: Vec<Vec<Cell>>,
}

/// Between two columns, as kubectl has it.
const GAP: usize = 3;

impl Table {
    /// With these headings.
    pub fn headed<const N: usize>(headings: [&str; N]) -> Self {
        Self {
            rows: vec![headings.map(Cell::from).to_vec()],
        }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// The text, every line ended.
    pub fn render(&self, screen: Screen) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns).map(|column| self.width(column)).collect();
        let mut text = String::new();
        for row in &self.rows {
            draw(row, &widths, screen, &mut text);
            text.push('\n');
        }
        text
    }

    /// A field that ends its row stretches no column: a long message must not push the others away.
    fn width(&self, column: usize) -> usize {
        self.rows
            .iter()
            .filter(|row| last_filled(row).is_some_and(|last| column < last))
            .filter_map(|row| row.get(column))
            .map(|cell| cell.text.width())
            .max()
            .unwrap_or(0)
    }
}

fn last_filled(row: &[Cell]) -> Option<usize> {
    row.iter().rposition(|cell| cell.text.width() > 0)
}

fn draw(row: &[Cell], widths: &[usize], screen: Screen, text: &mut String) {
    let Some(last) = last_filled(row) else { return };
    let mut left = screen.width.unwrap_or(usize::MAX);
    for (index, (cell, width)) in row.iter().zip(widths).enumerate().take(last + 1) {
        let shown = cut(&cell.text, left);
        match cell.tone.code().filter(|_| screen.colour && !shown.is_empty()) {
            Some(code) => {
                let _ = write!(text, "\u{1b}[{code}m{shown}\u{1b}[0m");
            }
            None => text.push_str(&shown),
        }
        left -= shown.chars().count();
        if index < last {
            let blank = (width + GAP).saturating_sub(cell.text.width()).min(left);
            text.extend(std::iter::repeat_n(' ', blank));
            left -= blank;
        }
    }
}

/// At most `width` columns of it, with a sign that something is missing.
fn cut(text: &Clean, width: usize) -> String {
    if text.width() <= width {
        return text.as_str().to_owned();
    }
    let mut short: String = text.as_str().chars().take(width.saturating_sub(1)).collect();
    if width > 0 {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::headed(["NAME", "STATE", "WHY"]);
        table.row(["a-long-name".into(), Cell::new(Tone::Bad, "Halted"), "it failed".into()]);
        table.row(["b".into(), Cell::new(Tone::Good, "Complete"), "".into()]);
        table
    }

    #[test]
    fn columns_are_aligned_and_lines_have_no_blank_end() {
        assert_eq!(
            table().render(Screen::default()),
            "NAME          STATE    WHY\na-long-name   Halted   it failed\nb             Complete\n"
        );
    }

    #[test]
    fn a_narrow_screen_cuts_every_line_and_counts_no_colours() {
        let colour = Screen {
            colour: true,
            width: Some(18),
            height: None,
        };
        assert_eq!(
            table().render(colour),
            "NAME          STA…\na-long-name   \u{1b}[31mHal…\u{1b}[0m\nb             \u{1b}[32mCom…\u{1b}[0m\n"
        );
    }

    #[test]
    fn no_colour_means_no_escape_sequence_whatever_a_node_says() {
        let mut table = Table::default();
        table.row([Cell::new(Tone::Bad, "\u{1b}]0;title\u{7}evil")]);
        let text = table.render(Screen::default());
        assert!(
            !text.trim_end_matches('\n').chars().any(super::super::is_obeyed),
            "{text:?}"
        );
    }
}
