//! What is being done and how long it took, on standard error.
//!
//! Does IO. A step that takes long says so every 15 s, so a run never looks hung. Commands are quiet: what they print
//! goes to a file whose end is shown, and which is kept, when the command fails.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// A step shorter than this is one line when it is done.
const QUIET: Duration = Duration::from_secs(1);
const HEARTBEAT: Duration = Duration::from_secs(15);
/// How much of a failed command's output is shown.
const TAIL_LINES: usize = 100;

/// Prints one line. Not through `eprintln!`: the test harness keeps that back until a test has failed.
pub fn line(text: &str) {
    let mut stderr = io::stderr().lock();
    let _ = writeln!(stderr, "{text}");
}

/// Seconds with one decimal, such as `12.3 s`.
pub fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

/// Runs `work`, telling what it is and how long it took.
pub fn step<T>(what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    step_with(what, || work().map(|value| (value, String::new())))
}

/// As [`step`]; `work` also returns a remark for the closing line, such as a size.
pub fn step_with<T>(what: &str, work: impl FnOnce() -> Result<(T, String)>) -> Result<T> {
    let started = Instant::now();
    let (done, waiting) = mpsc::channel::<()>();
    let result = thread::scope(|scope| {
        scope.spawn(move || {
            let mut wait = QUIET;
            let mut first = true;
            while waiting.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
                if first {
                    line(&format!("  … {what}"));
                } else {
                    line(&format!("  … {what}: {:.0} s so far", started.elapsed().as_secs_f64()));
                }
                first = false;
                wait = HEARTBEAT;
            }
        });
        let result = work();
        drop(done);
        result
    });
    let took = seconds(started.elapsed());
    match result {
        Ok((value, remark)) => {
            let remark = if remark.is_empty() {
                remark
            } else {
                format!(", {remark}")
            };
            line(&format!("  ✓ {what} ({took}{remark})"));
            Ok(value)
        }
        Err(error) => {
            line(&format!("  ✗ {what} ({took})"));
            Err(error)
        }
    }
}

/// Runs a command quietly; an error carries the end of what it printed and names the file with all of it.
pub fn run(command: &mut Command) -> Result<()> {
    let (log, path) = tempfile::Builder::new()
        .prefix("livepatch-rig-")
        .suffix(".log")
        .tempfile()
        .context("create a log file")?
        .into_parts();
    let errors = log.try_clone().context("share the log file")?;
    let status = command
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors)
        .status()
        .with_context(|| format!("start {}", shown(command)))?;
    if status.success() {
        return Ok(());
    }
    let printed = fs::read(&path).unwrap_or_default();
    let kept = path.keep().unwrap_or_else(|error| error.path.to_path_buf());
    bail!(
        "{} failed ({status}), all it printed is in {}\n{}",
        shown(command),
        kept.display(),
        tail(&String::from_utf8_lossy(&printed), TAIL_LINES)
    )
}

/// Runs a command and returns what it printed to standard output; an error carries its standard error.
pub fn output(command: &mut Command) -> Result<String> {
    output_with_input(command, None)
}

/// As [`output`], with text for the command's standard input.
pub fn output_with_input(command: &mut Command, input: Option<&str>) -> Result<String> {
    let mut child = command
        .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("start {}", shown(command)))?;
    let stdin = child.stdin.take();
    let output = thread::scope(|scope| {
        if let (Some(mut stdin), Some(input)) = (stdin, input) {
            // A command that ends without reading everything tells its own story in its status.
            scope.spawn(move || stdin.write_all(input.as_bytes()));
        }
        child.wait_with_output()
    })
    .with_context(|| format!("wait for {}", shown(command)))?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(stdout);
    }
    let mut text = tail(&String::from_utf8_lossy(&output.stderr), TAIL_LINES);
    if text.is_empty() {
        text = tail(&stdout, TAIL_LINES);
    }
    bail!("{} failed ({})\n{text}", shown(command), output.status)
}

/// The last lines of a text.
pub fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// The end of a log file, empty when there is none.
pub fn tail_of_file(path: &std::path::Path, lines: usize) -> String {
    let mut text = String::new();
    if let Ok(mut file) = File::open(path) {
        use io::{Read as _, Seek as _, SeekFrom};
        // Console logs grow to megabytes; the last 64 KiB hold the lines wanted.
        if file.seek(SeekFrom::End(-65_536)).is_err() {
            let _ = file.rewind();
        }
        let mut bytes = Vec::new();
        let _ = file.read_to_end(&mut bytes);
        text = String::from_utf8_lossy(&bytes).into_owned();
    }
    tail(&text, lines)
}

/// A command as a person would type it, cut after 300 characters.
fn shown(command: &Command) -> String {
    let mut text = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        let _ = write!(text, " {}", argument.to_string_lossy());
    }
    if let Some((cut, _)) = text.char_indices().nth(300) {
        text.truncate(cut);
        text.push('…');
    }
    text
}

/// Calls `ready` until it returns a value. `what` says what is waited for; after `timeout` the error says so and gives
/// the last reason. An error of `ready` ends the wait at once.
pub fn wait_for<T>(what: &str, timeout: Duration, mut ready: impl FnMut() -> Result<Waited<T>>) -> Result<T> {
    step(&format!("wait for {what}"), || {
        let started = Instant::now();
        let mut pause = Duration::from_millis(20);
        loop {
            let reason = match ready()? {
                Waited::Ready(value) => return Ok(value),
                Waited::NotYet(reason) => reason,
            };
            if started.elapsed() >= timeout {
                bail!("{what}: not within {}; last seen: {reason}", seconds(timeout));
            }
            thread::sleep(pause);
            pause = (pause * 3 / 2).min(Duration::from_millis(500));
        }
    })
}

/// What one look found.
#[derive(Debug)]
pub enum Waited<T> {
    /// It is there.
    Ready(T),
    /// Not there, and what was seen instead.
    NotYet(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_command_shows_what_it_printed() {
        let error = run(Command::new("sh").args(["-c", "echo told on stdout; echo told on stderr >&2; exit 3"]));
        let text = format!("{:#}", error.unwrap_err());
        assert!(
            text.contains("told on stdout") && text.contains("told on stderr"),
            "{text}"
        );
        let error = output(Command::new("sh").args(["-c", "echo why >&2; exit 3"]));
        assert!(format!("{:#}", error.unwrap_err()).contains("why"));
    }

    #[test]
    fn input_larger_than_a_pipe_reaches_the_command() {
        let input = "x".repeat(1 << 20);
        assert_eq!(
            output_with_input(&mut Command::new("cat"), Some(&input)).unwrap(),
            input
        );
    }

    #[test]
    fn a_wait_that_ends_names_what_was_seen() {
        let waited = wait_for("the moon", Duration::from_millis(50), || {
            Ok(Waited::<()>::NotYet("clouds".into()))
        });
        assert!(waited.unwrap_err().to_string().contains("clouds"));
    }
}
