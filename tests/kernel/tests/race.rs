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
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
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

/// Waits from this on are skipped, all but a hundredth; shorter ones are cut short.
const LONG: Duration = Duration::from_millis(100);

/// A little more than lies between two samples.
const SECOND: Duration = Duration::from_millis(1100);

/// A kernel that claims that a task is always stuck, and is in a hurry.
struct Hasty<'a> {
    real: &'a dyn Kernel,
    /// Nanoseconds that were skipped.
    skipped: AtomicU64,
    /// A sample of tasks was taken: the second until the next one is over with the next wait.
    sampled: AtomicBool,
}

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
        self.real.identity()
    }
    fn boot_id(&self) -> Result<BootId, KernelError> {
        self.real.boot_id()
    }
    fn now(&self) -> BootTime {
        self.real.now() + Duration::from_nanos(self.skipped.load(Ordering::Relaxed))
    }
    fn sleep(&self, span: Duration) {
        if span < LONG {
            return self.real.sleep(span / 10);
        }
        self.real.sleep(span / 100);
        let span = if self.sampled.swap(false, Ordering::Relaxed) {
            SECOND
        } else {
            span
        };
        let skipped = u64::try_from(span.as_nanos()).unwrap() / 100 * 99;
        self.skipped.fetch_add(skipped, Ordering::Relaxed);
    }
    fn taints(&self) -> Result<Taints, KernelError> {
        self.real.taints()
    }
    fn policy(&self) -> Policy {
        self.real.policy()
    }
    fn livepatches(&self) -> Result<Vec<Livepatch>, KernelError> {
        self.real.livepatches()
    }
    fn standing(&self, name: &str) -> Result<Option<Standing>, KernelError> {
        self.real.standing(name)
    }
    fn in_transition(&self) -> Result<Option<String>, KernelError> {
        self.real.in_transition()
    }
    fn module(&self, name: &str) -> Result<Option<LoadedModule>, KernelError> {
        self.real.module(name)
    }
    fn leftovers(&self) -> Result<Vec<LoadedModule>, KernelError> {
        self.real.leftovers()
    }
    fn start_load(&self, name: &str, image: &[u8], parameters: &CStr) -> Result<Box<dyn PendingLoad>, CallError> {
        self.real.start_load(name, image, parameters)
    }
    fn set_enabled(&self, name: &str, enabled: bool) -> Result<(), CallError> {
        self.real.set_enabled(name, enabled)
    }
    fn delete_module(&self, name: &str) -> Result<(), CallError> {
        self.real.delete_module(name)
    }
    fn stragglers(&self, _target: bool, _limit: usize) -> Seen<Stragglers> {
        self.sampled.store(true, Ordering::Relaxed);
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
        self.real.symbols(wanted)
    }
    fn module_files(&self, names: &[&str]) -> Seen<BTreeSet<String>> {
        self.real.module_files(names)
    }
    fn traced_functions(&self) -> Seen<Vec<TracedFunction>> {
        self.real.traced_functions()
    }
    fn log_mark(&self) -> LogMark {
        self.real.log_mark()
    }
    fn log_since(&self, mark: &LogMark) -> KernelLog {
        self.real.log_since(mark)
    }
}

const INCUMBENT: &str = "lp_cumulative_v1";

/// Numbers without a pattern, the same in each run (a linear congruential generator).
struct Chance(u64);

/// When to begin to cancel, in microseconds from the start of a round: kept where one write in two comes too late, for
/// that is where the race is, on a host of any speed.
#[derive(Debug)]
struct Aim {
    micros: u64,
    /// How far it moves from round to round, at most.
    stride: u64,
    was_early: bool,
}

impl Aim {
    const STRIDE: std::ops::RangeInclusive<u64> = 1_000..=300_000;

    fn at(micros: u64) -> Self {
        Self {
            micros,
            stride: micros,
            was_early: false,
        }
    }

