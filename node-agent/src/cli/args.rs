//! The flags of the commands for a person on the host. No IO.

use std::ffi::CString;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::output::Format;

/// Longest string of module parameters: what a kernel reads from user space at once (`strndup_user` of
/// kernel/module/main.c takes more, but no livepatch does).
const MAX_PARAMETERS: usize = 4096;

/// Longest time for a transition.
const MAX_TIMEOUT: Duration = Duration::from_hours(24);

#[derive(Debug, Args)]
pub struct Inspect {
    /// Livepatch modules: .ko, .ko.gz, .ko.xz or .ko.zst
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// How to answer
    #[arg(long, short, value_enum, default_value_t)]
    pub output: Format,
}

/// Where the agent of this host keeps its files.
#[derive(Debug, Clone, Args)]
pub struct Place {
    /// The agent's journal, module store and lock
    #[arg(long, value_name = "DIR", default_value = "/var/lib/livepatch")]
    pub state_dir: PathBuf,
    /// Where a person says stop
    #[arg(long, value_name = "DIR", default_value = "/etc/livepatch")]
    pub config_dir: PathBuf,
}

#[derive(Debug, Args)]
pub struct Status {
    /// How to answer
    #[arg(long, short, value_enum, default_value_t)]
    pub output: Format,
    #[command(flatten)]
    pub place: Place,
}

/// What a person takes on.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct Allowed {
    /// Load a livepatch even if it throws out one that patches functions which it does not patch itself
    #[arg(long)]
    pub allow_lost_fixes: bool,
    /// Load a livepatch even if another one patches the same function: the one loaded last wins
    #[arg(long)]
    pub allow_shared_functions: bool,
}

#[derive(Debug, Args)]
pub struct Check {
    /// Livepatch module: .ko, .ko.gz, .ko.xz or .ko.zst
    pub file: PathBuf,
    #[command(flatten)]
    pub allowed: Allowed,
    /// How to answer
    #[arg(long, short, value_enum, default_value_t)]
    pub output: Format,
}

#[derive(Debug, Args)]
pub struct Load {
    /// Livepatch module: .ko, .ko.gz, .ko.xz or .ko.zst
    pub file: PathBuf,
    /// Time for the transition, such as 90s, 5m or 1h. When it is over the load is taken back
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = span)]
    pub timeout: Duration,
    /// Change nothing: say what speaks against the load
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub allowed: Allowed,
    /// Change this host even though its agent runs. The agent reports what it did not load as foreign, and what is
    /// missing as drift
    #[arg(long)]
    pub despite_agent: bool,
    /// Nothing on standard error but errors
    #[arg(long, short)]
    pub quiet: bool,
    /// How to answer
    #[arg(long, short, value_enum, default_value_t)]
    pub output: Format,
    #[command(flatten)]
    pub place: Place,
    /// Module parameters
    #[arg(last = true, value_name = "KEY=VALUE", value_parser = parameter)]
    pub parameters: Vec<String>,
}

impl Load {
    /// The parameters as `finit_module` takes them.
    pub fn parameters(&self) -> Result<CString, String> {
        let text = self.parameters.join(" ");
        if text.len() > MAX_PARAMETERS {
            return Err(format!("module parameters are longer than {MAX_PARAMETERS} bytes"));
        }
        CString::new(text).map_err(|_| "a module parameter contains a zero byte".to_owned())
    }
}

#[derive(Debug, Args)]
pub struct Unload {
    /// Name of the livepatch
    pub name: String,
    /// Time for the transition, such as 90s, 5m or 1h. When it is over the livepatch is enabled again
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = span)]
    pub timeout: Duration,
    /// Change this host even though its agent runs. The agent reports what is missing as drift
    #[arg(long)]
    pub despite_agent: bool,
    /// Nothing on standard error but errors
    #[arg(long, short)]
    pub quiet: bool,
    /// How to answer
    #[arg(long, short, value_enum, default_value_t)]
    pub output: Format,
    #[command(flatten)]
    pub place: Place,
}

#[derive(Debug, Args)]
pub struct Watch {
    /// End as soon as no transition runs
    #[arg(long)]
    pub until_done: bool,
    /// How to answer: json and yaml give one document per change
    #[arg(long, short, value_enum, default_value_t)]
    pub output: Format,
}

#[derive(Debug, Args)]
pub struct Doctor {
    /// How to answer
    #[arg(long, short, value_enum, default_value_t)]
    pub output: Format,
    #[command(flatten)]
    pub place: Place,
}

/// A time such as `90`, `90s`, `5m` or `1h`.
fn span(text: &str) -> Result<Duration, String> {
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let seconds = match unit {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err("a time is a number and s, m or h, such as 90s or 5m".to_owned()),
    };
    let number: u64 = digits
        .parse()
        .map_err(|_| "a time begins with a number, such as 90s or 5m".to_owned())?;
    let span = number.checked_mul(seconds).map(Duration::from_secs);
    span.filter(|span| !span.is_zero() && *span <= MAX_TIMEOUT)
        .ok_or_else(|| "a time is at least 1s and at most 24h".to_owned())
}

/// One module parameter as the kernel's parser takes it (`next_arg()`, lib/cmdline.c, 6.1-7.2): blanks end it unless
/// they are in double quotes, and there is no way to write a double quote.
fn parameter(text: &str) -> Result<String, String> {
    let (key, value) = text.split_once('=').ok_or("a module parameter is written KEY=VALUE")?;
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-' || c == '.';
    if key.is_empty() || !key.chars().all(is_name) {
        return Err("the name of a module parameter is made of letters, digits, _, - and .".to_owned());
    }
    if value.chars().any(|c| c.is_control() || c == '"') {
        return Err("the value of a module parameter has no control characters and no double quotes".to_owned());
    }
    if value.contains(' ') {
        return Ok(format!("{key}=\"{value}\""));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_as_people_write_them() {
        for (text, seconds) in [("90", 90), ("1s", 1), ("5m", 300), ("24h", 86400)] {
            assert_eq!(span(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in [
            "",
            "0",
            "0m",
            "m",
            "-5s",
            "5 m",
            "1d",
            "25h",
            "99999999999999999999",
            "18446744073709551615h",
        ] {
            assert!(span(text).is_err(), "{text}");
        }
    }

    #[test]
    fn parameters_as_the_kernel_reads_them() {
        assert_eq!(parameter("debug=1").unwrap(), "debug=1");
        assert_eq!(parameter("who=the world").unwrap(), "who=\"the world\"");
        assert_eq!(parameter("empty=").unwrap(), "empty=");
        for text in ["debug", "=1", "a b=1", "a=\"1\"", "a=\n", "a\"=1", "--=\u{1b}"] {
            assert!(parameter(text).is_err(), "{text:?}");
        }
    }
}
