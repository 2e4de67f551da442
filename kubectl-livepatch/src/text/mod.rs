//! What is shown to people, before it is shown: clean text, tones, tables. No IO.
//!
//! Names, messages and task names come from nodes and registries. Whatever reaches a terminal passes through [`Clean`],
//! the only text that a [`Cell`] holds, so that none of it can move the cursor or change what was printed before.

mod table;
mod time;

pub use table::{Cell, Screen, Table, Tone};
pub use time::{age, moment};

use std::fmt;

/// Text in one line without anything that a terminal obeys.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Clean(String);

impl Clean {
    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Columns it takes.
    fn width(&self) -> usize {
        self.0.chars().count()
    }
}

impl fmt::Display for Clean {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&str> for Clean {
    fn from(text: &str) -> Self {
        Self(text.chars().map(|c| if is_obeyed(c) { ' ' } else { c }).collect())
    }
}

impl From<String> for Clean {
    fn from(text: String) -> Self {
        if text.chars().any(is_obeyed) {
            Self::from(text.as_str())
        } else {
            Self(text)
        }
    }
}

/// Control characters, C1 included, and the marks that turn the direction of writing or take no room: with them one
/// name can be made to look like another.
pub fn is_obeyed(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// So many of something: `1 node`, `2 nodes`.
pub fn count<N: fmt::Display + PartialEq + From<u8> + Copy>(number: N, one: &str) -> String {
    let s = if number == N::from(1) { "" } else { "s" };
    format!("{number} {one}{s}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_obeys_is_left() {
        let text = "a\u{1b}[2Jb\u{9b}31mc\rd\u{7f}\u{202e}e\u{200b}f";
        assert_eq!(Clean::from(text).as_str(), "a [2Jb 31mc d  e f");
        assert_eq!(Clean::from(text.to_owned()), Clean::from(text));
        assert_eq!(Clean::from("grün ✔ 日本").as_str(), "grün ✔ 日本");
    }

    #[test]
    fn one_is_not_many() {
        assert_eq!([count(1, "node"), count(0, "node")], ["1 node", "0 nodes"]);
    }
}