    fn learn(&mut self, chance: &mut Chance, early: bool) {
        let stride = if early == self.was_early {
            self.stride * 3 / 2
        } else {
            self.stride / 2
        };
        self.stride = stride.clamp(*Self::STRIDE.start(), *Self::STRIDE.end());
        self.was_early = early;
        let by = chance.below(self.stride);
        self.micros = if early {
            self.micros + by
        } else {
            self.micros.saturating_sub(by)
        };
    }
}

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

/// Comes before a guest's counts in its output.
const COUNTS: &str = "counts: ";

/// Waits until the kernel's own second is three tenths over. It tries to complete a transition on the first whole second
/// that is three quarters of a second or more away, so from here on that is the same one for all that takes less than
/// nine tenths.
fn three_tenths() {
    /// Ticks in a second of Debian's kernels.
    const HZ: u64 = 250;
    let timers = fs::read_to_string("/proc/timer_list").unwrap();
    let ticks: u64 = timers
        .lines()
        .find_map(|line| line.trim().strip_prefix("jiffies: "))
        .unwrap()
        .parse()
        .unwrap();
    let wait = (HZ + HZ * 3 / 10 - ticks % HZ) % HZ;
    thread::sleep(Duration::from_millis(wait * 1000 / HZ));
}

/// Seconds since the boot, and those of them that the processor was idle.
fn uptime() -> (f64, f64) {
    let text = fs::read_to_string("/proc/uptime").unwrap();
    let (all, idle) = text.trim().split_once(' ').unwrap();
    (all.parse().unwrap(), idle.parse().unwrap())
}

fn wake_up() {
    fs::write("/proc/lp_sleeper", "wake up").unwrap();
}

impl Tally {
    /// How many of the newcomers were not taken back.
    fn stood(&self) -> u32 {
        self.completed + self.reversed + self.loaded_again + self.late
    }

    /// In the order of the fields, the gap in milliseconds.
    fn line(&self) -> String {
        let gap = u32::try_from(self.longest_gap.as_millis()).unwrap();
        let counts = [
            self.completed,
            self.cancelled,
            self.reversed,
            self.loaded_again,
            self.late,
            gap,
        ];
        COUNTS.to_owned() + &counts.map(|count| count.to_string()).join(" ")
    }

