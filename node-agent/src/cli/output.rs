//! What commands print: tables for people, JSON and YAML for programs. Writes to standard output and standard error.

use std::io::{self, IsTerminal as _, Write as _};

use clap::ValueEnum;
use serde::Serialize;

use super::exit::Exit;
use super::text::{Line, Text, Tone, is_deceptive};

/// How a command answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Format {
    /// Tables and sentences for people
    #[default]
    Table,
    /// JSON, indented
    Json,
    /// YAML
    Yaml,
}

/// What a command has to say, for programs and for people.
pub trait Report: Serialize {
    /// The same for people.
    fn text(&self) -> Text;
}

/// Prints a report; `exit`, unless it cannot be printed.
pub fn show<T: Report>(format: Format, report: &T, exit: Exit) -> Exit {
    match format {
        Format::Table => print(&report.text().render(colour(&io::stdout())), exit),
        Format::Json | Format::Yaml => show_data(format, report, exit),
    }
}

/// Prints something for programs; as JSON where a table was asked for.
pub fn show_data<T: Serialize + ?Sized>(format: Format, data: &T, exit: Exit) -> Exit {
    let written = match format {
        Format::Table | Format::Json => json(data),
        Format::Yaml => yaml(data),
    };
    match written {
        Ok(text) => print(&text, exit),
        Err(error) => {
            complain(&format!("cannot write the answer: {error}"));
            Exit::Failed
        }
    }
}

/// Writes to standard output.
pub fn write(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Prints to standard output. A reader that has gone away has read what it wanted.
pub fn print(text: &str, exit: Exit) -> Exit {
    match write(text) {
        Ok(()) => exit,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => exit,
        Err(error) => {
            complain(&format!("cannot write to standard output: {error}"));
            Exit::Failed
        }
    }
}

/// Prints an error to standard error.
pub fn complain(message: &str) {
    note(Line::toned(Tone::Bad, "error: ").and(Tone::Plain, message));
}

/// Prints a line to standard error. There is nobody to tell if that fails.
pub fn note(line: impl Into<Line>) {
    let mut text = Text::default();
    text.line(line);
    let _ = io::stderr()
        .lock()
        .write_all(text.render(colour(&io::stderr())).as_bytes());
}

/// Colours are for terminals that know them, and for people who have not set `NO_COLOR` (no-color.org).
pub fn colour(stream: &impl io::IsTerminal) -> bool {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    stream.is_terminal() && !set("NO_COLOR") && std::env::var_os("TERM").is_some_and(|term| term != "dumb")
}

/// Whether standard output is a terminal on which lines can be drawn again.
pub fn is_screen() -> bool {
    io::stdout().is_terminal() && std::env::var_os("TERM").is_some_and(|term| term != "dumb")
}

/// Indented JSON that is plain text on a terminal: JSON itself escapes only the first 32 control characters.
pub fn json<T: Serialize + ?Sized>(data: &T) -> Result<String, String> {
    let mut text = serde_json::to_string_pretty(data).map_err(|error| error.to_string())?;
    text.push('\n');
    Ok(escaped(&text))
}

/// One line of JSON.
pub fn json_line<T: Serialize + ?Sized>(data: &T) -> Result<String, String> {
    let text = serde_json::to_string(data).map_err(|error| error.to_string())?;
    Ok(escaped(&text) + "\n")
}

/// YAML that is plain text on a terminal. JSON is YAML too, and it can say every character in plain ones.
pub fn yaml<T: Serialize + ?Sized>(data: &T) -> Result<String, String> {
    let text = serde_saphyr::to_string(&data).map_err(|error| error.to_string())?;
    if text.chars().any(|c| is_deceptive(c) && c != '\n') {
        return json(data);
    }
    Ok(text)
}

/// In JSON such characters are only ever inside strings, except the line ends that indent it.
fn escaped(json: &str) -> String {
    use std::fmt::Write as _;
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        if is_deceptive(c) && c != '\n' {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(out, "\\u{unit:04x}");
            }
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    #[test]
    fn json_and_yaml_are_plain_text_and_say_the_same() {
        for word in [
            "plain",
            "a\u{1b}[2Jb",
            "c1 \u{9b}31m",
            "turned \u{202e}",
            "two\nlines",
            "- [x]: #",
            "",
        ] {
            let data = serde_json::json!({"comm": word, "list": [word]});
            for text in [json(&data).unwrap(), json_line(&data).unwrap(), yaml(&data).unwrap()] {
                assert!(!text.chars().any(|c| is_deceptive(c) && c != '\n'), "{text:?}");
                let read: Value = serde_saphyr::from_str(&text).unwrap();
                assert_eq!(read, data, "{text}");
            }
        }
    }

    proptest! {
        #[test]
        fn json_says_every_string(word in "(?s).{0,40}") {
            let text = json(&word).unwrap();
            prop_assert!(!text.chars().any(|c| is_deceptive(c) && c != '\n'));
            prop_assert_eq!(serde_json::from_str::<String>(&text).unwrap(), word);
        }
    }
}
