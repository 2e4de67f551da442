//! `test-syscall.sh`: a system call is patched while every processor makes it.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use livepatch_tests_kernel::guest_lab::GuestLab;
use livepatch_tests_kernel::lab::Lab;

use super::loaded;

const CALLERS: usize = 3;
const STOP: &str = "/tmp/stop";

/// One caller: asks for its own number again and again, and expects the same answer.
#[test]
#[ignore = "runs in the guest, several at a time"]
fn caller() {
    let own = std::process::id();
    let stop = Path::new(STOP);
    while !stop.exists() {
        for _ in 0..2000 {
            assert_eq!(std::process::id(), own);
        }
    }
}

fn calls() -> u32 {
    let text = fs::read_to_string("/sys/module/lp_getpid/parameters/calls").unwrap();
    text.trim().parse().unwrap()
}

pub(super) fn a_system_call_under_load(guest: &GuestLab) {
    let _ = fs::remove_file(STOP);
    let program = std::env::current_exe().unwrap();
    let callers: Vec<Child> = (0..CALLERS)
        .map(|_| {
            Command::new(&program)
                .args(["--ignored", "--exact", "stress::caller"])
                .stdout(Stdio::null())
                .spawn()
                .unwrap()
        })
        .collect();
    thread::sleep(Duration::from_millis(300));
    let lab: &dyn Lab = guest;
    loaded(guest, "lp_getpid", "");
    let before = calls();
    lab.eventually("callers run the patched function", || calls() > before + 1000);
    lab.disabled("lp_getpid");
    let after = calls();
    lab.kernel().sleep(Duration::from_millis(200));
    assert_eq!(calls(), after, "nobody runs it after the end");
    lab.unloaded("lp_getpid");
    fs::write(STOP, "").unwrap();
    for mut child in callers {
        assert!(child.wait().unwrap().success());
    }
}