    fn add_line(&mut self, output: &str) {
        let (_, line) = output.rsplit_once(COUNTS).unwrap();
        let counts = line
            .lines()
            .next()
            .unwrap()
            .split(' ')
            .map(|count| count.parse().unwrap());
        let counts: Vec<u32> = counts.collect();
        let [completed, cancelled, reversed, loaded_again, late, gap] = counts.try_into().unwrap();
        self.completed += completed;
        self.cancelled += cancelled;
        self.reversed += reversed;
        self.loaded_again += loaded_again;
        self.late += late;
        self.longest_gap = self.longest_gap.max(Duration::from_millis(gap.into()));
    }

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

/// Wakes the sleepers some time after the transition of a livepatch has begun.
fn wake_later(newcomer: &str, after: Duration) {
    let transition = format!("/sys/kernel/livepatch/{newcomer}/transition");
    for _ in 0..3000 {
        if fs::exists(&transition).unwrap() {
            break;
        }
        thread::sleep(Duration::from_millis(10));
    }
    thread::sleep(after);
    wake_up();
}

/// A cumulative is to be replaced by another, and that is taken back at a moment near its completion. Every other time a
/// task holds the transition up and is woken meanwhile, so that the kernel completes it on its next try; else it ends
/// when the call does. Whatever comes of it, exactly one of the two is active afterwards.
#[test]
#[ignore = "runs in the guest of the tests below"]
fn in_the_guest() {
    let number = |name: &str| std::env::var(name).unwrap().parse::<u32>().unwrap();
    let tries = number("TRIES");
    let guest = GuestLab::open();
    let lab: &dyn Lab = &guest;
    let hasty = Hasty {
        real: lab.kernel(),
        skipped: AtomicU64::new(0),
        sampled: AtomicBool::new(false),
    };
    let mut chance = Chance(number("SEED").into());
    let mut aims = [Aim::at(50_000), Aim::at(1_000_000)];
    let mut tally = Tally::default();
    lab.put_to_sleep();
    wake_up();
    lab.loaded(INCUMBENT);
    // How many races are lost depends on the machine; that there are two ends does not, if only one waits for both.
    for round in 0..3 * tries {
        if round >= tries && tally.cancelled > 0 && tally.stood() > 0 {
            break;
        }
        let stalled = round % 2 > 0;
        // Now and then at any moment, with the leftover of the round before in the way.
        let aimed = chance.below(4) > 0;
        let newcomer = if stalled {
            "lp_cumulative_stalling"
        } else {
            "lp_cumulative_v3"
        };
        if stalled {
            lab.put_to_sleep();
        }
        if aimed {
            if lab.leftovers().iter().any(|name| name == newcomer) {
                lab.unloaded(newcomer);
            }
            three_tenths();
        }
        let aim = &mut aims[usize::from(stalled)];
        let limit = aim.micros * 2 + 50_000;
        let micros = if aimed { aim.micros } else { chance.below(limit) };
        let mut request = lab.request(newcomer, Duration::ZERO, OnTimeout::Revert);
        request.deadline = hasty.now() + Duration::from_micros(micros);
        let asleep = Duration::from_millis(chance.below(250));
        let waker = thread::spawn(move || wake_later(newcomer, asleep));
        let outcome = run(&mut Load::new(request), &hasty, |_| ());
        waker.join().unwrap();
        let active = match &outcome {
            LoadOutcome::Loaded(loaded) => {
                assert_eq!(loaded.replaced, [INCUMBENT], "round {round}");
                tally.count(loaded.repair.as_ref());
                if aimed && loaded.repair.is_none() {
                    aim.learn(&mut chance, false);
                }
                newcomer
            }
            LoadOutcome::Reverted { .. } => {
                tally.cancelled += 1;
                if aimed {
                    aim.learn(&mut chance, true);
                }
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
            let (all, idle) = uptime();
            println!("{} tries: {tally:?}, {aims:?}, {all:.0} s, idle {idle:.0} s", round + 1);
        }
    }
    println!("{}", tally.line());
    assert!(tally.cancelled > 0 && tally.stood() > 0, "no race: {tally:?}");
}

/// The rounds are shared out among guests side by side: for a part of each round a guest waits for its kernel's clock.
fn run_on(series: Series, guests: u32, tries: u32, deadline: Duration) -> Tally {
    let outputs: Vec<String> = thread::scope(|scope| {
        let guests: Vec<_> = (0..guests)
            .map(|guest| {
                scope.spawn(move || {
                    let mut run = Run::of("race");
                    run.environment = vec![format!("TRIES={}", tries / guests), format!("SEED={}", 42 + guest)];
                    run.deadline = deadline;
                    run.on(series)
                })
            })
            .collect();
        guests.into_iter().map(|guest| guest.join().unwrap()).collect()
    });
    let mut tally = Tally::default();
    for output in &outputs {
        tally.add_line(output);
    }
    println!("{tries} tries on Linux {series}: {tally:?}");
    tally
}

/// So many that some are lost, on any machine.
fn a_thousand_on(series: Series) {
    let tally = run_on(series, 4, 1000, Duration::from_hours(2));
    assert!(tally.reversed + tally.loaded_again > 0, "no race was lost");
}

#[test]
fn a_lost_race_loses_nothing_on_6_1() {
    run_on(Series::Linux6_1, 1, 40, Duration::from_mins(15));
}

#[test]
fn a_lost_race_loses_nothing_on_6_12() {
    run_on(Series::Linux6_12, 1, 40, Duration::from_mins(15));
}

#[test]
#[ignore = "takes many minutes"]
fn long_a_thousand_races_on_6_1() {
    a_thousand_on(Series::Linux6_1);
}

#[test]
#[ignore = "takes many minutes"]
fn long_a_thousand_races_on_6_12() {
    a_thousand_on(Series::Linux6_12);
}
