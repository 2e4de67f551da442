//! From a result to standard output, standard error and an exit code. Does IO.

use std::error::Error;
use std::fmt::Write as _;
use std::future::Future;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use livepatch_artifact::ConfigError;
use livepatch_crds::GROUP;
use serde::Serialize;
use serde_json::Value;

use crate::cluster::ClusterError;
use crate::family::NoSuchRevision;
use crate::text::{Clean, Screen, is_obeyed};
use crate::verbs::Refusal;

/// Why a command on a cluster did not do what it is for.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error(transparent)]
    Cluster { source: ClusterError },
    #[error(transparent)]
    Refused { source: Refusal },
    #[error(transparent)]
    Revision { source: NoSuchRevision },
    #[error("registry configuration cannot be used")]
    Registry { source: ConfigError },
    #[error("{} cannot be read", path.display())]
    File { path: PathBuf, source: Box<dyn Error> },
    #[error("cannot start")]
    Start { source: io::Error },
    #[error("the answer cannot be printed")]
    Unprintable { source: Box<dyn Error> },
}

impl Failure {
    /// 3: refused, nothing was changed; 1: anything else. 2 is a wrong command line.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Refused { .. } => 3,
            Self::Cluster { .. }
            | Self::File { .. }
            | Self::Registry { .. }
            | Self::Revision { .. }
            | Self::Start { .. }
            | Self::Unprintable { .. } => 1,
        }
    }
}

impl From<ClusterError> for Failure {
    fn from(source: ClusterError) -> Self {
        Self::Cluster { source }
    }
}

impl From<ConfigError> for Failure {
    fn from(source: ConfigError) -> Self {
        Self::Registry { source }
    }
}

impl From<NoSuchRevision> for Failure {
    fn from(source: NoSuchRevision) -> Self {
        Self::Revision { source }
    }
}

/// Runs what needs the network.
pub fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| Failure::Start { source })?
        .block_on(work)
}

/// Prints what a command is for, or why it failed.
pub fn conclude(result: Result<String, Failure>) -> ExitCode {
    match result {
        Ok(text) => print(&text),
        Err(failure) => ExitCode::from(complain(&failure)),
    }
}

/// Says why a command failed; gives the exit code.
pub fn complain(failure: &Failure) -> u8 {
    note(&format!("error: {}", with_causes(failure)));
    failure.exit_code()
}

/// Prints to standard output. A reader that has gone away has read what it wanted.
pub fn print(text: &str) -> ExitCode {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            note(&format!("error: cannot write to standard output: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Prints a line to standard error. There is nobody to tell if that fails.
pub fn note(line: &str) {
    let _ = io::stderr()
        .lock()
        .write_all(format!("{}\n", Clean::from(line)).as_bytes());
}

/// An error with its causes, in one line.
pub fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        // Some errors of others print their causes themselves.
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}

/// What standard output is.
pub fn screen(no_colour: bool) -> Screen {
    if !io::stdout().is_terminal() {
        return Screen::default();
    }
    let size = terminal_size::terminal_size();
    // https://no-color.org: present and not empty.
    let unwanted = no_colour || std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_none_or(|kind| kind == "dumb");
    Screen {
        colour: !unwanted && !dumb,
        width: size.map(|(width, _)| usize::from(width.0)),
        height: size.map(|(_, height)| usize::from(height.0)),
    }
}

/// Names as `kubectl get -o name` prints them.
pub fn names<'a>(kind: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().fold(String::new(), |mut text, name| {
        let _ = writeln!(text, "{kind}.{GROUP}/{name}");
        text
    })
}

/// JSON for programs. What a terminal would obey is escaped in it, beyond what JSON itself demands.
pub fn json(object: &impl Serialize) -> Result<String, Failure> {
    let text = serde_json::to_string_pretty(object).map_err(|error| Failure::Unprintable { source: error.into() })?;
    let mut escaped = String::with_capacity(text.len() + 1);
    for c in text.chars() {
        if c != '\n' && is_obeyed(c) {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                let _ = write!(escaped, "\\u{unit:04x}");
            }
        } else {
            escaped.push(c);
        }
    }
    Ok(escaped + "\n")
}

/// YAML, with everything that a terminal would obey taken out: unlike JSON it has no one way to write such characters.
pub fn yaml(object: &impl Serialize) -> Result<String, Failure> {
    let unprintable = |error: Box<dyn Error>| Failure::Unprintable { source: error };
    let mut value = serde_json::to_value(object).map_err(|error| unprintable(error.into()))?;
    clean(&mut value);
    let options = serde_saphyr::ser_options! { prefer_block_scalars: false };
    let text = serde_saphyr::to_string_with_options(&value, options).map_err(|error| unprintable(error.into()))?;
    Ok(format!("{}\n", text.trim_end()))
}

fn clean(value: &mut Value) {
    match value {
        Value::String(text) if text.chars().any(is_obeyed) => *text = Clean::from(text.as_str()).to_string(),
        Value::Array(values) => values.iter_mut().for_each(clean),
        Value::Object(fields) => fields.values_mut().for_each(clean),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_programs_read_moves_no_cursor_and_says_the_same() {
        let evil = serde_json::json!({"comm": "a\u{1b}[2J\u{9b}31m\u{202e}b\u{7f}"});
        let printed = json(&evil).unwrap();
        assert!(!printed.replace('\n', "").chars().any(is_obeyed), "{printed}");
        assert_eq!(serde_json::from_str::<Value>(&printed).unwrap(), evil);
        let printed = yaml(&evil).unwrap();
        assert!(!printed.replace('\n', "").chars().any(is_obeyed), "{printed:?}");
    }
}
