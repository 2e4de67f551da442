//! What people do to a rollout by its `spec.control`, one story each.

use crate::stories::{CANARY, DIGEST, names, spec, three_nodes};
use crate::world::{Answer, World, happened};
use livepatch_crds::conditions::is_true;
use livepatch_crds::rollout::ControlState;
use livepatch_planner::fleet::Decision;
use livepatch_planner::fleet::decision::Regarding;

fn with_fix() -> World {
    let mut world = three_nodes();
    world.add_set("fix", &spec("Cumulative", "{}", CANARY), &[("6.1", "m"), ("6.12", "m")]);
    world
}

#[test]
fn an_aborted_rollout_never_goes_on_and_another_revision_does() {
    let mut world = with_fix();
    world.answers.insert("a".into(), Answer::Loads(4));
    world.steps(4);
    assert_eq!(world.granted("fix"), names(&["a"]));
    world.rollout("fix").control.state = ControlState::Aborted;
    world.rollout("fix").control.promoted_through = Some("rest".into());
    world.rollout("fix").control.attempt = 2;
    world.steps(20);
    assert_eq!(world.granted("fix"), names(&["a"]), "a grant was given after the abort");
    assert_eq!(world.set("fix").status.counts.settled, 1, "what was on its way ended");
    assert_eq!(world.ready_reason("fix"), "Aborted");
    let conditions = world.set("fix").status.conditions.clone();
    assert!(is_true(&conditions, "Stalled") && !is_true(&conditions, "Complete"));
    assert_eq!(happened(&world, &Regarding::Set("fix".into()), "Aborted"), 1);
    assert_eq!(
        world.look(),
        Decision::default(),
        "nothing is written when nothing changes"
    );

    let aborted = world.set("fix").spec.template.clone();
    world.set("fix").spec.template.source.oci.reference = format!("registry.example.com/next@sha256:{DIGEST}");
    world.steps(20);
    assert_eq!(world.ready_reason("fix"), "Complete");
    world
        .snapshot
        .nodes
        .insert("d".into(), crate::world::node("d", &[], "6.1"));
    world.set("fix").spec.template = aborted;
    world.steps(20);
    assert_eq!(
        world.ready_reason("fix"),
        "Aborted",
        "the abort belongs to its revision"
    );
    assert!(!world.granted("fix").contains("d"));
    assert_told!(world);
}

#[test]
fn an_aborted_rollout_says_so_even_if_its_artefact_is_away_or_no_node_is_selected() {
    let mut world = with_fix();
    world.steps(3);
    world.rollout("fix").control.state = ControlState::Aborted;
    world.set("fix").bundle = livepatch_planner::fleet::snapshot::BundleView::Unread;
    world.steps(2);
    assert_eq!(world.ready_reason("fix"), "Aborted");
    world.snapshot.nodes.clear();
    world.steps(2);
    assert_eq!(world.ready_reason("fix"), "Aborted");
    assert_told!(world);
}

#[test]
fn a_node_that_is_left_out_is_not_granted_and_nothing_waits_for_it() {
    let mut world = with_fix();
    world.steps(1);
    world.rollout("fix").control.exclude_nodes = vec!["b".into(), "no-such-node".into()];
    world.steps(20);
    assert_eq!(world.granted("fix"), names(&["a", "c"]));
    assert_eq!(world.ready_reason("fix"), "Complete");
    let counts = world.set("fix").status.counts;
    assert_eq!((counts.settled, counts.excluded, counts.selected), (2, 1, 3));
    world.rollout("fix").control.exclude_nodes.clear();
    world.steps(20);
    assert_eq!(world.granted("fix"), names(&["a", "b", "c"]));
    assert_eq!(world.ready_reason("fix"), "Complete");
    assert_told!(world);
}

#[test]
fn leaving_out_a_failed_node_undoes_no_halt_but_the_next_attempt_does_without_it() {
    let mut world = with_fix();
    world
        .snapshot
        .nodes
        .insert("d".into(), crate::world::node("d", &[("pool", "canary")], "6.1"));
    world.answers.insert("a".into(), Answer::Refuses);
    world.answers.insert("d".into(), Answer::Refuses);
    world.steps(10);
    assert_eq!(world.ready_reason("fix"), "Halted");
    let failed = world.rollout("fix").status.failures[0].node.clone();
    world.answers.clear();
    world.rollout("fix").control.exclude_nodes = vec![failed.clone()];
    world.steps(10);
    assert_eq!(world.ready_reason("fix"), "Halted");
    assert_eq!(world.granted("fix").len(), 1);
    world.rollout("fix").control.attempt = 2;
    world.steps(20);
    assert_eq!(world.ready_reason("fix"), "Complete");
    let counts = world.set("fix").status.counts;
    assert_eq!((counts.settled, counts.excluded), (3, 1));
    assert_told!(world);
}

#[test]
fn a_node_in_flight_that_is_left_out_holds_its_slot_until_it_ended() {
    let mut world = World::new(&[("a", &[], "6.1"), ("b", &[], "6.1"), ("c", &[], "6.1")]);
    world.add_set(
        "fix",
        &spec("Cumulative", "{}", "{minReadySeconds: 0, maxConcurrent: 1}"),
        &[("6.1", "m")],
    );
    for node in ["a", "b", "c"] {
        world.answers.insert(node.into(), Answer::Loads(10));
    }
    world.steps(4);
    let first = world.granted("fix");
    assert_eq!(first.len(), 1);
    world.rollout("fix").control.exclude_nodes = first.iter().cloned().collect();
    world.steps(4);
    assert_eq!(world.granted("fix"), first, "its load may still begin");
    world.steps(60);
    assert_eq!(world.granted("fix").len(), 3);
    assert_eq!(world.ready_reason("fix"), "Complete");
    assert_told!(world);
}
