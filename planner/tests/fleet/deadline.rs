//! What counts as a move of a rollout that has to move, and what its states are.

use crate::stories::{CANARY, spec, three_nodes};
use crate::world::{Answer, World, node};
use jiff::SignedDuration;
use livepatch_crds::rollout::{ControlState, LivepatchRolloutStatus, WaveState};
use livepatch_planner::fleet::states::{EndedBy, may_follow};
use std::collections::BTreeSet;

/// All have settled but one that failed, which is borne, and one that came later and takes long; half a minute on.
fn one_to_come() -> World {
    let mut world = three_nodes();
    let strategy = CANARY.replace(
        "minReadySeconds",
        "maxFailed: 1, progressDeadlineSeconds: 600, minReadySeconds",
    );
    world.add_set(
        "fix",
        &spec("Cumulative", "{}", &strategy),
        &[("6.1", "m"), ("6.12", "m")],
    );
    world.answers.insert("b".into(), Answer::Refuses);
    world.steps(20);
    assert_eq!(world.ready_reason("fix"), "Complete");
    world.snapshot.nodes.insert("d".into(), node("d", &[], "6.1"));
    world.answers.insert("d".into(), Answer::Loads(1000));
    world.steps(10);
    let counts = world.set("fix").status.counts;
    assert_eq!((counts.settled, counts.failed, counts.in_flight), (2, 1, 1));
    world.now += SignedDuration::from_secs(30);
    world
}

/// Whether the rollout is told to have moved now, with its written status changed so.
fn moves(mut world: World, change: impl FnOnce(&mut LivepatchRolloutStatus)) -> bool {
    change(&mut world.rollout("fix").status);
    let written = world.rollout("fix").status.last_progress_time.clone();
    let decision = world.look();
    let told = decision.rollout_statuses.into_iter().next_back();
    let told = told.map_or_else(|| written.clone(), |(_, status)| status.last_progress_time);
    assert!(told.is_some());
    if told != written {
        assert_eq!(told.unwrap().0, world.now);
        return true;
    }
    false
}

#[test]
fn a_rollout_moves_when_a_node_settles_or_fails_and_not_when_one_goes() {
    assert!(!moves(one_to_come(), |_| ()));
    assert!(moves(one_to_come(), |written| written.counts.settled -= 1));
    assert!(!moves(one_to_come(), |written| written.counts.settled += 1));
    assert!(moves(one_to_come(), |written| written.counts.failed -= 1));
    assert!(!moves(one_to_come(), |written| written.counts.failed += 1));
    assert!(!moves(one_to_come(), |written| written.counts.in_flight += 1));
    assert!(!moves(one_to_come(), |written| written.counts.pending += 1));
}

#[test]
fn a_rollout_moves_when_a_wave_does_or_a_person_speaks_or_there_is_something_to_do_again() {
    assert!(moves(one_to_come(), |written| written.waves[1].state = WaveState::Soaking));
    assert!(moves(one_to_come(), |written| written.observed_generation -= 1));
    assert!(moves(one_to_come(), |written| {
        let ready = written.conditions.iter_mut().find(|one| one.type_ == "Ready");
        ready.unwrap().reason = "Paused".into();
    }));
    assert!(moves(one_to_come(), |written| written.conditions.clear()));
}

#[test]
fn a_rollout_on_its_way_back_moves_when_a_node_is_back() {
    let way_back = || {
        let mut world = one_to_come();
        world.rollout("fix").control.state = ControlState::RolledBack;
        world.steps(4);
        assert_eq!(world.ready_reason("fix"), "RollingBack");
        world.now += SignedDuration::from_secs(30);
        world
    };
    assert!(!moves(way_back(), |_| ()));
    assert!(moves(way_back(), |written| written.counts.rolled_back -= 1));
    assert!(!moves(way_back(), |written| written.counts.rolled_back += 1));
}

#[test]
fn the_deadline_is_over_at_its_second() {
    let mut world = one_to_come();
    let moved = world.rollout("fix").status.last_progress_time.clone().unwrap().0;
    world.now = moved + SignedDuration::from_secs(599);
    assert_eq!(world.look().wake_at, Some(moved + SignedDuration::from_secs(600)));
    assert!(world.look().set_statuses.is_empty());
    world.now = moved + SignedDuration::from_secs(600);
    let decision = world.look();
    assert_eq!(decision.wake_at, None);
    let told = livepatch_crds::conditions::find(&decision.set_statuses[0].1.conditions, "Ready").unwrap();
    assert_eq!(told.reason, "ProgressDeadlineExceeded");
}

#[test]
fn a_state_is_followed_by_those_that_its_table_names() {
    for (from, to) in [
        ("Soaking", "AwaitingPromotion"),
        ("Deleting", "Paused"),
        ("Complete", "Deleting"),
        ("WaveEmpty", "ReadingArtefact"),
        ("RegistryUnavailable", "Complete"),
        ("Complete", "RegistryUnavailable"),
    ] {
        assert!(may_follow(from, to), "{from} {to}");
    }
    for (from, to) in [
        ("Deleting", "Complete"),
        ("Aborted", "Soaking"),
        ("RolledBack", "AwaitingPromotion"),
    ] {
        assert!(!may_follow(from, to), "{from} {to}");
    }
}

#[test]
fn what_ends_a_state_is_told_in_words_of_its_own() {
    let told = [EndedBy::Deadline, EndedBy::Time, EndedBy::Person, EndedBy::Set].map(EndedBy::told);
    assert_eq!(told.iter().collect::<BTreeSet<_>>().len(), 4);
    assert!(told.iter().all(|words| words.contains(' ')), "{told:?}");
}
