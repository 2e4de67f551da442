//! Experiments that no other case repeats: writes, the kernel's own timing, identity, and what an ordinary tool does.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use livepatch_kernel::RefusalReason;
use livepatch_kernel::operation::{Load, LoadOutcome, OnTimeout, Operation as _, Step, run};
use livepatch_tests_kernel::guest_lab::GuestLab;
use livepatch_tests_kernel::lab::Lab;
use nix::errno::Errno;

use super::{gone, refused};

fn write(file: &str, text: &str) -> Result<(), Errno> {
    fs::write(format!("/sys/kernel/livepatch/lp_offband_v1/{file}"), text)
        .map_err(|error| Errno::from_raw(error.raw_os_error().unwrap()))
}

/// Experiment 5, the part that no product code can do: garbage, and `force` outside a transition.
pub(super) fn other_writes(guest: &GuestLab) {
    let lab: &dyn Lab = guest;
    lab.loaded("lp_offband_v1");
    assert_eq!(write("enabled", "1"), Err(Errno::EINVAL));
    assert_eq!(write("enabled", "perhaps"), Err(Errno::EINVAL));
    assert_eq!(write("force", "1"), Err(Errno::EINVAL));
    assert_eq!(write("force", "perhaps"), Err(Errno::EINVAL));
    assert_eq!(write("force", "0"), Ok(()));
    assert_eq!(lab.active(), ["lp_offband_v1"]);
    gone(lab, "lp_offband_v1");
}

/// The lines of the kernel log from the last one on that contains a text.
fn log_from(text: &str) -> Vec<String> {
    let log = Command::new("/bin/dmesg").output().unwrap();
    let log = String::from_utf8_lossy(&log.stdout).into_owned();
    let lines: Vec<&str> = log.lines().collect();
    let first = lines.iter().rposition(|line| line.contains(text)).unwrap();
    lines[first..].iter().map(|line| (*line).to_owned()).collect()
}

/// Seconds since boot of a line of the kernel log.
fn time(line: &str) -> Option<f64> {
    line.split_once('[')?.1.split_once(']')?.0.trim().parse().ok()
}

/// Experiment 10: the kernel tries a stuck task each second, signals it at the sixteenth try and says so once, and takes
/// the load back within a second or two. It counts its tries, not the time: `klp_try_complete_transition()` signals when
/// `klp_signals_cnt`, 0 at the first try, is a multiple of `SIGNALS_TIMEOUT`, 15 (kernel/livepatch/transition.c, 5.1-7.2).
pub(super) fn a_stuck_task_is_tried_each_second_and_signalled_at_the_sixteenth_try(guest: &GuestLab) {
    let lab: &dyn Lab = guest;
    let _ = Command::new("/bin/mount")
        .args(["-t", "debugfs", "debugfs", "/sys/kernel/debug"])
        .status();
    let control = "/sys/kernel/debug/dynamic_debug/control";
    fs::write(control, "func klp_try_switch_task +p").unwrap();
    let pid = lab.put_to_sleep();
    let mut begun = lab.begun("lp_stalling", Duration::from_mins(5), OnTimeout::Wait);
    // The transition is to be seen a moment before the kernel logs its beginning.
    lab.kernel().sleep(Duration::from_secs(2));
    let begins = "'lp_stalling': starting patching transition";
    let signals = |line: &&String| line.contains("signaling remaining tasks");
    lab.eventually("the kernel signals", || {
        log_from(begins).iter().any(|line| signals(&line))
    });
    lab.kernel().sleep(Duration::from_secs(2));
    fs::write(control, "func klp_try_switch_task -p").unwrap();
    begun.interrupt();
    let interrupted = Instant::now();
    let outcome = run(&mut begun, lab.kernel(), |_| ());
    let took = interrupted.elapsed();
    assert!(
        matches!(outcome, LoadOutcome::Reverted { leftover: false, .. }),
        "{outcome:?}"
    );
    let log = log_from(begins);
    let tried = |line: &&String| line.contains(&format!("klp_try_switch_task: cat:{pid} "));
    let before = log.iter().take_while(|line| !signals(line)).filter(tried).count();
    let times: Vec<f64> = log.iter().filter(tried).filter_map(|line| time(line)).collect();
    let mut gaps: Vec<f64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    gaps.sort_by(f64::total_cmp);
    let usual = gaps[gaps.len() / 2];
    println!("{before} tries before the signal, {usual:.2} s apart; taken back in {took:?}");
    assert_eq!(before, 16, "{log:#?}");
    assert!((0.8..1.3).contains(&usual), "{gaps:?}");
    assert_eq!(log.iter().filter(signals).count(), 1, "{log:#?}");
}

