//! Transitions that a task holds up, and what operations make of them.

use std::time::Duration;

use livepatch_kernel::operation::{
    Disable, DisableOutcome, Load, LoadOutcome, OnTimeout, Operation, Roster, UnloadOutcome, run,
};
use livepatch_kernel::{RefusalReason, Seen, Standing};
use nix::errno::Errno;

use super::{bare_load, functions, named, reason_of, write};
use crate::lab::{Lab, ProcFile};

pub(super) fn assert_reverted(outcome: &LoadOutcome) {
    match outcome {
        LoadOutcome::Reverted { leftover, .. } => assert!(!leftover),
        other => panic!("not reverted: {other:?}"),
    }
}

/// Observation 10.
pub(super) fn a_sleeping_task_stalls_a_transition(lab: &dyn Lab) {
    let pid = lab.put_to_sleep();
    let _running = lab.begun("lp_stalling", Duration::from_mins(5), OnTimeout::Wait);
    let stragglers = || lab.kernel().stragglers(true, 5).into_known().expect("tasks to be seen");
    lab.eventually("only the sleeper is left", || {
        stragglers().listed.iter().map(|task| task.pid).eq([pid])
    });
    let standing = lab.kernel().standing("lp_stalling").unwrap();
    assert_eq!(
        standing,
        Some(Standing {
            enabled: true,
            transition: true
        })
    );
    assert_eq!(lab.kernel().in_transition().unwrap().as_deref(), Some("lp_stalling"));
    let stragglers = stragglers();
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
pub(super) fn one_transition_at_a_time(lab: &dyn Lab) {
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

pub(super) fn the_operation_waits_for_a_foreign_transition(lab: &dyn Lab) {
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

/// Observation 10.
pub(super) fn a_stalled_load_is_taken_back(lab: &dyn Lab) {
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
pub(super) fn a_stalled_replace_is_taken_back_without_loss(lab: &dyn Lab) {
    lab.loaded("lp_offband_v1");
    lab.loaded("lp_offband_state");
    lab.disabled("lp_offband_state");
    lab.put_to_sleep();
    let request = lab.request("lp_cumulative_stalling", Duration::from_secs(3), OnTimeout::Revert);
    assert_reverted(&run(&mut Load::new(request), lab.kernel(), |_| ()));
    assert_eq!(lab.active(), ["lp_offband_v1"]);
    assert_eq!(lab.effective(ProcFile::Execdomains).as_deref(), Some("lp_offband_v1"));
}

pub(super) fn a_stalled_disable_is_taken_back(lab: &dyn Lab) {
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

pub(super) fn a_stalled_load_may_wait(lab: &dyn Lab) {
    lab.put_to_sleep();
    let request = lab.request("lp_stalling", Duration::from_secs(3), OnTimeout::Wait);
    let outcome = run(&mut Load::new(request), lab.kernel(), |_| ());
    assert!(matches!(outcome, LoadOutcome::StillInTransition { .. }), "{outcome:?}");
    lab.wake();
    lab.eventually("the transition ends", || lab.active() == ["lp_stalling"]);
}

pub(super) fn an_interrupted_load_is_taken_back(lab: &dyn Lab) {
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

pub(super) fn a_load_is_resumed(lab: &dyn Lab) {
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

pub(super) fn a_load_taken_back_meanwhile_is_noticed(lab: &dyn Lab) {
    lab.put_to_sleep();
    let mut load = lab.begun("lp_stalling", Duration::from_mins(5), OnTimeout::Wait);
    write(lab, "lp_stalling", false).unwrap();
    assert_reverted(&run(&mut load, lab.kernel(), |_| ()));
    assert!(lab.active().is_empty());
    assert!(lab.leftovers().is_empty());
}

/// Observation 11.
pub(super) fn functions_are_not_trusted_during_a_replace(lab: &dyn Lab) {
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

/// A replacing livepatch that comes back into effect throws out what was loaded before it and nothing that came after it:
/// `klp_unpatch_replaced_patches()` walks the list of livepatches up to its own (kernel/livepatch/core.c).
pub(super) fn a_replace_whose_disabling_is_taken_back_throws_nothing_out(lab: &dyn Lab) {
    lab.loaded("lp_cumulative_sleeping");
    lab.loaded("lp_offband_v1");
    lab.put_to_sleep();
    write(lab, "lp_cumulative_sleeping", false).unwrap();
    let standing = |enabled, transition| Some(Standing { enabled, transition });
    let seen = || lab.kernel().standing("lp_cumulative_sleeping").unwrap();
    lab.kernel().sleep(Duration::from_secs(2));
    assert_eq!(seen(), standing(false, true));
    write(lab, "lp_cumulative_sleeping", true).unwrap();
    lab.eventually("the disabling is taken back", || seen() == standing(true, false));
    // Long enough for what is thrown out to go.
    lab.kernel().sleep(Duration::from_secs(2));
    assert_eq!(lab.active(), ["lp_cumulative_sleeping", "lp_offband_v1"]);
    assert_eq!(lab.effective(ProcFile::Execdomains).as_deref(), Some("lp_offband_v1"));
    assert_eq!(
        lab.effective(ProcFile::Version).as_deref(),
        Some("lp_cumulative_sleeping")
    );
}

/// Observation 16: only a livepatch that is being removed is pinned by force.
pub(super) fn a_forced_leftover_stays(lab: &dyn Lab) {
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
