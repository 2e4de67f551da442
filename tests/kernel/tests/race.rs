//! The race of a cancel against the completion of what it cancels, on real kernels: never less than before or after.
//!
//! The operation cancels only what it has proof for, which makes a lost race too rare to be tested. So it is lied to: a
//! kernel that claims a stuck task always, and that skips the second between two samples, makes it write at any moment
//! of the transition. What it does about the races it loses is the real thing on the real kernel.

#![expect(clippy::unwrap_used, reason = "test code fails by panicking")]

mod guest;

use std::collections::BTreeSet;
use std::ffi::CStr;
use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use guest::Run;
use livepatch_kernel::operation::{Load, LoadOutcome, OnTimeout, Repair, RepairMeans, run};
use livepatch_kernel::symbols::{SymbolCounts, TracedFunction};
use livepatch_kernel::{
    BootId, BootTime, CallError, Identity, Kernel, KernelError, KernelLog, Livepatch, LoadedModule, LogMark,
    PendingLoad, Policy, Seen, Standing, Straggler, Stragglers, Taints,
};
use livepatch_rig::kernels::Series;
use livepatch_tests_kernel::guest_lab::GuestLab;
use livepatch_tests_kernel::lab::{Lab, ProcFile};

/// Waits from this on are skipped, all but a hundredth.
const LONG: Duration = Duration::from_millis(100);

/// A kernel that claims that a task is always stuck, and is in a hurry.
struct Hasty<'a>(&'a dyn Kernel, AtomicU64);

fn imaginary() -> Straggler {
    Straggler {
        pid: 1,
        tid: 1,
        comm: "imaginary".into(),
        pod_uid: None,
        stack: Seen::unknown("imaginary"),
    }
}

impl Kernel for Hasty<'_> {
    fn identity(&self) -> Result<Identity, KernelError> {
        self.0.identity()
    }
    fn boot_id(&self) -> Result<BootId, KernelError> {
        self.0.boot_id()
    }
    fn now(&self) -> BootTime {
        self.0.now() + Duration::from_nanos(self.1.load(Ordering::Relaxed))
    }
    fn sleep(&self, span: Duration) {
        if span < LONG {
            return self.0.sleep(span);
        }
        self.0.sleep(span / 100);
        let skipped = u64::try_from(span.as_nanos()).unwrap() / 100 * 99;
        self.1.fetch_add(skipped, Ordering::Relaxed);
    }
    fn taints(&self) -> Result<Taints, KernelError> {
        self.0.taints()
    }
    fn policy(&self) -> Policy {
        self.0.policy()
    }
    fn livepatches(&self) -> Result<Vec<Livepatch>, KernelError> {
        self.0.livepatches()
    }
    fn standing(&self, name: &str) -> Result<Option<Standing>, KernelError> {
        self.0.standing(name)
    }
    fn in_transition(&self) -> Result<Option<String>, KernelError> {
        self.0.in_transition()
    }
    fn module(&self, name: &str) -> Result<Option<LoadedModule>, KernelError> {
        self.0.module(name)
    }
    fn leftovers(&self) -> Result<Vec<LoadedModule>, KernelError> {
        self.0.leftovers()
    }
    fn start_load(&self, name: &str, image: &[u8], parameters: &CStr) -> Result<Box<dyn PendingLoad>, CallError> {
        self.0.start_load(name, image, parameters)
    }
    fn set_enabled(&self, name: &str, enabled: bool) -> Result<(), CallError> {
        self.0.set_enabled(name, enabled)
    }
    fn delete_module(&self, name: &str) -> Result<(), CallError> {
        self.0.delete_module(name)
    }
    fn stragglers(&self, _target: bool, _limit: usize) -> Seen<Stragglers> {
        Seen::Known(Stragglers {
            seen: 1,
            listed: vec![imaginary()],
            unreadable: 0,
            complete: true,
        })
    }
    fn straggles(&self, _task: &Straggler, _target: bool) -> Seen<bool> {
        Seen::Known(true)
    }
    fn symbols(&self, wanted: &[(&str, &str)]) -> Seen<SymbolCounts> {
        self.0.symbols(wanted)
    }
    fn module_files(&self, names: &[&str]) -> Seen<BTreeSet<String>> {
        self.0.module_files(names)
    }
    fn traced_functions(&self) -> Seen<Vec<TracedFunction>> {
        self.0.traced_functions()
    }
    fn log_mark(&self) -> LogMark {
        self.0.log_mark()
    }
    fn log_since(&self, mark: &LogMark) -> KernelLog {
        self.0.log_since(mark)
    }
}

