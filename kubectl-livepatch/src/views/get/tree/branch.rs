//! One line of a tree and the lines below it. Pure.

use crate::text::{Cell, Table, Tone};

/// One line, and those below it.
#[derive(Clone, Debug, Default)]
pub struct Branch {
    tone: Tone,
    name: String,
    state: String,
    nodes: String,
    info: String,
    /// Without a symbol.
    is_remark: bool,
    pub children: Vec<Self>,
}

impl Branch {
    pub fn new(tone: Tone, name: String) -> Self {
        Self {
            tone,
            name,
            ..Self::default()
        }
    }

    /// A line of words only.
    pub fn remark(text: String) -> Self {
        Self {
            is_remark: true,
            ..Self::new(Tone::Faint, text)
        }
    }

    pub fn state(mut self, state: &str) -> Self {
        self.state = state.to_owned();
        self
    }

    /// So many of so many nodes.
    pub fn nodes(mut self, done: i32, all: i32) -> Self {
        self.nodes = format!("{done}/{all}");
        self
    }

    pub fn info(mut self, info: String) -> Self {
        self.info = info;
        self
    }

    /// Adds the lines of this tree.
    pub fn write_into(&self, table: &mut Table) {
        self.write("", "", table);
    }

    /// `first` leads this line, `rest` those below it.
    fn write(&self, first: &str, rest: &str, table: &mut Table) {
        let symbol = if self.is_remark { "" } else { symbol(self.tone) };
        let tone = if self.tone == Tone::Faint {
            Tone::Faint
        } else {
            Tone::Plain
        };
        table.row([
            Cell::new(tone, format!("{first}{symbol}{}", self.name)),
            Cell::new(self.tone, self.state.as_str()),
            Cell::new(tone, self.nodes.as_str()),
            Cell::new(tone, self.info.as_str()),
        ]);
        let last = self.children.len().saturating_sub(1);
        for (index, child) in self.children.iter().enumerate() {
            let (one, below) = if index == last {
                ("└─ ", "   ")
            } else {
                ("├─ ", "│  ")
            };
            child.write(&format!("{rest}{one}"), &format!("{rest}{below}"), table);
        }
    }
}

/// Says without colour what a tone says.
fn symbol(tone: Tone) -> &'static str {
    match tone {
        Tone::Plain => "",
        Tone::Good => "✔ ",
        Tone::Busy => "● ",
        Tone::Wait => "◐ ",
        Tone::Bad => "✖ ",
        Tone::Faint => "○ ",
    }
}
