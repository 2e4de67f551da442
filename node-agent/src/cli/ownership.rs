//! Who may change this host: its agent, or one command at a time. Takes locks.

use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use livepatch_agent::durable;
use livepatch_agent::lock::HostLock;
use livepatch_kernel::Kernel;
use livepatch_kernel::preflight::Weight;
use thiserror::Error;

use super::check;
use super::host::{self, Rights};
use super::result::Changed;

/// Somebody who asks whether the lock is held shares it for an instant: it is tried so often before that counts.
const TRIES: u32 = 5;

/// Between two tries.
const APART: Duration = Duration::from_millis(40);

/// The right to change this host, for as long as it lives.
#[derive(Debug)]
pub struct Ownership {
    _command: HostLock,
    /// `None` if the host is changed although its agent holds it.
    _host: Option<HostLock>,
}

/// Why this host is not ours to change.
#[derive(Debug, Error)]
pub enum NotOurs {
    /// The state directory cannot be used.
    #[error("cannot use {path}")]
    StateDir {
        /// The directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Another command changes it.
    #[error("another command changes this host{}", by(.holder.as_deref()))]
    Command {
        /// Who.
        holder: Option<String>,
    },
    /// The agent owns it.
    #[error("the agent of this host owns it{}", by(.holder.as_deref()))]
    Agent {
        /// Who.
        holder: Option<String>,
    },
}

fn by(holder: Option<&str>) -> String {
    holder.map(|holder| format!(": {holder}")).unwrap_or_default()
}

impl NotOurs {
    /// The reason code.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::StateDir { .. } => "StateDirUnusable",
            Self::Command { .. } => "AnotherCommandRuns",
            Self::Agent { .. } => "AgentOwnsHost",
        }
    }

    /// What to do about it.
    pub const fn advice(&self) -> &'static str {
        match self {
            Self::StateDir { .. } => "run it as root, or name another directory with --state-dir",
            Self::Command { .. } => "wait until it ends",
            Self::Agent { .. } => {
                "use a LivepatchSet, stop the agent, or change the host all the same with --despite-agent (touch /etc/livepatch/stop before it, so that the agent begins nothing meanwhile)"
            }
        }
    }
}

/// Changes this host, if that is ours to do: with the right to load modules, a kernel that can be read, and the locks.
/// They are taken last, so that a refusal leaves nothing behind.
pub fn change(name: &str, state: &Path, despite_agent: bool, change: impl FnOnce(&dyn Kernel) -> Changed) -> Changed {
    if Rights::read().is_some_and(|rights| !rights.modules) {
        return Changed::refused_by(name, vec![check::not_permitted(Weight::Fails)]);
    }
    let kernel = match host::kernel() {
        Ok(kernel) => kernel,
        Err(error) => return Changed::unreadable(name, &error),
    };
    match take(state, despite_agent) {
        Ok(_ours) => change(&kernel),
        Err(error) => Changed::not_ours(name, &error),
    }
}

/// Takes this host.
pub fn take(state: &Path, despite_agent: bool) -> Result<Ownership, NotOurs> {
    let unusable = |source| NotOurs::StateDir {
        path: state.to_owned(),
        source,
    };
    let holder = |file: &Path| host::lock_holder(file, &host::paths().proc);
    durable::directory(state).map_err(unusable)?;
    let Some(command) = HostLock::try_take_for_command(state).map_err(unusable)? else {
        let holder = holder(&HostLock::command_file(state));
        return Err(NotOurs::Command { holder });
    };
    let mut lock = HostLock::try_take(state).map_err(unusable)?;
    for _ in 1..TRIES {
        if lock.is_some() {
            break;
        }
        thread::sleep(APART);
        lock = HostLock::try_take(state).map_err(unusable)?;
    }
    if lock.is_none() && !despite_agent {
        let holder = holder(&HostLock::file(state));
        return Err(NotOurs::Agent { holder });
    }
    Ok(Ownership {
        _command: command,
        _host: lock,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_keeps_a_command_away_unless_told() {
        let state = tempfile::tempdir().unwrap();
        let agent = HostLock::try_take(state.path()).unwrap().unwrap();
        let refused = take(state.path(), false).unwrap_err();
        assert_eq!(refused.reason(), "AgentOwnsHost");
        assert!(refused.advice().contains("--despite-agent"));
        assert!(
            refused.to_string().contains(&format!("pid {}", std::process::id())),
            "{refused}"
        );
        let ours = take(state.path(), true).unwrap();
        assert_eq!(take(state.path(), true).unwrap_err().reason(), "AnotherCommandRuns");
        drop((ours, agent));
        let ours = take(state.path(), false).unwrap();
        // An agent that starts now waits.
        assert!(HostLock::try_take(state.path()).unwrap().is_none());
        drop(ours);
    }

    #[test]
    fn a_state_directory_that_cannot_be_made() {
        let refused = take(Path::new("/proc/livepatch"), false).unwrap_err();
        assert_eq!(refused.reason(), "StateDirUnusable");
    }
}
