//! `status`: what this host's kernel runs. Reads the kernel.

mod look;
mod told;

use super::args::Status;
use super::exit::Exit;
use super::{host, output};

pub use look::{Transition, transition};

/// Answers.
pub fn run(options: &Status) -> Exit {
    let seen = host::kernel().and_then(|kernel| look::look(&kernel, &options.place));
    match seen {
        Ok(status) => output::show(options.output, &status, Exit::Done),
        Err(error) => {
            output::complain(&super::chain(error.reason(), &error));
            Exit::Failed
        }
    }
}
