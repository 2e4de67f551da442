//! Commands for a node over its second serial port: a way in that needs neither network nor kubelet.
//!
//! Does IO on a unix socket. The other end is `node/control.sh`, which also describes the protocol.

use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::base64;

/// What the guest's end says when it listens.
const READY: &str = "control ready";
/// How long the guest may take beyond the time that a command has; it may be starting.
const GRACE: Duration = Duration::from_mins(1);

/// What a command did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandOutput {
    /// As a shell tells it; 124 if its time ran out.
    pub code: i32,
    /// Standard output and standard error, at most 4 MB.
    pub output: String,
}

impl CommandOutput {
    /// The output of a command that succeeded.
    pub fn success(self) -> Result<String> {
        if self.code == 0 {
            return Ok(self.output);
        }
        bail!("exit code {}: {}", self.code, self.output.trim_end())
    }
}

/// The host's end. One command at a time.
#[derive(Debug)]
pub struct Channel {
    stream: UnixStream,
    received: Vec<u8>,
    next: u64,
}

impl Channel {
    /// Connects to the socket of a qemu that was just started.
    pub fn connect(socket: &Path) -> Result<Self> {
        let started = Instant::now();
        let stream = loop {
            match UnixStream::connect(socket) {
                Ok(stream) => break stream,
                Err(error) if started.elapsed() > Duration::from_secs(20) => {
                    return Err(error).with_context(|| format!("connect to {}", socket.display()));
                }
                Err(_) => thread::sleep(Duration::from_millis(20)),
            }
        };
        Ok(Self {
            stream,
            received: Vec::new(),
            next: 0,
        })
    }

    /// Waits until the guest listens.
    pub fn wait_ready(&mut self, deadline: Instant) -> Result<()> {
        while self.line(deadline)?.trim() != READY {}
        Ok(())
    }

    /// Runs a shell command as root. A guest that is starting is waited for; one that starts again while it is at work
    /// on the command is an error.
    pub fn run(&mut self, command: &str, timeout: Duration) -> Result<CommandOutput> {
        self.next += 1;
        let id = self.next;
        let encoded = base64::encode(command.as_bytes());
        let request = format!("{id} {} {encoded}\n", timeout.as_secs().max(1));
        self.stream.write_all(request.as_bytes()).context("send a command")?;
        let deadline = Instant::now() + timeout + GRACE;
        let (accepted, begin, end) = (format!("{id} accepted"), format!("{id} begin"), format!("{id} end "));
        let mut at_work = false;
        let mut printed = None;
        loop {
            let line = self.line(deadline)?;
            let line = line.trim();
            if line == READY {
                if at_work {
                    bail!("the node started again while it ran a command");
                }
                // What was sent while nobody listened is lost.
                self.stream.write_all(request.as_bytes()).context("send a command")?;
            } else if line == accepted {
                at_work = true;
            } else if line == begin {
                printed = Some(String::new());
            } else if let Some(code) = line.strip_prefix(&end) {
                let bytes = decode(&printed.unwrap_or_default());
                return Ok(CommandOutput {
                    code: code.parse().with_context(|| format!("exit code {code:?}"))?,
                    output: String::from_utf8_lossy(&bytes).into_owned(),
                });
            } else if let Some(text) = &mut printed {
                text.push_str(line);
            }
        }
    }

    fn line(&mut self, deadline: Instant) -> Result<String> {
        loop {
            if let Some(end) = self.received.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.received.drain(..=end).collect();
                return Ok(String::from_utf8_lossy(&line).into_owned());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                bail!("the node does not answer on its control channel");
            }
            self.stream.set_read_timeout(Some(left)).context("set a timeout")?;
            let mut bytes = [0; 4096];
            match self.stream.read(&mut bytes) {
                Ok(0) => bail!("the node is switched off"),
                Ok(count) => self.received.extend_from_slice(&bytes[..count]),
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                    ) => {}
                Err(error) => return Err(error).context("read from the control channel"),
            }
        }
    }
}

/// Standard base64; what is no digit is skipped.
fn decode(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut count) = (0_u32, 0);
    for digit in text.bytes() {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => continue,
        };
        bits = (bits << 6 | u32::from(value)) & 0x00ff_ffff;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count & 0xff) as u8);
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_decoded() {
        for length in 0..70_u8 {
            let bytes: Vec<u8> = (0..length).map(|byte| byte.wrapping_mul(91)).collect();
            assert_eq!(decode(&base64::encode(&bytes)), bytes);
        }
    }
}
