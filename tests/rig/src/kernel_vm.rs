//! A guest that boots a kernel, runs one command and powers off: the place for what only a real kernel can answer.
//!
//! Does IO. There is no disk and no network: the initial ram disk holds busybox, the files of the run and an init
//! script. The command's output comes over a serial port of its own, apart from the kernel's messages.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::cpio::Archive;
use crate::debian::{self, Suite};
use crate::kernels::Kernel;
use crate::progress;
use crate::vm::{Machine, Qemu};

/// Comes before the exit code at the very end of the output.
const VERDICT: &str = "\nlivepatch-rig: exit code ";
/// How often the console is looked at.
const LOOK: Duration = Duration::from_millis(100);
const CONSOLE_LINES: usize = 60;

/// What to run, and where.
#[derive(Debug)]
pub struct KernelVmSpec<'a> {
    /// The kernel to boot.
    pub kernel: &'a Kernel,
    /// Files to put into the guest, besides busybox with links for its commands in `/bin`.
    pub files: Vec<GuestFile>,
    /// Program and arguments, run as root in `/`; the program by its absolute path or a busybox command.
    pub command: Vec<String>,
    /// The guest is killed after this long, which is an error; counted from power-on.
    pub deadline: Duration,
    /// What most guests do not need to say.
    pub boot: Boot,
}

/// How a guest boots.
#[derive(Debug, Clone, Copy)]
pub struct Boot {
    /// Processors; more than one makes livepatching slow, see [`Machine::processors`].
    pub processors: u32,
    /// Added to the kernel command line.
    pub parameters: &'static str,
}

impl Default for Boot {
    fn default() -> Self {
        Self {
            processors: 1,
            parameters: "",
        }
    }
}

/// A file of the guest.
#[derive(Debug, Clone)]
pub struct GuestFile {
    path: String,
    mode: u32,
    content: Content,
}

#[derive(Debug, Clone)]
enum Content {
    File(PathBuf),
    Bytes(Vec<u8>),
}

impl GuestFile {
    /// A file of this machine at a path of the guest; executable, which does no harm to a module.
    pub fn copy(path: impl Into<String>, source: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            mode: 0o755,
            content: Content::File(source.into()),
        }
    }

    /// A file with this content.
    pub fn text(path: impl Into<String>, content: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            mode: 0o755,
            content: Content::Bytes(content.into().into_bytes()),
        }
    }

    /// A file with these bytes.
    pub fn bytes(path: impl Into<String>, content: impl Into<Vec<u8>>) -> Self {
        Self {
            path: path.into(),
            mode: 0o644,
            content: Content::Bytes(content.into()),
        }
    }

    /// Puts it into an archive.
    pub(crate) fn add_to(&self, archive: &mut Archive) -> Result<()> {
        match &self.content {
            Content::File(path) => {
                let bytes = fs::read(path).with_context(|| format!("read {}", path.display()))?;
                archive.file(&self.path, self.mode, &bytes);
            }
            Content::Bytes(bytes) => archive.file(&self.path, self.mode, bytes),
        }
        Ok(())
    }

    /// All files of a folder (not of those below it) in a folder of the guest.
    pub fn folder(path: &str, source: &Path) -> Result<Vec<Self>> {
        let entries = fs::read_dir(source).with_context(|| format!("read {}", source.display()))?;
        Ok(entries
            .flatten()
            .filter(|entry| entry.path().is_file())
            .map(|entry| Self::copy(format!("{path}/{}", entry.file_name().to_string_lossy()), entry.path()))
            .collect())
    }
}

/// What came of it.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The command's exit code, as a shell tells it: 128 + signal if it was killed.
    pub exit_code: i32,
    /// What the command wrote to standard output and standard error.
    pub output: String,
    /// What the kernel wrote to its console: its messages, with their time stamps.
    pub console: String,
    /// From power-on to power-off.
    pub took: Duration,
}

impl Outcome {
    /// The output of a command that succeeded; an error with output and console of one that did not.
    pub fn success(self) -> Result<String> {
        if self.exit_code == 0 {
            return Ok(self.output);
        }
        bail!(
            "the command in the guest failed with exit code {}\n--- output\n{}\n--- console\n{}",
            self.exit_code,
            self.output,
            progress::tail(&self.console, CONSOLE_LINES)
        )
    }
}

