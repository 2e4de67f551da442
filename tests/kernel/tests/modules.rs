//! What the test modules do to a kernel, seen by busybox alone: the ground the other tests stand on.

use std::time::Duration;

use anyhow::Result;
use livepatch_rig::kernel_vm::{self, Boot, GuestFile, KernelVmSpec, Outcome};
use livepatch_rig::kernels::{Kernel, Series};
use livepatch_rig::modules;

/// Runs a shell script on a kernel with the test modules in `/modules`.
fn outcome(series: Series, script: &str, deadline: Duration) -> Result<Outcome> {
    let kernel = Kernel::get(series)?;
    kernel_vm::run(&KernelVmSpec {
        kernel: &kernel,
        files: GuestFile::folder("modules", &modules::build(&kernel)?)?,
        command: ["sh", "-euc", script].map(str::to_owned).to_vec(),
        deadline,
        boot: Boot::default(),
    })
}

/// What a script that must succeed prints.
fn run(series: Series, script: &str) -> Result<String> {
    outcome(series, script, Duration::from_mins(2))?.success()
}

/// Shell functions for the scripts: `settle` waits until no transition runs, `marker` tells the livepatch that a file
/// of /proc shows.
const FUNCTIONS: &str = "
settle() { while grep -qs 1 /sys/kernel/livepatch/*/transition; do sleep 0.2; done; }
load() { insmod /modules/$1.ko 2>&1 || echo \"$1 refused\"; settle; }
marker() { echo \"$1: $(sed -n 's/^livepatch: //p' /proc/$1)\"; }
";

fn each_series(test: impl Fn(Series)) {
    for series in Series::ALL {
        test(series);
    }
}

#[test]
fn a_cumulative_replaces_everything_and_an_off_band_adds_itself() {
    each_series(|series| {
        let script = format!(
            "{FUNCTIONS}
            marker version; load lp_cumulative_v1; marker version
            load lp_offband_v1; marker execdomains; marker version
            load lp_offband_v2; marker execdomains
            load lp_cumulative_v2; marker version; marker loadavg; marker execdomains
            load lp_offband_conflict; marker version
            load lp_cumulative_v3; marker version; marker execdomains; marker loadavg
            ls /sys/kernel/livepatch"
        );
        assert_eq!(
            run(series, &script).unwrap().lines().collect::<Vec<_>>(),
            [
                "version: ",
                "version: cumulative-v1",
                "execdomains: offband-v1",
                "version: cumulative-v1",
                "execdomains: offband-v2",
                "version: cumulative-v2",
                "loadavg: cumulative-v2",
                "execdomains: ",
                "version: offband-conflict",
                "version: cumulative-v3",
                "execdomains: cumulative-v3",
                "loadavg: ",
                "lp_cumulative_v3",
            ],
            "Linux {series}"
        );
    });
}

#[test]
fn modules_that_a_kernel_refuses_are_refused_and_leave_nothing() {
    each_series(|series| {
        let script = format!(
            "{FUNCTIONS}
            load lp_unknown_symbol; load lp_refusing_callback
            load lp_offband_state; marker loadavg; load lp_cumulative_v1; marker loadavg
            load lp_not_a_livepatch; ls /sys/kernel/livepatch"
        );
        assert_eq!(
            run(series, &script).unwrap().lines().collect::<Vec<_>>(),
            [
                "insmod: can't insert '/modules/lp_unknown_symbol.ko': Invalid argument",
                "lp_unknown_symbol refused",
                "insmod: can't insert '/modules/lp_refusing_callback.ko': No such device",
                "lp_refusing_callback refused",
                "loadavg: offband-state",
                "insmod: can't insert '/modules/lp_cumulative_v1.ko': Invalid argument",
                "lp_cumulative_v1 refused",
                "loadavg: offband-state",
                "lp_offband_state",
            ],
            "Linux {series}"
        );
    });
}

#[test]
fn a_task_asleep_in_a_patched_function_stalls_the_transition() {
    each_series(|series| {
        let script = format!(
            "{FUNCTIONS}
            insmod /modules/lp_sleeper.ko
            cat /proc/lp_sleeper & sleeper=$!
            sleep 1
            insmod /modules/lp_stalling.ko
            sleep 4
            cat /sys/kernel/livepatch/lp_stalling/transition /proc/$sleeper/patch_state
            echo > /proc/lp_sleeper
            settle; marker loadavg"
        );
        assert_eq!(
            run(series, &script).unwrap().lines().collect::<Vec<_>>(),
            ["1", "0", "loadavg: stalling"],
            "Linux {series}"
        );
    });
}

#[test]
fn a_livepatch_that_panics_ends_the_guest_and_the_error_says_so() {
    each_series(|series| {
        let error = outcome(series, "insmod /modules/lp_panic.ko; sleep 60", Duration::from_mins(2)).unwrap_err();
        let text = format!("{error:#}");
        assert!(
            text.contains("Kernel panic - not syncing: lp_panic"),
            "Linux {series}: {text}"
        );
    });
}

#[test]
fn a_livepatch_that_warns_taints_the_kernel() {
    each_series(|series| {
        let script = format!("{FUNCTIONS} load lp_warning; marker version; cat /proc/sys/kernel/tainted");
        let printed = run(series, &script).unwrap();
        let (marker, taints) = printed.split_once('\n').unwrap();
        assert_eq!(marker, "version: warning", "Linux {series}");
        // Bit 9 is W, Documentation/admin-guide/tainted-kernels.rst.
        assert_ne!(taints.trim().parse::<u32>().unwrap() & 1 << 9, 0, "Linux {series}");
    });
}

#[test]
fn a_command_that_hangs_is_killed_at_its_deadline() {
    let error = outcome(Series::Linux6_1, "sleep 600", Duration::from_secs(20)).unwrap_err();
    let text = format!("{error:#}");
    assert!(text.contains("killed after 20.0 s"), "{text}");
}
