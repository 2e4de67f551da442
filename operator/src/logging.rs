//! The log: to standard error, as text for people or as JSON for machines.

use std::io::{self, IsTerminal};
use tracing_subscriber::EnvFilter;

/// How the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// One JSON object per line.
    Json,
    /// Lines for people.
    Text,
}

/// What is logged if `RUST_LOG` does not say otherwise. What fails is told here, with what it means; kube would tell it
/// beside, for each attempt.
const DEFAULT: &str = "info,kube=off";

/// Begins to log. Does nothing if somebody has begun before.
pub fn start(format: Format) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(DEFAULT));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(io::stderr);
    let begun = match format {
        Format::Json => log
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .try_init(),
        Format::Text => log.try_init(),
    };
    if let Err(error) = begun {
        tracing::debug!("{error}");
    }
}