/// Boots, runs and waits. A command that fails is an outcome; a guest that panics, hangs or ends without a verdict is
/// an error that carries the end of its console.
pub fn run(spec: &KernelVmSpec<'_>) -> Result<Outcome> {
    let folder = tempfile::Builder::new()
        .prefix("livepatch-kernel-vm-")
        .tempdir()
        .context("create a folder")?;
    let initrd = folder.path().join("initrd");
    let console = folder.path().join("console");
    let output = folder.path().join("output");
    fs::write(&initrd, archive(spec)?).with_context(|| format!("write {}", initrd.display()))?;
    let what = format!(
        "run {} on Linux {}",
        spec.command.first().map_or("nothing", String::as_str),
        spec.kernel.release()
    );
    progress::step(&what, || {
        let started = Instant::now();
        let mut qemu = Qemu::start(&Machine {
            name: "qemu",
            kernel: &spec.kernel.image(),
            initrd: &initrd,
            append: &format!("printk.time=1 loglevel=7 {}", spec.boot.parameters),
            memory: 512,
            processors: spec.boot.processors,
            console: &console,
            arguments: ["-serial", &format!("file:{}", output.display()), "-no-reboot"]
                .map(str::to_owned)
                .to_vec(),
        })?;
        let failure = wait(&mut qemu, started, spec.deadline)?;
        let console = qemu.console();
        let printed = String::from_utf8_lossy(&fs::read(&output).unwrap_or_default()).into_owned();
        // A verdict counts even if the guest did not manage to power off after it.
        if let Some((output, exit_code)) = verdict(&printed) {
            return Ok(Outcome {
                exit_code,
                output: output.to_owned(),
                console,
                took: started.elapsed(),
            });
        }
        bail!(
            "the guest {}\n--- output\n{}\n--- console\n{}",
            failure.unwrap_or_else(|| "ended without a verdict".to_owned()),
            progress::tail(&printed, CONSOLE_LINES),
            progress::tail(&console, CONSOLE_LINES)
        )
    })
}

/// Waits for the guest to power off; tells why it had to be killed, if so.
fn wait(qemu: &mut Qemu, started: Instant, deadline: Duration) -> Result<Option<String>> {
    loop {
        if let Some(status) = qemu.ended()? {
            if let Some(line) = qemu.fatal() {
                return Ok(Some(format!("ended, its kernel said: {line}")));
            }
            return Ok((!status.success()).then(|| format!("ended: qemu gave {status}")));
        }
        if let Some(line) = qemu.fatal() {
            // The lines after the first tell where it happened.
            thread::sleep(LOOK * 5);
            qemu.kill()?;
            return Ok(Some(format!("was killed, its kernel said: {line}")));
        }
        if started.elapsed() >= deadline {
            qemu.kill()?;
            return Ok(Some(format!("was killed after {}", progress::seconds(deadline))));
        }
        thread::sleep(LOOK);
    }
}

fn verdict(printed: &str) -> Option<(&str, i32)> {
    let (output, rest) = printed.rsplit_once(VERDICT)?;
    Some((output, rest.lines().next()?.trim().parse().ok()?))
}

fn archive(spec: &KernelVmSpec<'_>) -> Result<Vec<u8>> {
    debian::ensure_programs(Suite::Machine, &[("busybox", "busybox-static")])?;
    let busybox = debian::program_path("busybox").context("the package busybox-static brings no busybox")?;
    let mut archive = Archive::new();
    let busybox = fs::read(&busybox).with_context(|| format!("read {}", busybox.display()))?;
    archive.file("bin/busybox", 0o755, &busybox);
    for file in &spec.files {
        file.add_to(&mut archive)?;
    }
    for folder in ["proc", "sys", "tmp", "run", "var"] {
        archive.directory(folder);
    }
    archive.file("init", 0o755, init(&spec.command).as_bytes());
    Ok(archive.finish())
}

fn init(command: &[String]) -> String {
    let mut quoted = String::new();
    for argument in command {
        let _ = write!(quoted, " '{}'", argument.replace('\'', "'\\''"));
    }
    let verdict = VERDICT.trim_start();
    format!(
        "#!/bin/busybox sh\n\
         /bin/busybox --install -s /bin\n\
         export PATH=/bin HOME=/ RUST_BACKTRACE=1\n\
         mount -t proc proc /proc\n\
         mount -t sysfs sysfs /sys\n\
         mount -t devtmpfs devtmpfs /dev\n\
         mount -t tmpfs tmpfs /tmp\n\
         stty -F /dev/ttyS1 raw\n\
         cd /\n\
         (\n  {quoted} </dev/null\n  printf '\\n{verdict}%s\\n' $?\n) >/dev/ttyS1 2>&1\n\
         poweroff -f\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_verdict_counts_and_is_no_part_of_the_output() {
        let printed = format!("line{VERDICT}1\nmore{VERDICT}137\n");
        assert_eq!(verdict(&printed), Some((&*format!("line{VERDICT}1\nmore"), 137)));
        assert_eq!(verdict("line\n"), None);
        assert_eq!(verdict(&format!("line{VERDICT}")), None);
    }

    #[test]
    fn arguments_reach_the_guest_as_they_are() {
        assert!(init(&["echo".into(), "it's $HOME".into()]).contains(r"'echo' 'it'\''s $HOME'"));
    }
}
