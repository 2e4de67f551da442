//! The project on a real cluster: three nodes with two kernel builds, installed once, its story told in order.
//!
//! The chapters share the cluster and build on each other, as a fleet's history does; after the first that fails, the
//! others are not told. They are named tests all the same, in one process, one after the other. The long ones need nothing
//! of the story and are left out unless asked for.

mod agent;
mod faults;
mod hybrid;
mod leaders;
mod release;
mod rollback;
mod rollout;
mod stage;
mod steering;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use libtest_mimic::{Arguments, Failed, Trial};
use stage::Stage;

type Chapter = (&'static str, fn(&Stage) -> anyhow::Result<()>);

const STORY: [Chapter; 22] = [
    (
        "the_agent_is_not_privileged_and_confined_by_apparmor",
        agent::is_confined,
    ),
    (
        "the_canary_settles_before_any_other_node_is_granted",
        rollout::canary_first,
    ),
    ("columns_are_as_documented", rollout::columns),
    ("an_off_band_livepatch_joins_a_part_of_the_fleet", hybrid::joins),
    ("a_new_revision_replaces_the_former_one_everywhere", rollout::upgrade),
    (
        "an_atomic_replace_brings_the_off_band_livepatch_back",
        hybrid::came_back,
    ),
    ("an_off_band_livepatch_is_upgraded", hybrid::upgrade),
    (
        "a_fix_of_a_function_that_another_set_has_is_refused_before_any_grant",
        hybrid::conflict,
    ),
    (
        "a_cumulative_that_contains_the_fix_supersedes_it_until_it_goes",
        hybrid::superseded,
    ),
    (
        "an_off_band_livepatch_is_unloaded_where_it_is_no_longer_meant",
        hybrid::leaves,
    ),
    (
        "a_canary_that_the_kernel_refuses_halts_everything",
        rollout::refused_canary,
    ),
    (
        "what_halted_is_tried_again_and_aborted_by_a_person",
        steering::retried_and_aborted,
    ),
    ("a_new_attempt_after_a_better_revision_completes", rollout::recovers),
    (
        "a_canary_whose_kernel_warns_goes_back_and_the_rest_is_never_touched",
        rollback::warned_canary,
    ),
    (
        "every_verb_of_the_plugin_steers_a_rollout_forth_and_back",
        steering::forth_and_back,
    ),
    (
        "a_repository_that_is_not_allowed_is_refused",
        faults::repository_not_allowed,
    ),
    (
        "a_digest_that_the_registry_does_not_know_is_told",
        faults::digest_unknown,
    ),
    ("an_agent_killed_in_mid_transition_is_succeeded", faults::agent_killed),
    ("an_operator_killed_in_mid_wave_is_succeeded", faults::operator_killed),
    (
        "an_api_server_away_for_half_a_minute_changes_nothing",
        faults::api_server_away,
    ),
    (
        "what_was_on_probation_is_not_loaded_after_a_power_cut",
        faults::power_cut,
    ),
    ("uninstalling_leaves_livepatches_loaded", release::uninstall),
];

const LONG: [Chapter; 3] = [
    (
        "long_a_leader_killed_twenty_times_is_succeeded",
        leaders::killed_again_and_again,
    ),
    (
        "long_a_leader_paused_past_its_lease_grants_nothing_more",
        leaders::paused_past_its_lease,
    ),
    (
        "long_a_canary_that_hangs_two_minutes_later_stops_the_rollout",
        rollback::hung_canary,
    ),
];

fn main() -> ExitCode {
    let arguments = Arguments {
        test_threads: Some(1),
        ..Arguments::from_args()
    };
    if arguments.list {
        return libtest_mimic::run(&arguments, trials(None)).exit_code();
    }
    let stage = match Stage::set() {
        Ok(stage) => Arc::new(stage),
        Err(error) => {
            eprintln!("the cluster could not be started: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    let conclusion = libtest_mimic::run(&arguments, trials(Some(&stage)));
    if conclusion.has_failed() {
        stage.keep();
    }
    conclusion.exit_code()
}

fn trials(stage: Option<&Arc<Stage>>) -> Vec<Trial> {
    let broken = Arc::new(AtomicBool::new(false));
    let long = LONG.map(|chapter| (chapter, true));
    STORY
        .map(|chapter| (chapter, false))
        .into_iter()
        .chain(long)
        .map(|((name, chapter), is_long)| {
            let (stage, broken) = (stage.cloned(), Arc::clone(&broken));
            Trial::test(name, move || {
                if broken.load(Ordering::Relaxed) {
                    return Err(Failed::from("not told: a chapter before it failed"));
                }
                let Some(stage) = stage else { return Ok(()) };
                chapter(&stage).map_err(|error| {
                    broken.store(true, Ordering::Relaxed);
                    Failed::from(format!("{error:#}"))
                })
            })
            .with_ignored_flag(is_long)
        })
        .collect()
}
