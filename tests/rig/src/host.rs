//! Ports and processes of the machine the rig runs on.
//!
//! Does IO. Nothing outlives the test process: a port is released and a process killed when its value is dropped, and
//! the kernel does the same when the test process itself dies, however it dies.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{LazyLock, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};
use std::{hash, io};

use anyhow::{Context, Result, anyhow, bail};
use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;

use crate::progress;

/// Below Linux's default range for outgoing connections, so no connection takes one by accident.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// A TCP port of the loopback addresses, reserved among all processes that use the rig until it is dropped.
#[derive(Debug)]
pub struct Port {
    number: u16,
    /// Holding a name in the abstract socket namespace is a lock that the kernel releases with the process.
    _reservation: UnixListener,
}

impl Port {
    /// Reserves a port that nothing listens on.
    pub fn reserve() -> Result<Self> {
        let count = PORTS.end - PORTS.start;
        // A random start, so that two processes seldom try the same port at the same time.
        let random = hash::BuildHasher::hash_one(&hash::RandomState::new(), 0);
        let start = u16::try_from(random % u64::from(count))?;
        for step in 0..count {
            let number = PORTS.start + (start + step) % count;
            let name = SocketAddr::from_abstract_name(format!("livepatch-rig-port-{number}"))?;
            let Ok(reservation) = UnixListener::bind_addr(&name) else {
                continue;
            };
            if TcpListener::bind((Ipv4Addr::UNSPECIFIED, number)).is_ok() {
                return Ok(Self {
                    number,
                    _reservation: reservation,
                });
            }
        }
        bail!("no free port between {} and {}", PORTS.start, PORTS.end)
    }

    /// The port's number.
    pub fn number(&self) -> u16 {
        self.number
    }
}

type Spawned = mpsc::Sender<io::Result<Child>>;

/// Starts all processes. The kernel sends a child its parent-death signal when the *thread* that started it ends, and a
/// test's thread ends long before the control plane that it shares with other tests may.
static SPAWNER: LazyLock<Mutex<mpsc::Sender<(Command, Spawned)>>> = LazyLock::new(|| {
    let (sender, receiver) = mpsc::channel::<(Command, Spawned)>();
    thread::spawn(move || {
        for (mut command, spawned) in receiver {
            let _ = spawned.send(command.spawn());
        }
    });
    Mutex::new(sender)
});

/// Shell script that becomes its arguments if its parent is the process of the given id. The signal is not sent for a
/// parent that died before it was asked for.
pub(crate) const IF_PARENT: &str = r#"[ "$PPID" = "$0" ] && exec "$@""#;

/// Starts a command that gets `signal` when this process dies.
fn spawn_bound(command: &Command, signal: &str, stdio: [Stdio; 3]) -> io::Result<Child> {
    let mut bound = Command::new("setpriv");
    bound
        .args(["--pdeathsig", signal, "--", "sh", "-c", IF_PARENT])
        .arg(std::process::id().to_string())
        .arg(command.get_program())
        .args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => bound.env(name, value),
            None => bound.env_remove(name),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        bound.current_dir(folder);
    }
    let [input, output, errors] = stdio;
    bound.stdin(input).stdout(output).stderr(errors);
    let (sender, receiver) = mpsc::channel();
    let gone = || io::Error::other("the thread that starts processes is gone");
    SPAWNER
        .lock()
        .map_err(|_| gone())?
        .send((bound, sender))
        .map_err(|_| gone())?;
    receiver.recv().map_err(|_| gone())?
}

