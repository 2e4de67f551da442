//! What the kernel crate relies on, written once for the fake and for real kernels. Numbers are those of the
//! observations that the fake is built from.

use std::time::Duration;

use livepatch_kernel::operation::{
    Disable, DisableOutcome, Load, LoadOutcome, OnTimeout, Operation, Roster, UnloadOutcome, run,
};
use livepatch_kernel::{Function, Kernel, RefusalReason, Seen, Standing};
use nix::errno::Errno;

use crate::lab::{Lab, ProcFile};

/// One case.
pub struct Case {
    /// What it shows.
    pub name: &'static str,
    /// Shows it; panics otherwise. Begins and ends with nothing loaded, unless `last`.
    pub run: fn(&dyn Lab),
    /// Leaves what only a reboot removes.
    pub last: bool,
}

macro_rules! cases {
    ($($function:ident $(: $last:ident)?),* $(,)?) => {
        /// All cases, those that need a reboot afterwards at the end.
        pub const ALL: &[Case] = &[$(Case {
            name: stringify!($function),
            run: $function,
            last: cases!(@last $($last)?),
        }),*];
    };
    (@last) => { false };
    (@last last) => { true };
}

cases! {
    a_livepatch_is_loaded_disabled_and_unloaded,
    what_is_loaded_is_identified_by_its_build_id,
    off_bands_coexist,
    an_atomic_replace_sweeps_all_others,
    a_leftover_holds_its_name,
    two_livepatches_of_one_function_load_silently,
    an_off_band_is_upgraded_without_a_gap,
    writes_that_change_nothing_are_refused,
    a_module_in_use_cannot_be_deleted,
    a_state_must_be_carried,
    a_state_must_not_go_down,
    the_state_is_checked_before_a_running_transition,
    a_missing_symbol_is_named,
    a_refusing_callback_is_named,
    another_kernels_module_is_refused,
    another_release_is_no_hindrance_to_the_kernel,
    what_is_no_module_is_refused,
    a_sleeping_task_stalls_a_transition,
    one_transition_at_a_time,
    the_operation_waits_for_a_foreign_transition,
    a_stalled_load_is_taken_back,
    a_stalled_replace_is_taken_back_without_loss,
    a_stalled_disable_is_taken_back,
    a_stalled_load_may_wait,
    an_interrupted_load_is_taken_back,
    a_load_is_resumed,
    a_load_taken_back_meanwhile_is_noticed,
    functions_are_not_trusted_during_a_replace,
    ftrace_switched_off,
    a_function_held_by_a_kprobe,
    the_same_build_is_adopted,
    a_forced_leftover_stays: last,
}