const INCUMBENT: &str = "lp_cumulative_v1";

/// Numbers without a pattern, the same in each run (a linear congruential generator).
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

#[derive(Debug, Default)]
struct Tally {
    completed: u32,
    cancelled: u32,
    reversed: u32,
    loaded_again: u32,
    late: u32,
    longest_gap: Duration,
}

fn wake_up() {
    fs::write("/proc/lp_sleeper", "wake up").unwrap();
}

impl Tally {
    fn count(&mut self, repair: Option<&Repair>) {
        let Some(repair) = repair else {
            self.completed += 1;
            return;
        };
        self.longest_gap = self.longest_gap.max(repair.gap);
        match repair.means {
            RepairMeans::Reversed => self.reversed += 1,
            RepairMeans::LoadedAgain => self.loaded_again += 1,
        }
    }
}

/// A cumulative is to be replaced by another, whose transition a task holds up until it is woken at any moment around
/// the write that takes it back. Whatever comes of it, exactly one of the two is active afterwards.
#[test]
#[ignore = "runs in the guest of the tests below"]
fn in_the_guest() {
    let tries: u32 = std::env::var("TRIES").unwrap().parse().unwrap();
    let guest = GuestLab::open();
    let lab: &dyn Lab = &guest;
    let hasty = Hasty(lab.kernel(), AtomicU64::new(0));
    let mut chance = Chance(42);
    let mut tally = Tally::default();
    lab.put_to_sleep();
    wake_up();
    lab.loaded(INCUMBENT);
    for round in 0..tries {
        // Without a sleeper the transition ends at once, and a write hits the moment when its end is decided and not
        // yet to be seen.
        let stalled = chance.below(2) > 0;
        let newcomer = if stalled {
            "lp_cumulative_stalling"
        } else {
            "lp_cumulative_v3"
        };
        if stalled {
            lab.put_to_sleep();
        }
        let mut request = lab.request(newcomer, Duration::ZERO, OnTimeout::Revert);
        request.deadline = hasty.now() + Duration::from_millis(chance.below(if stalled { 50 } else { 100 }));
        let asleep = Duration::from_millis(if stalled { chance.below(250) } else { 0 });
        let waker = thread::spawn(move || {
            thread::sleep(asleep);
            wake_up();
        });
        let outcome = run(&mut Load::new(request), &hasty, |_| ());
        waker.join().unwrap();
        let active = match &outcome {
            LoadOutcome::Loaded(loaded) => {
                assert_eq!(loaded.replaced, [INCUMBENT], "round {round}");
                tally.count(loaded.repair.as_ref());
                newcomer
            }
            LoadOutcome::Reverted { .. } => {
                tally.cancelled += 1;
                INCUMBENT
            }
            // On a starved host a call may take longer than it is waited for. What it does is looked for later.
            LoadOutcome::CallNotReturned => {
                tally.late += 1;
                lab.eventually("the call comes to its end", || lab.active() == [newcomer]);
                newcomer
            }
            other => panic!("round {round}: {other:?}, {tally:?}"),
        };
        assert_eq!(lab.active(), [active], "round {round}: {outcome:?}");
        let shown = lab.effective(ProcFile::Version);
        assert_eq!(shown.as_deref(), Some(active), "round {round}: {outcome:?}");
        lab.wake();
        if active == newcomer {
            lab.loaded(INCUMBENT);
        }
        if round % 20 == 19 {
            println!("{} tries: {tally:?}", round + 1);
        }
    }
    println!("{tries} tries: {tally:?}");
    // How many races are lost depends on the machine; that there are two ends does not.
    assert!(tally.cancelled > 0 && tally.cancelled < tries, "no race: {tally:?}");
}

fn run_on(series: Series, tries: u32, deadline: Duration) {
    let mut run = Run::of("race");
    run.environment = vec![format!("TRIES={tries}")];
    run.deadline = deadline;
    run.on(series);
}

#[test]
fn a_lost_race_loses_nothing_on_6_1() {
    run_on(Series::Linux6_1, 40, Duration::from_mins(15));
}

#[test]
fn a_lost_race_loses_nothing_on_6_12() {
    run_on(Series::Linux6_12, 40, Duration::from_mins(15));
}

#[test]
#[ignore = "takes many minutes"]
fn long_a_thousand_races_on_6_1() {
    run_on(Series::Linux6_1, 1000, Duration::from_hours(1));
}

#[test]
#[ignore = "takes many minutes"]
fn long_a_thousand_races_on_6_12() {
    run_on(Series::Linux6_12, 1000, Duration::from_hours(2));
}