/// A long-running process whose output goes to a file.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a command; `log` is appended to. Program, arguments, environment and folder of `command` count, nothing
    /// else.
    pub fn start(name: &str, command: &Command, log: &Path) -> Result<Self> {
        let file = File::options()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("open the log {}", log.display()))?;
        let errors = file.try_clone().context("share the log file")?;
        let child = spawn_bound(command, "KILL", [Stdio::null(), file.into(), errors.into()])
            .with_context(|| format!("start {name}"))?;
        Ok(Self {
            name: name.to_owned(),
            child,
            log: log.to_owned(),
        })
    }

    /// What it was called when it was started.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The process id; also that of the program itself, as everything in between replaces itself by it.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The file its output goes to.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Its exit status if it has ended.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().with_context(|| format!("look at {}", self.name))
    }

    /// An error with the end of its log if it has ended.
    pub fn check_running(&mut self) -> Result<()> {
        match self.ended()? {
            None => Ok(()),
            Some(status) => {
                bail!(
                    "{} ended ({status}), its log ends:\n{}",
                    self.name,
                    progress::tail_of_file(&self.log, 20)
                )
            }
        }
    }

    /// Sends it a signal, such as `SIGSTOP`.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.child.id()).map_err(|_| anyhow!("{} has an odd process id", self.name))?;
        signal::kill(Pid::from_raw(pid), signal).with_context(|| format!("send {signal} to {}", self.name))
    }

    /// Asks it to end and waits; kills it if it has not ended after `grace`. Returns whether it ended by itself.
    pub fn stop(&mut self, grace: Duration) -> Result<bool> {
        if self.ended()?.is_some() {
            return Ok(true);
        }
        self.signal(Signal::SIGTERM)?;
        let asked = Instant::now();
        while asked.elapsed() < grace {
            if self.ended()?.is_some() {
                return Ok(true);
            }
            thread::sleep(Duration::from_millis(20));
        }
        self.kill()?;
        Ok(false)
    }

    /// Kills it at once and waits until it is gone.
    pub fn kill(&mut self) -> Result<()> {
        if self.ended()?.is_none() {
            self.child.kill().with_context(|| format!("kill {}", self.name))?;
            self.child.wait().with_context(|| format!("wait for {}", self.name))?;
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

/// A folder for one run of something. It is removed when the value is dropped or this process ends, unless
/// [`Folder::keep`] was called or the drop happens in a panic.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    /// Outlives this process by a moment and removes the folder when its standard input closes.
    janitor: Child,
}

/// Kept folders of failed runs go after a week.
const KEEP_FAILED: Duration = Duration::from_hours(7 * 24);

/// The folder's marker that it must be kept.
const KEEP: &str = "kept-after-failure";

impl Folder {
    /// Makes a folder `<cache>/run/<name>-<random>`.
    pub fn create(name: &str) -> Result<Self> {
        let runs = crate::cache::root()?.join("run");
        fs::create_dir_all(&runs).with_context(|| format!("create {}", runs.display()))?;
        remove_old(&runs);
        let path = tempfile::Builder::new()
            .prefix(&format!("{name}-"))
            .tempdir_in(&runs)
            .with_context(|| format!("create a folder in {}", runs.display()))?
            .keep();
        // Signals from the terminal reach the whole process group; the janitor must outlive those. What is killed with
        // this process may still write for an instant, hence the tries.
        let script = r#"trap '' HUP INT TERM; cat >/dev/null
            for try in 1 2 3 4 5 6 7 8 9 10; do
                [ -e "$1/kept-after-failure" ] && exit 0
                rm -rf -- "$1" 2>/dev/null && exit 0
                sleep 0.2
            done"#;
        let janitor = Command::new("sh")
            .args(["-c", script, "sh"])
            .arg(&path)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("start the janitor of a folder")?;
        Ok(Self { path, janitor })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A folder below it, made if it does not exist.
    pub fn subfolder(&self, name: &str) -> Result<PathBuf> {
        let path = self.path.join(name);
        fs::create_dir_all(&path).with_context(|| format!("create {}", path.display()))?;
        Ok(path)
    }

    /// Writes a file below it.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> Result<PathBuf> {
        let path = self.path.join(name);
        fs::write(&path, content).with_context(|| format!("write {}", path.display()))?;
        Ok(path)
    }

    /// Keeps it and says where it is.
    pub fn keep(&self) {
        let marker = self.path.join(KEEP);
        if !marker.exists() && File::create(&marker).is_ok() {
            progress::line(&format!("logs and data are kept in {}", self.path.display()));
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if thread::panicking() {
            self.keep();
        }
        drop(self.janitor.stdin.take());
        let _ = self.janitor.wait();
    }
}

/// Best effort: folders of failed runs that are older than a week.
fn remove_old(runs: &Path) {
    let Ok(entries) = fs::read_dir(runs) else { return };
    for entry in entries.flatten() {
        let kept = fs::metadata(entry.path().join(KEEP)).and_then(|marker| marker.modified());
        if kept.is_ok_and(|since| since.elapsed().is_ok_and(|age| age > KEEP_FAILED)) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_reserved_until_dropped() {
        let ports: Vec<Port> = (0..50).map(|_| Port::reserve().unwrap()).collect();
        let mut numbers: Vec<u16> = ports.iter().map(Port::number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), 50);
        for number in numbers {
            TcpListener::bind((Ipv4Addr::LOCALHOST, number)).unwrap();
        }
    }

    #[test]
    fn a_process_outlives_the_thread_that_started_it_and_not_its_value() {
        let folder = Folder::create("host-test").unwrap();
        let log = folder.path().join("log");
        let started = thread::spawn({
            let log = log.clone();
            move || {
                Process::start(
                    "sleeper",
                    Command::new("sh").args(["-c", "echo up; exec sleep 60"]),
                    &log,
                )
                .unwrap()
            }
        });
        let mut process = started.join().unwrap();
        thread::sleep(Duration::from_millis(300));
        process.check_running().unwrap();
        assert_eq!(fs::read_to_string(&log).unwrap(), "up\n");
        let own = PathBuf::from(format!("/proc/{}", process.id()));
        assert!(own.exists());
        drop(process);
        assert!(!own.exists());
        let path = folder.path().to_owned();
        drop(folder);
        assert!(!path.exists());
    }

    #[test]
    fn a_folder_is_kept_when_it_is_dropped_in_a_panic() {
        let path = thread::spawn(|| {
            let folder = Folder::create("host-test").unwrap();
            let path = folder.path().to_owned();
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
                let _folder = folder;
                panic!("on purpose");
            }));
            assert!(result.is_err());
            path
        })
        .join()
        .unwrap();
        assert!(path.exists());
        fs::remove_dir_all(path).unwrap();
    }
}
