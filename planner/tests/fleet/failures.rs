//! What a failure is kept by, and what a node that failed still holds: one story each.

use crate::stories::{CANARY, names, spec, three_nodes};
use crate::world::{Answer, World, failure, node};
use livepatch_crds::node::{Grant, GrantStatus};
use livepatch_planner::fleet::snapshot::{Leave, NodeObject};
use livepatch_planner::fleet::standing::is_unresolved;

const ONE_BY_ONE: &str = "{minReadySeconds: 0, maxConcurrent: 1, maxFailed: 2}";

fn object<'a>(world: &'a mut World, name: &str) -> &'a mut NodeObject {
    world.snapshot.nodes.get_mut(name).unwrap().object.as_mut().unwrap()
}

fn entry(world: &mut World, name: &str) -> Grant {
    object(world, name).spec.livepatches[0].clone()
}

/// Two nodes, one after the other; the first one has its grant and takes long. Its name.
fn first_of_two() -> (World, String) {
    let mut world = World::new(&[("a", &[], "6.1"), ("b", &[], "6.1")]);
    world.add_set("fix", &spec("OffBand", "{}", ONE_BY_ONE), &[("6.1", "m")]);
    for name in ["a", "b"] {
        world.answers.insert(name.into(), Answer::Loads(12));
    }
    world.steps(4);
    let first = world.granted("fix").pop_first().unwrap();
    assert_eq!(world.granted("fix"), names(&[&first]));
    (world, first)
}

#[test]
fn a_node_that_fails_in_the_second_attempt_with_a_grant_of_the_first_is_not_granted_again_in_it() {
    let mut world = three_nodes();
    let bears = CANARY.replace("minReadySeconds", "maxFailed: 1, minReadySeconds");
    world.add_set("fix", &spec("Cumulative", "{}", &bears), &[("6.1", "m"), ("6.12", "m")]);
    world.answers.insert("a".into(), Answer::Loads(100));
    world.steps(4);
    world.rollout("fix").control.attempt = 2;
    world.snapshot.nodes.get_mut("a").unwrap().ready = false;
    world.steps(3);
    world.snapshot.nodes.get_mut("a").unwrap().ready = true;
    world.steps(5);
    assert_eq!(world.set("fix").status.counts.failed, 1);
    let grant = entry(&mut world, "a");
    assert_eq!((grant.attempt, grant.failed), (1, None));
}

/// Its kernel gains a taint while it loads.
fn warns(world: &mut World, name: &str) {
    object(world, name).status.kernel_taints = "W".into();
}

#[test]
fn a_failed_node_whose_load_goes_on_holds_its_slot() {
    let (mut world, first) = first_of_two();
    warns(&mut world, &first);
    for _ in 0..20 {
        world.step();
        let grant = entry(&mut world, &first);
        let open = is_unresolved(object(&mut world, &first), &grant);
        assert!(!open || world.granted("fix") == names(&[&first]));
    }
    assert_eq!(world.rollout("fix").status.failed.lost, 1);
    assert_eq!(
        world.granted("fix"),
        names(&["a", "b"]),
        "it has loaded, and the slot is free"
    );
}

#[test]
fn a_failed_node_whose_agent_cannot_begin_holds_no_slot() {
    let (mut world, first) = first_of_two();
    world.snapshot.nodes.get_mut(&first).unwrap().ready = false;
    world.step();
    assert_eq!(world.granted("fix"), names(&["a", "b"]), "it is gone");

    let (mut world, first) = first_of_two();
    warns(&mut world, &first);
    world.snapshot.leave = Leave::Granted {
        epoch: "lease/2".into(),
    };
    world.step();
    assert_eq!(
        world.granted("fix"),
        names(&["a", "b"]),
        "its grant is of a former leader"
    );
}

#[test]
fn a_failure_of_a_former_attempt_is_given_up_whether_it_was_marked_or_listed() {
    let lost: [fn(&mut World); 2] = [
        |world| object(world, "a").spec.livepatches[0].failed = None,
        |world| world.rollout("fix").status.failures.clear(),
    ];
    for lose in lost {
        let mut world = three_nodes();
        world.add_set("fix", &spec("Cumulative", "{}", CANARY), &[("6.1", "m"), ("6.12", "m")]);
        world.answers.insert("a".into(), Answer::Reboots);
        world.steps(6);
        assert_eq!(world.ready_reason("fix"), "Halted");
        world.answers.clear();
        lose(&mut world);
        world.rollout("fix").control.attempt = 2;
        world.steps(30);
        assert_eq!(world.ready_reason("fix"), "Complete");
    }
}

/// A node whose failure is marked on its grant, and not yet in the list: that write was lost.
fn marked_only() -> World {
    let mut world = three_nodes();
    world.add_set("fix", &spec("Cumulative", "{}", CANARY), &[("6.1", "m"), ("6.12", "m")]);
    world.answers.insert("a".into(), Answer::Refuses);
    world.steps(5);
    assert_eq!(entry(&mut world, "a").failed.as_deref(), Some("SymbolNotFound"));
    world.rollout("fix").status.failures.clear();
    world
}

fn listed(world: &mut World) -> (String, String) {
    let (_, status) = world.look().rollout_statuses.pop().unwrap();
    let failure = status.failures[0].clone();
    (failure.reason, failure.message)
}

#[test]
fn a_failure_that_is_marked_and_not_listed_is_told_in_the_agents_words_if_they_are_of_it() {
    let mut world = marked_only();
    let (reason, message) = listed(&mut world);
    assert_eq!(reason, "SymbolNotFound");
    assert!(message.contains("EINVAL (22)"), "{message}");

    let grant = entry(&mut world, "a");
    object(&mut world, "a").status.livepatches = vec![failure(&grant, "TransitionTimedOut", "2 tasks")];
    let (reason, message) = listed(&mut world);
    assert_eq!(
        (reason.as_str(), message.as_str()),
        ("SymbolNotFound", "this attempt failed before")
    );

    let waits = GrantStatus {
        result: livepatch_crds::node::GrantResult::Pending,
        ..failure(&grant, "SymbolNotFound", "not of this")
    };
    object(&mut world, "a").status.livepatches = vec![waits];
    assert_eq!(listed(&mut world).1, "this attempt failed before");
}

#[test]
fn failures_are_listed_with_the_wave_of_their_node() {
    let mut world = marked_only();
    world.snapshot.nodes.insert("d".into(), node("d", &[], "6.1"));
    world.step();
    let failure = world.rollout("fix").status.failures[0].clone();
    assert_eq!(
        (
            failure.node.as_str(),
            failure.wave.as_str(),
            failure.attempt,
            failure.back
        ),
        ("a", "canary", 1, false)
    );
}
