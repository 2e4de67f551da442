//! What is told as an event, and that it is told once.

use crate::stories::{CANARY, DIGEST, names, spec, three_nodes};
use crate::world::{Answer, World, happened, node};
use livepatch_crds::rollout::ControlState;
use livepatch_planner::fleet::decision::Regarding;
use livepatch_planner::fleet::snapshot::BundleView;

const SOAKS: &str = "{minReadySeconds: 0, waves: [{name: canary, nodeSelector: {matchLabels: {pool: canary}}, \
                     soakSeconds: 20, then: AwaitPromotion}]}";

fn with(rollout: &str) -> World {
    let mut world = three_nodes();
    world.add_set(
        "fix",
        &spec("Cumulative", "{}", rollout),
        &[("6.1", "m"), ("6.12", "m")],
    );
    world
}

/// How often that was told of the set, as a warning or not.
fn of_set(world: &World, reason: &str) -> usize {
    happened(world, &Regarding::Set("fix".into()), reason)
}

/// What was told of the rollout with that reason.
fn of_rollout(world: &mut World, reason: &str) -> Vec<String> {
    let regarding = Regarding::Rollout(world.rollout("fix").name.clone());
    let told = world.happenings.iter();
    let told = told.filter(|one| one.regarding == regarding && one.reason == reason);
    told.map(|one| one.note.clone()).collect()
}

#[test]
fn a_wave_is_told_when_it_begins_soaks_awaits_and_passes() {
    let mut world = with(SOAKS);
    for _ in 0..20 {
        if world.ready_reason("fix") != "Soaking" {
            world.step();
        }
    }
    // A node that joins makes the wave run again, which is no beginning.
    let late = node("d", &[("pool", "canary")], "6.1");
    world.snapshot.nodes.insert("d".into(), late);
    world.steps(60);
    assert_eq!(world.ready_reason("fix"), "AwaitingPromotion");
    assert_eq!(
        of_rollout(&mut world, "WaveStarted"),
        ["wave canary begins with 1 node"]
    );
    assert_eq!(of_rollout(&mut world, "Soaking")[0], "wave canary: 1 node settled");
    assert_eq!(
        of_rollout(&mut world, "AwaitingPromotion"),
        ["wave canary awaits promotion"]
    );
    assert!(of_rollout(&mut world, "WavePassed").is_empty());
    world.rollout("fix").control.promoted_through = Some("canary".into());
    world.steps(20);
    assert_eq!(
        of_rollout(&mut world, "WavePassed"),
        [
            "wave canary passed: 2 nodes settled",
            "wave rest passed: 2 nodes settled"
        ]
    );
    assert_eq!(of_set(&world, "Complete"), 1);
    assert!(world.happenings.iter().all(|one| !one.warning));
}

#[test]
fn an_empty_wave_warns_and_does_not_pass_with_a_word() {
    let mut world = World::new(&[("b", &[], "6.1")]);
    world.add_set("fix", &spec("Cumulative", "{}", CANARY), &[("6.1", "m")]);
    world.steps(6);
    assert_eq!(of_rollout(&mut world, "WaveEmpty"), ["wave canary takes no node"]);
    assert!(world.happenings.iter().all(|one| one.warning));
    world.rollout("fix").control.promoted_through = Some("canary".into());
    world.steps(10);
    assert_eq!(
        of_rollout(&mut world, "WavePassed"),
        ["wave rest passed: 1 node settled"]
    );
}

#[test]
fn a_set_that_is_refused_is_told_once_for_each_reason_and_reading_is_not() {
    let mut world = with(CANARY);
    world.set("fix").bundle = BundleView::Unread;
    world.steps(3);
    assert!(world.happenings.is_empty());
    for (reason, times) in [("DigestUnknown", 1), ("Denied", 1), ("DigestUnknown", 2)] {
        world.set("fix").bundle = BundleView::Unusable {
            reason,
            message: "no".into(),
            retried: false,
        };
        world.steps(3);
        assert_eq!(of_set(&world, reason), times, "{reason}");
    }
    assert_eq!(world.happenings.len(), 3);
    assert!(world.happenings.iter().all(|one| one.warning));
}

#[test]
fn a_halt_and_a_way_back_warn_once() {
    let mut world = with(CANARY);
    world.answers.insert("a".into(), Answer::Refuses);
    world.steps(10);
    assert_eq!(of_set(&world, "Halted"), 1);
    assert_eq!(of_rollout(&mut world, "NodeFailed").len(), 1);
    assert!(of_rollout(&mut world, "NodeFailed")[0].starts_with("node a (wave canary) failed with SymbolNotFound: "));
    world.rollout("fix").control.state = ControlState::RolledBack;
    world.steps(5);
    assert_eq!(of_set(&world, "RollingBack"), 1);
    let warned = |reason: &str| world.happenings.iter().any(|one| one.reason == reason && one.warning);
    assert!(warned("Halted") && warned("NodeFailed") && warned("RollingBack"));
    assert!(!world.happenings.iter().any(|one| one.reason == "Progressing"));
}

#[test]
fn a_set_that_is_complete_when_it_is_first_seen_has_not_become_so() {
    let mut world = with("{minReadySeconds: 0}");
    world.steps(20);
    assert_eq!(of_set(&world, "Complete"), 1);
    world.set("fix").status.conditions.clear();
    world.steps(3);
    assert_eq!(of_set(&world, "Complete"), 1);
    world.set("fix").spec.template.source.oci.reference = format!("registry.example.com/next@sha256:{DIGEST}");
    world.steps(20);
    assert_eq!(of_set(&world, "Complete"), 2, "another revision is complete");
    assert_eq!(world.granted("fix"), names(&["a", "b", "c"]));
}