/// Experiment 17.
pub(super) fn identity_of_what_is_loaded(guest: &GuestLab) {
    let lab: &dyn Lab = guest;
    lab.loaded("lp_cumulative_v1");
    let attribute = |name: &str| fs::read_to_string(format!("/sys/module/lp_cumulative_v1/{name}")).unwrap();
    assert_eq!(attribute("taint").trim(), "OEK");
    assert_eq!(attribute("initstate").trim(), "live");
    let taints = lab.kernel().taints().unwrap().to_string();
    assert!(["O", "E", "K"].iter().all(|letter| taints.contains(letter)), "{taints}");
    let notes = fs::read("/sys/module/lp_cumulative_v1/notes/.note.gnu.build-id").unwrap();
    let own = lab.module("lp_cumulative_v1").build_id.unwrap();
    assert!(notes.ends_with(&bytes(own.as_str())));
    // The kernel has several notes, of other owners first; its build id is the one of owner GNU and type 3.
    let notes = fs::read("/sys/kernel/notes").unwrap();
    let header = [
        &4_u32.to_le_bytes()[..],
        &20_u32.to_le_bytes(),
        &3_u32.to_le_bytes(),
        b"GNU\0",
    ]
    .concat();
    let place = notes.windows(header.len()).position(|window| window == header).unwrap();
    assert!(place > 0);
    let build_id = lab.kernel().identity().unwrap().build_id.unwrap();
    assert_eq!(bytes(build_id.as_str()), notes[place + header.len()..][..20]);
    gone(lab, "lp_cumulative_v1");
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len())
        .step_by(2)
        .map(|place| u8::from_str_radix(&hex[place..place + 2], 16).unwrap())
        .collect()
}

/// Experiment 18: what an ordinary tool does twice is done once here.
pub(super) fn one_call_one_message(guest: &GuestLab) {
    let lab: &dyn Lab = guest;
    let messages = |script: &dyn Fn()| {
        let mark = lab.kernel().log_mark();
        script();
        let story = guest.story(&mark);
        story
            .iter()
            .filter(|line| line.contains("not found in symbol table"))
            .count()
    };
    let ours = messages(&|| {
        assert_eq!(
            refused(lab, "lp_unknown_symbol", "").reason,
            RefusalReason::SymbolNotFound
        );
    });
    let busybox = messages(&|| {
        let status = Command::new("/bin/insmod")
            .arg("/modules/lp_unknown_symbol.ko")
            .status();
        assert!(!status.unwrap().success());
    });
    assert_eq!((ours, busybox), (1, 2));
}

/// Experiment 14: on an idle machine with two processors every task that can be seen has switched, and the transition
/// goes on, for the idle tasks cannot be seen.
pub(super) fn no_blocker_visible_is_not_the_end(guest: &GuestLab) {
    let lab: &dyn Lab = guest;
    let (mut unseen, mut looks) = (0, 0);
    // A third of the loads on 6.1 end at the kernel's first try, when the other processor happens to be where its idle
    // task can be switched: there is nothing to look at then.
    for _ in 0..30 {
        let started = Instant::now();
        let mut load = Load::new(lab.request("lp_offband_v1", Duration::from_mins(4), OnTimeout::Revert));
        let outcome = loop {
            match load.step(lab.kernel()) {
                Step::Done(outcome) => break outcome,
                Step::Wait(span) => lab.kernel().sleep(span.min(Duration::from_millis(20))),
            }
            if lab.kernel().in_transition().unwrap().is_some() {
                let stragglers = lab.kernel().stragglers(true, 1).into_known().unwrap();
                // Asked again: the transition may have ended during the look.
                if lab.kernel().in_transition().unwrap().is_some() {
                    looks += 1;
                    unseen += u32::from(stragglers.seen == 0 && stragglers.complete);
                }
            }
        };
        assert!(matches!(outcome, LoadOutcome::Loaded(_)), "{outcome:?}");
        println!(
            "loaded in {:?}; {unseen} of {looks} looks saw no task",
            started.elapsed()
        );
        gone(lab, "lp_offband_v1");
        if unseen > 0 {
            return;
        }
    }
    panic!("{unseen} of {looks}");
}
