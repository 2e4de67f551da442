//! Exit codes: a contract with scripts. No IO.

use std::process::ExitCode;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Exit {
    /// As asked.
    Done = 0,
    /// Something could not be read or written.
    Failed = 1,
    /// Refused; nothing was changed.
    Refused = 2,
    /// Nothing speaks against it, but something that decides cannot be seen.
    NotCertain = 3,
    /// Begun, and taken back.
    TakenBack = 4,
    /// Not ended: the kernel is not as it was, nor as it was to be.
    Unfinished = 5,
    /// The command line is wrong (`EX_USAGE` of sysexits.h; 2 has another meaning here).
    Usage = 64,
}

/// What `--help` and the manual pages say of them.
pub const TABLE: &str = "\
Exit codes:
  0   done: answered, loaded, unloaded; check: it would load; doctor: the host is fit
  1   something could not be read or written, or a file is no livepatch; what and why is told
  2   refused, nothing was changed; check: it would be refused; doctor: the host is not fit
  3   check, doctor: nothing speaks against it, but something that decides cannot be seen from here
  4   taken back, at its deadline or by a signal: what was in effect before is in effect again
  5   not ended: a transition goes on, or something is missing and a person has to look; what is told
  64  the command line is wrong";

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_names_every_code() {
        use Exit::{Done, Failed, NotCertain, Refused, TakenBack, Unfinished, Usage};
        for exit in [Done, Failed, Refused, NotCertain, TakenBack, Unfinished, Usage] {
            let code = format!("\n  {:<4}", exit as u8);
            assert!(TABLE.contains(&code), "{exit:?}");
        }
    }
}
