//! What a test needs inside a guest: a sampler of /proc files, another time, and a stop at a write of the journal. IO.

use std::io::{self, Write as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Command, ExitCode};
use std::time::Duration;
use std::{env, fs, thread};

use nix::libc;
use nix::sched::{CloneFlags, unshare};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::sys::signal::{Signal, kill};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// How often the sampler tells that it lives.
const HEARTBEAT: f64 = 200.0;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["sample", interval, files @ ..] => sample(interval, files),
        ["later", seconds, program, arguments @ ..] => later(seconds, program, arguments),
        ["stop-at", count, folder, file, pid] => stop_at(count, folder, file, pid),
        _ => Err("usage: sample MS FILE… | later SECONDS PROGRAM… | stop-at COUNT FOLDER FILE PID".into()),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("hybrid-guest: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Milliseconds of `CLOCK_BOOTTIME`.
fn now() -> Result<f64> {
    Ok(Duration::from(clock_gettime(ClockId::CLOCK_BOOTTIME)?).as_secs_f64() * 1000.0)
}

/// Prints `BEFORE AFTER FILE MARKER` when a file shows another livepatch than at the look before: the time when the look
/// before was begun, and the time when this one was done. What they tell of lasted no longer than the times say, however
/// long this process waits for its turn. Prints `NOW - WORST` now and then: the longest time between two rounds of looks
/// since the last such line.
fn sample(interval: &str, files: &[&str]) -> Result<ExitCode> {
    let interval = Duration::from_millis(interval.parse()?);
    let mut out = io::stdout().lock();
    let mut seen: Vec<(f64, Option<String>)> = vec![(now()?, None); files.len()];
    let (mut before, mut worst) = (now()?, 0.0_f64);
    let mut told = before;
    loop {
        let this = now()?;
        for (file, (begun, seen)) in files.iter().zip(&mut seen) {
            let begins = now()?;
            let marker = marker(&fs::read_to_string(file).unwrap_or_default());
            if seen.as_ref() != Some(&marker) {
                let done = now()?;
                writeln!(out, "{begun:.3} {done:.3} {file} {marker}")?;
                *seen = Some(marker);
            }
            *begun = begins;
        }
        worst = worst.max(this - before);
        if this - told >= HEARTBEAT {
            writeln!(out, "{this:.3} - {worst:.3}")?;
            (told, worst) = (this, 0.0);
        }
        out.flush()?;
        before = this;
        thread::sleep(interval);
    }
}

/// The livepatch that a file tells of, `-` if it tells of none.
fn marker(text: &str) -> String {
    let marker = text.lines().find_map(|line| line.strip_prefix("livepatch: "));
    marker.unwrap_or("-").to_owned()
}

/// Runs a program that sees `CLOCK_BOOTTIME` so many seconds ahead, as if it had been running for longer.
fn later(seconds: &str, program: &str, arguments: &[&str]) -> Result<ExitCode> {
    /// `CLONE_NEWTIME` of linux/sched.h; it takes effect for children.
    const NEW_TIME: libc::c_int = 0x80;
    let seconds: u64 = seconds.parse()?;
    if seconds > 0 {
        unshare(CloneFlags::from_bits_retain(NEW_TIME))?;
        fs::write("/proc/self/timens_offsets", format!("boottime {seconds} 0"))?;
    }
    let mut command = Command::new(program);
    command.args(arguments);
    // SAFETY: the hook does nothing. With one, the child is forked; without, it would share this one's memory until it is
    // another program, which a child in another time must not (kernel/nsproxy.c, 6.1: EINVAL).
    unsafe { command.pre_exec(|| Ok(())) };
    let status = command.status()?;
    let code = status.code().or_else(|| Some(128 + status.signal()?)).unwrap_or(1);
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)))
}

/// Stops a process in the system call with which it puts a file into a folder for the `count`th time, and prints each.
///
/// The guest has one processor: with a real-time priority this process runs as soon as the rename is done, before the
/// other one is back from its call.
fn stop_at(count: &str, folder: &str, file: &str, pid: &str) -> Result<ExitCode> {
    let (count, pid) = (count.parse::<u32>()?, Pid::from_raw(pid.parse()?));
    be_first()?;
    let inotify = Inotify::init(InitFlags::empty())?;
    inotify.add_watch(folder, AddWatchFlags::IN_MOVED_TO)?;
    println!("ready");
    let mut seen = 0;
    loop {
        for event in inotify.read_events()? {
            if event.name.as_deref() != Some(file.as_ref()) {
                continue;
            }
            seen += 1;
            if seen == count {
                kill(pid, Signal::SIGSTOP)?;
            }
            println!("{seen} {}", fs::read_to_string(format!("{folder}/{file}"))?);
            if seen == count {
                println!("stopped");
                return Ok(ExitCode::SUCCESS);
            }
        }
    }
}

/// Before everything without a real-time priority.
fn be_first() -> Result<()> {
    let parameter = libc::sched_param { sched_priority: 50 };
    // SAFETY: the pointer is to a value that lives for the call, which keeps nothing of it.
    if unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const parameter) } != 0 {
        return Err(io::Error::last_os_error().into());
    }
    Ok(())
}