fn refused(outcome: LoadOutcome) -> livepatch_kernel::LoadRefusal {
    match outcome {
        LoadOutcome::Refused(refusal) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}

fn reason_of(outcome: LoadOutcome) -> RefusalReason {
    refused(outcome).reason
}

/// One bare `finit_module`.
fn bare_load(lab: &dyn Lab, name: &str) -> Result<(), Errno> {
    let module = lab.module(name);
    let mut pending = lab
        .kernel()
        .start_load(name, &module.image, c"")
        .expect("a call that begins");
    loop {
        if let Some(result) = pending.poll() {
            return result.map_err(|error| error.errno);
        }
        lab.kernel().sleep(Duration::from_millis(1));
    }
}

fn write(lab: &dyn Lab, name: &str, enabled: bool) -> Result<(), Errno> {
    lab.kernel().set_enabled(name, enabled).map_err(|error| error.errno)
}

fn functions(kernel: &dyn Kernel, name: &str) -> Vec<Function> {
    let livepatch = kernel
        .livepatches()
        .unwrap()
        .into_iter()
        .find(|l| l.name == name)
        .expect("an entry");
    livepatch
        .objects
        .into_iter()
        .flat_map(|object| object.functions)
        .collect()
}

fn named(name: &str) -> Function {
    Function {
        name: name.to_owned(),
        position: 1,
    }
}

fn a_livepatch_is_loaded_disabled_and_unloaded(lab: &dyn Lab) {
    assert_eq!(lab.effective(ProcFile::Execdomains), None);
    let LoadOutcome::Loaded(loaded) = lab.load("lp_offband_v1") else {
        panic!("not loaded")
    };
    assert!(loaded.effective >= loaded.called.unwrap());
    assert_eq!(lab.effective(ProcFile::Execdomains).as_deref(), Some("lp_offband_v1"));
    let standing = lab.kernel().standing("lp_offband_v1").unwrap();
    assert_eq!(
        standing,
        Some(Standing {
            enabled: true,
            transition: false
        })
    );
    assert!(lab.kernel().taints().unwrap().to_string().contains('K'));
    lab.disabled("lp_offband_v1");
    assert_eq!(lab.effective(ProcFile::Execdomains), None);
    assert_eq!(lab.leftovers(), ["lp_offband_v1"]);
    lab.unloaded("lp_offband_v1");
    assert!(lab.kernel().module("lp_offband_v1").unwrap().is_none());
    assert!(matches!(lab.disable("lp_offband_v1"), DisableOutcome::NotEnabled));
    assert!(matches!(lab.unload("lp_offband_v1"), UnloadOutcome::NotLoaded));
}

fn what_is_loaded_is_identified_by_its_build_id(lab: &dyn Lab) {
    lab.loaded("lp_offband_v1");
    let livepatch = lab.kernel().livepatches().unwrap().swap_remove(0);
    let build_id = lab.module("lp_offband_v1").build_id.expect("a build id");
    assert!(livepatch.is_effective_build(&build_id));
    assert_eq!(livepatch.function_count(), 1);
    assert_eq!(livepatch.refcount, Seen::Known(1));
    let module = lab.kernel().module("lp_offband_v1").unwrap().unwrap();
    assert_eq!(module.build_id, Seen::Known(Some(build_id)));
    assert!(module.livepatch.is(&true));
}

fn off_bands_coexist(lab: &dyn Lab) {
    lab.loaded("lp_offband_v1");
    lab.loaded("lp_offband_state");
    assert_eq!(lab.active(), ["lp_offband_state", "lp_offband_v1"]);
    assert_eq!(lab.effective(ProcFile::Execdomains).as_deref(), Some("lp_offband_v1"));
    assert_eq!(lab.effective(ProcFile::Loadavg).as_deref(), Some("lp_offband_state"));
}

/// Observation 1.
fn an_atomic_replace_sweeps_all_others(lab: &dyn Lab) {
    lab.loaded("lp_offband_v1");
    let LoadOutcome::Loaded(loaded) = lab.load("lp_cumulative_v1") else {
        panic!("not loaded")
    };
    assert_eq!(loaded.replaced, ["lp_offband_v1"]);
    assert_eq!(lab.effective(ProcFile::Execdomains), None);
    assert_eq!(lab.effective(ProcFile::Version).as_deref(), Some("lp_cumulative_v1"));
    lab.eventually("the entry goes", || {
        lab.kernel().standing("lp_offband_v1").unwrap().is_none()
    });
    lab.eventually("the reference goes", || {
        lab.kernel()
            .module("lp_offband_v1")
            .unwrap()
            .is_some_and(|module| module.refcount == 0)
    });
    assert_eq!(lab.leftovers(), ["lp_offband_v1"]);
    assert_eq!(lab.active(), ["lp_cumulative_v1"]);
}

/// Observation 2.
fn a_leftover_holds_its_name(lab: &dyn Lab) {
    lab.loaded("lp_offband_v1");
    lab.loaded("lp_cumulative_v1");
    lab.eventually("the entry goes", || {
        lab.kernel().standing("lp_offband_v1").unwrap().is_none()
    });
    assert_eq!(bare_load(lab, "lp_offband_v1"), Err(Errno::EEXIST));
    lab.loaded("lp_offband_v1");
    assert_eq!(lab.active(), ["lp_cumulative_v1", "lp_offband_v1"]);
    assert_eq!(lab.effective(ProcFile::Execdomains).as_deref(), Some("lp_offband_v1"));
    assert_eq!(lab.effective(ProcFile::Version).as_deref(), Some("lp_cumulative_v1"));
}

/// Observations 3 and 4.
fn two_livepatches_of_one_function_load_silently(lab: &dyn Lab) {
    lab.loaded("lp_cumulative_v1");
    lab.loaded("lp_offband_conflict");
    assert_eq!(lab.effective(ProcFile::Version).as_deref(), Some("lp_offband_conflict"));
    lab.disabled("lp_cumulative_v1");
    assert_eq!(lab.effective(ProcFile::Version).as_deref(), Some("lp_offband_conflict"));
    assert_eq!(lab.active(), ["lp_offband_conflict"]);
}

/// Observation 7.
fn an_off_band_is_upgraded_without_a_gap(lab: &dyn Lab) {
    lab.loaded("lp_offband_v1");
    lab.loaded("lp_offband_v2");
    assert_eq!(lab.effective(ProcFile::Execdomains).as_deref(), Some("lp_offband_v2"));
    lab.disabled("lp_offband_v1");
    assert_eq!(lab.effective(ProcFile::Execdomains).as_deref(), Some("lp_offband_v2"));
}

/// Observation 5.
fn writes_that_change_nothing_are_refused(lab: &dyn Lab) {
    lab.loaded("lp_offband_v1");
    assert_eq!(write(lab, "lp_offband_v1", true), Err(Errno::EINVAL));
    assert_eq!(write(lab, "no_such_livepatch", false), Err(Errno::ENOENT));
    assert_eq!(write(lab, "../lp_offband_v1", false), Err(Errno::ENOENT));
    assert_eq!(lab.active(), ["lp_offband_v1"]);
}

/// Observation 6.
fn a_module_in_use_cannot_be_deleted(lab: &dyn Lab) {
    lab.loaded("lp_offband_v1");
    let errno = lab.kernel().delete_module("lp_offband_v1").unwrap_err().errno;
    assert_eq!(errno, Errno::EAGAIN);
    assert!(matches!(lab.unload("lp_offband_v1"), UnloadOutcome::StillActive));
    assert_eq!(
        lab.kernel().delete_module("no_such_module").unwrap_err().errno,
        Errno::ENOENT
    );
}

/// Observation 8.
fn a_state_must_be_carried(lab: &dyn Lab) {
    lab.loaded("lp_offband_state");
    let refusal = refused(lab.load("lp_cumulative_v1"));
    assert_eq!(refusal.reason, RefusalReason::IncompatibleState);
    assert_eq!(refusal.error.unwrap().errno, Errno::EINVAL);
    assert!(refusal.evidence[0].contains("lp_cumulative_v1"));
    assert_eq!(lab.active(), ["lp_offband_state"]);
    assert!(lab.kernel().module("lp_cumulative_v1").unwrap().is_none());
    lab.loaded("lp_offband_v1");
}

/// Observation 8.
fn a_state_must_not_go_down(lab: &dyn Lab) {
    lab.loaded("lp_offband_state");
    lab.loaded("lp_cumulative_state");
    assert_eq!(lab.active(), ["lp_cumulative_state"]);
    assert_eq!(
        reason_of(lab.load("lp_offband_state")),
        RefusalReason::IncompatibleState
    );
}

/// Observation 8.
fn the_state_is_checked_before_a_running_transition(lab: &dyn Lab) {
    lab.loaded("lp_offband_state");
    lab.put_to_sleep();
    let _running = lab.begun("lp_stalling", Duration::from_mins(5), OnTimeout::Wait);
    assert_eq!(bare_load(lab, "lp_cumulative_v1"), Err(Errno::EINVAL));
    assert_eq!(bare_load(lab, "lp_cumulative_state"), Err(Errno::EBUSY));
}

/// Observation 9.
fn a_missing_symbol_is_named(lab: &dyn Lab) {
    let refusal = refused(lab.load("lp_unknown_symbol"));
    assert_eq!(refusal.reason, RefusalReason::SymbolNotFound);
    assert!(refusal.evidence[0].contains("livepatch_tests_no_such_function"));
    assert!(lab.kernel().module("lp_unknown_symbol").unwrap().is_none());
}

fn a_refusing_callback_is_named(lab: &dyn Lab) {
    let refusal = refused(lab.load("lp_refusing_callback"));
    assert_eq!(refusal.reason, RefusalReason::CallbackRefused);
    assert_eq!(refusal.error.unwrap().errno, Errno::ENODEV);
    assert!(lab.kernel().livepatches().unwrap().is_empty());
}

fn another_kernels_module_is_refused(lab: &dyn Lab) {
    let refusal = refused(lab.load("another_kernels"));
    assert_eq!(refusal.reason, RefusalReason::VersionMagicMismatch);
    assert_eq!(refusal.error.unwrap().errno, Errno::ENOEXEC);
}

/// With symbol versions the kernel leaves the release out of the comparison: whether a module is for this very kernel
/// build has to be found out before.
fn another_release_is_no_hindrance_to_the_kernel(lab: &dyn Lab) {
    lab.loaded("another_release");
}

fn what_is_no_module_is_refused(lab: &dyn Lab) {
    let refusal = refused(lab.load("not_elf"));
    assert_eq!(refusal.reason, RefusalReason::InvalidModule);
    assert_eq!(refusal.error.unwrap().errno, Errno::ENOEXEC);
}

/// Observation 10.
fn a_sleeping_task_stalls_a_transition(lab: &dyn Lab) {
    let pid = lab.put_to_sleep();
    let _running = lab.begun("lp_stalling", Duration::from_mins(5), OnTimeout::Wait);
    lab.kernel().sleep(Duration::from_secs(4));
    let standing = lab.kernel().standing("lp_stalling").unwrap();
    assert_eq!(
        standing,
        Some(Standing {
            enabled: true,
            transition: true
        })
    );
    assert_eq!(lab.kernel().in_transition().unwrap().as_deref(), Some("lp_stalling"));
    let stragglers = lab.kernel().stragglers(true, 5).into_known().expect("tasks to be seen");
    assert_eq!(
        stragglers
            .listed
            .iter()
            .map(|task| (task.pid, task.tid))
            .collect::<Vec<_>>(),
        [(pid, pid)]
    );
    assert_eq!(stragglers.listed[0].comm, "cat");
    assert!(stragglers.complete);
    assert!(lab.kernel().straggles(&stragglers.listed[0], true).is(&true));
    lab.wake();
    lab.eventually("the transition ends", || lab.active() == ["lp_stalling"]);
    assert!(lab.kernel().straggles(&stragglers.listed[0], true).is(&false));
}

/// Observation 12.
fn one_transition_at_a_time(lab: &dyn Lab) {
    lab.loaded("lp_offband_v1");
    lab.put_to_sleep();
    let _running = lab.begun("lp_stalling", Duration::from_mins(5), OnTimeout::Wait);
    // The transition is to be seen a moment before the kernel logs its beginning.
    lab.kernel().sleep(Duration::from_secs(1));
    let mark = lab.kernel().log_mark();
    assert_eq!(bare_load(lab, "lp_offband_v2"), Err(Errno::EBUSY));
    assert_eq!(write(lab, "lp_offband_v1", false), Err(Errno::EBUSY));
    let log = lab.kernel().log_since(&mark);
    assert!(log.complete);
    assert_eq!(log.matching(&["livepatch:"]).next(), None);
    assert_eq!(
        lab.kernel().delete_module("lp_stalling").unwrap_err().errno,
        Errno::EAGAIN
    );
}

fn the_operation_waits_for_a_foreign_transition(lab: &dyn Lab) {
    lab.loaded("lp_offband_v1");
    lab.put_to_sleep();
    let _running = lab.begun("lp_stalling", Duration::from_mins(5), OnTimeout::Wait);
    let short = lab.request("lp_offband_v2", Duration::from_secs(3), OnTimeout::Revert);
    let mark = lab.kernel().log_mark();
    assert_eq!(
        reason_of(run(&mut Load::new(short), lab.kernel(), |_| ())),
        RefusalReason::TransitionRunning
    );
    let deadline = lab.kernel().now() + Duration::from_secs(3);
    let outcome = run(
        &mut Disable::new("lp_offband_v1", deadline, OnTimeout::Revert),
        lab.kernel(),
        |_| (),
    );
    assert!(
        matches!(&outcome, DisableOutcome::TransitionRunning(other) if other == "lp_stalling"),
        "{outcome:?}"
    );
    assert_eq!(lab.kernel().log_since(&mark).matching(&["lp_offband"]).next(), None);
    let mut load = Load::new(lab.request("lp_offband_v2", Duration::from_mins(2), OnTimeout::Revert));
    let mut waits = 0;
    let outcome = run(&mut load, lab.kernel(), |_| {
        waits += 1;
        if waits == 4 {
            lab.wake();
        }
    });
    assert!(matches!(outcome, LoadOutcome::Loaded(_)), "{outcome:?}");
    assert_eq!(lab.active(), ["lp_offband_v1", "lp_offband_v2", "lp_stalling"]);
}

fn assert_reverted(outcome: &LoadOutcome) {
    match outcome {
        LoadOutcome::Reverted { leftover, .. } => assert!(!leftover),
        other => panic!("not reverted: {other:?}"),
    }
}

/// Observation 10.
fn a_stalled_load_is_taken_back(lab: &dyn Lab) {
    lab.loaded("lp_offband_v1");
    let pid = lab.put_to_sleep();
    let request = lab.request("lp_stalling", Duration::from_secs(3), OnTimeout::Revert);
    let outcome = run(&mut Load::new(request), lab.kernel(), |_| ());
    assert_reverted(&outcome);
    let LoadOutcome::Reverted {
        stragglers: Some(Seen::Known(stragglers)),
        ..
    } = outcome
    else {
        panic!("no stragglers")
    };
    assert_eq!(stragglers.listed[0].pid, pid);
    assert_eq!(lab.active(), ["lp_offband_v1"]);
    assert!(lab.leftovers().is_empty());
    assert_eq!(lab.effective(ProcFile::Loadavg), None);
}

/// Observation 13.
fn a_stalled_replace_is_taken_back_without_loss(lab: &dyn Lab) {
    lab.loaded("lp_offband_v1");
    lab.loaded("lp_offband_state");
    lab.disabled("lp_offband_state");
    lab.put_to_sleep();
    let request = lab.request("lp_cumulative_stalling", Duration::from_secs(3), OnTimeout::Revert);
    assert_reverted(&run(&mut Load::new(request), lab.kernel(), |_| ()));
    assert_eq!(lab.active(), ["lp_offband_v1"]);
    assert_eq!(lab.effective(ProcFile::Execdomains).as_deref(), Some("lp_offband_v1"));
}

fn a_stalled_disable_is_taken_back(lab: &dyn Lab) {
    lab.put_to_sleep();
    let _running = lab.begun("lp_stalling", Duration::from_mins(5), OnTimeout::Wait);
    lab.wake();
    lab.eventually("the transition ends", || lab.active() == ["lp_stalling"]);
    // Reads of the sleeper return at once now: only a task that sleeps in the new function could stall a disable.
    let deadline = lab.kernel().now() + Duration::from_mins(2);
    let mut disable = Disable::new("lp_stalling", deadline, OnTimeout::Revert);
    disable.step(lab.kernel());
    disable.interrupt();
    let outcome = run(&mut disable, lab.kernel(), |_| ());
    // Either came first; what is reported is what is.
    match outcome {
        DisableOutcome::Reverted(_) => assert_eq!(lab.active(), ["lp_stalling"]),
        DisableOutcome::Disabled => assert!(lab.active().is_empty()),
        other => panic!("{other:?}"),
    }
}

fn a_stalled_load_may_wait(lab: &dyn Lab) {
    lab.put_to_sleep();
    let request = lab.request("lp_stalling", Duration::from_secs(3), OnTimeout::Wait);
    let outcome = run(&mut Load::new(request), lab.kernel(), |_| ());
    assert!(matches!(outcome, LoadOutcome::StillInTransition { .. }), "{outcome:?}");
    lab.wake();
    lab.eventually("the transition ends", || lab.active() == ["lp_stalling"]);
}

fn an_interrupted_load_is_taken_back(lab: &dyn Lab) {
    lab.put_to_sleep();
    let mut load = lab.begun("lp_stalling", Duration::from_mins(5), OnTimeout::Wait);
    load.interrupt();
    assert_reverted(&run(&mut load, lab.kernel(), |_| ()));
    assert!(lab.active().is_empty());
    let mut untouched = Load::new(lab.request("lp_offband_v1", Duration::from_mins(1), OnTimeout::Revert));
    untouched.interrupt();
    assert!(matches!(
        run(&mut untouched, lab.kernel(), |_| ()),
        LoadOutcome::Interrupted
    ));
    assert!(lab.active().is_empty());
}

fn a_load_is_resumed(lab: &dyn Lab) {
    lab.loaded("lp_offband_v1");
    let roster = Roster::take(lab.kernel()).unwrap();
    let called = lab.kernel().now();
    lab.put_to_sleep();
    drop(lab.begun("lp_cumulative_stalling", Duration::from_mins(5), OnTimeout::Wait));
    let request = lab.request("lp_cumulative_stalling", Duration::from_mins(5), OnTimeout::Revert);
    let mut resumed = Load::resume(request, called, roster);
    let mut waits = 0;
    let outcome = run(&mut resumed, lab.kernel(), |_| {
        waits += 1;
        if waits == 4 {
            lab.wake();
        }
    });
    let LoadOutcome::Loaded(loaded) = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!(loaded.called, Some(called));
    assert_eq!(loaded.replaced, ["lp_offband_v1"]);
}

fn a_load_taken_back_meanwhile_is_noticed(lab: &dyn Lab) {
    lab.put_to_sleep();
    let mut load = lab.begun("lp_stalling", Duration::from_mins(5), OnTimeout::Wait);
    write(lab, "lp_stalling", false).unwrap();
    assert_reverted(&run(&mut load, lab.kernel(), |_| ()));
    assert!(lab.active().is_empty());
    assert!(lab.leftovers().is_empty());
}

/// Observation 11.
fn functions_are_not_trusted_during_a_replace(lab: &dyn Lab) {
    lab.loaded("lp_offband_v1");
    lab.put_to_sleep();
    let _running = lab.begun("lp_cumulative_stalling", Duration::from_mins(5), OnTimeout::Wait);
    let livepatches = lab.kernel().livepatches().unwrap();
    let newcomer = livepatches.iter().find(|l| l.name == "lp_cumulative_stalling").unwrap();
    assert!(!newcomer.functions_reliable);
    assert!(functions(lab.kernel(), "lp_cumulative_stalling").contains(&named("execdomains_proc_show")));
    lab.wake();
    lab.eventually("the transition ends", || lab.active() == ["lp_cumulative_stalling"]);
    lab.eventually("the borrowed functions go", || {
        !functions(lab.kernel(), "lp_cumulative_stalling").contains(&named("execdomains_proc_show"))
    });
    let livepatches = lab.kernel().livepatches().unwrap();
    let newcomer = livepatches.iter().find(|l| l.name == "lp_cumulative_stalling").unwrap();
    assert!(newcomer.functions_reliable);
    assert!(functions(lab.kernel(), "lp_cumulative_stalling").contains(&named("version_proc_show")));
}

/// Observation 15.
fn ftrace_switched_off(lab: &dyn Lab) {
    lab.set_ftrace(false);
    assert!(lab.kernel().policy().ftrace_enabled.is(&false));
    let refusal = refused(lab.load("lp_offband_v1"));
    assert_eq!(refusal.reason, RefusalReason::FtraceDisabled);
    assert_eq!(refusal.error.unwrap().errno, Errno::EBUSY);
    lab.set_ftrace(true);
    lab.loaded("lp_offband_v1");
}

fn a_function_held_by_a_kprobe(lab: &dyn Lab) {
    lab.hold_version(true);
    let refusal = refused(lab.load("lp_cumulative_v1"));
    assert_eq!(refusal.reason, RefusalReason::FunctionHeldByTracer);
    assert!(refusal.evidence[0].contains("version_proc_show"));
    lab.loaded("lp_offband_v1");
}

fn the_same_build_is_adopted(lab: &dyn Lab) {
    lab.loaded("lp_offband_v1");
    let mark = lab.kernel().log_mark();
    let LoadOutcome::Loaded(loaded) = lab.load("lp_offband_v1") else {
        panic!("not adopted")
    };
    assert_eq!(loaded.called, None);
    assert_eq!(lab.kernel().log_since(&mark).lines, Vec::<String>::new());
}

/// Observation 16: only a livepatch that is being removed is pinned by force.
fn a_forced_leftover_stays(lab: &dyn Lab) {
    lab.put_to_sleep();
    let running = lab.begun("lp_stalling", Duration::from_mins(5), OnTimeout::Wait);
    lab.force("lp_stalling");
    lab.eventually("the forced load ends", || lab.active() == ["lp_stalling"]);
    drop(running);
    lab.wake();
    lab.disabled("lp_stalling");
    lab.unloaded("lp_stalling");
    lab.put_to_sleep();
    let mut load = lab.begun("lp_stalling", Duration::from_mins(5), OnTimeout::Wait);
    write(lab, "lp_stalling", false).unwrap();
    lab.force("lp_stalling");
    let outcome = run(&mut load, lab.kernel(), |_| ());
    assert!(
        matches!(outcome, LoadOutcome::Reverted { leftover: true, .. }),
        "{outcome:?}"
    );
    assert!(matches!(
        lab.unload("lp_stalling"),
        UnloadOutcome::StillReferenced { refcount: 1 }
    ));
    assert_eq!(lab.leftovers(), ["lp_stalling"]);
    assert_eq!(reason_of(lab.load("lp_stalling")), RefusalReason::LeftoverPinned);
}
