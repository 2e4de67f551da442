//! `push`: read and check the files, then push, then print. Does IO.

mod inputs;
mod kernel;
mod output;

use std::error::Error;
use std::process::ExitCode;

use livepatch_artifact::{Assembled, ConfigError, InvalidBundle, PushError, PushStep, Reference, RegistryConfig};

use crate::cli::PushOptions;
use crate::output::{note, print, with_causes};

/// Why nothing, or not everything, was pushed.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("wrong use of {option}: {why}")]
    Usage { option: &'static str, why: String },
    #[error("nothing was pushed")]
    Refused { refusals: Vec<String> },
    #[error("the modules do not make a livepatch artefact")]
    Bundle { source: InvalidBundle },
    #[error("registry configuration cannot be used")]
    Config { source: ConfigError },
    #[error(transparent)]
    Push { source: PushError },
    #[error("{what}")]
    Other { what: &'static str, source: Box<dyn Error> },
}

impl Failure {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Usage { .. } => 2,
            Self::Refused { .. } | Self::Bundle { .. } => 3,
            Self::Push {
                source: PushError::Unauthorized { .. },
            } => 4,
            Self::Push {
                source: PushError::RegistryUnavailable { .. } | PushError::DigestMismatch { .. },
            } => 5,
            Self::Push { .. } | Self::Config { .. } | Self::Other { .. } => 1,
        }
    }
}

/// Runs the command to its exit code, which the help documents.
pub fn run(options: &PushOptions) -> ExitCode {
    match execute(options) {
        Ok(text) => print(&text),
        Err(failure) => {
            if let Failure::Refused { refusals } = &failure {
                for refusal in refusals {
                    note(&format!("error: {refusal}"));
                }
            }
            note(&format!("error: {}", with_causes(&failure)));
            ExitCode::from(failure.exit_code())
        }
    }
}

fn execute(options: &PushOptions) -> Result<String, Failure> {
    let tell = |line: String| {
        if !options.quiet {
            note(&line);
        }
    };
    let kernels = kernel::Kernels::read(&options.kernel_build_id, &options.kernel_notes)?;
    let inputs = inputs::read(&options.files, &kernels)?;
    for input in &inputs {
        tell(input.to_string());
    }
    let files = inputs.iter().map(|input| input.module.clone()).collect();
    let artefact = Assembled::new(files, &options.cve).map_err(|source| Failure::Bundle { source })?;

    let config = options.registry.config().map_err(|source| Failure::Config { source })?;
    tell(format!("pushing to {}", options.target));
    let reference = push(options, &config, &artefact, &mut |step| tell(progress(step)))?;
    output::render(options.output, options.target.tag.as_deref(), &reference, &artefact)
}

fn push(
    options: &PushOptions,
    config: &RegistryConfig,
    artefact: &Assembled,
    progress: &mut (dyn FnMut(PushStep<'_>) + Send),
) -> Result<Reference, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Other {
            what: "cannot start",
            source: error.into(),
        })?;
    runtime
        .block_on(livepatch_artifact::push(config, &options.target, artefact, progress))
        .map_err(|source| Failure::Push { source })
}

fn progress(step: PushStep<'_>) -> String {
    match step {
        PushStep::Uploaded { what, bytes } => format!("  sent {what}, {bytes} bytes"),
        PushStep::Present { what, bytes } => format!("  already there: {what}, {bytes} bytes"),
        PushStep::Stored { what } => format!("  stored {what}"),
    }
}
