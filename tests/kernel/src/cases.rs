//! What the kernel crate relies on, written once for the fake and for real kernels. Numbers are those of the
//! observations that the fake is built from.

mod lifecycle;
mod refusals;
mod transitions;

use std::time::Duration;

use livepatch_kernel::operation::LoadOutcome;
use livepatch_kernel::{Function, Kernel, RefusalReason};
use nix::errno::Errno;

use crate::lab::Lab;

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
    ($($group:ident { $($function:ident),* $(,)? })* @ $last_group:ident::$last:ident) => {
        /// All cases; the one that needs a reboot afterwards is the last.
        pub const ALL: &[Case] = &[
            $($(Case { name: stringify!($function), run: $group::$function, last: false },)*)*
            Case { name: stringify!($last), run: $last_group::$last, last: true },
        ];
    };
}

cases! {
    lifecycle {
        a_livepatch_is_loaded_disabled_and_unloaded,
        what_is_loaded_is_identified_by_its_build_id,
        off_bands_coexist,
        an_atomic_replace_sweeps_all_others,
        a_leftover_holds_its_name,
        two_livepatches_of_one_function_load_silently,
        an_off_band_is_upgraded_without_a_gap,
        the_same_build_is_adopted,
    }
    refusals {
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
        ftrace_switched_off,
        a_function_held_by_a_kprobe,
    }
    transitions {
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
        a_replace_whose_disabling_is_taken_back_throws_nothing_out,
    }
    @ transitions::a_forced_leftover_stays
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
