//! The way back, asked for by a person or by failurePolicy: one story each, and what holds in all of them.

use crate::conflicts::described;
use crate::stories::{DIGEST, spec};
use crate::world::{Answer, World, module, node};
use livepatch_crds::conditions::is_true;
use livepatch_crds::node::{DesiredState, Grant};
use livepatch_crds::rollout::ControlState;
use livepatch_planner::fleet::Decision;
use livepatch_planner::fleet::snapshot::{BundleView, Leave, ModuleView};
use livepatch_planner::fleet::standing::is_unresolved;
use proptest::prelude::*;
use std::sync::Arc;

const CANARY: &str = "waves: [{name: canary, nodeSelector: {matchLabels: {pool: canary}}}]";

fn fleet(size: usize, strategy: &str) -> World {
    let mut world = World::new(&[("n0", &[("pool", "canary")], "6.1")]);
    for n in 1..size {
        let name = format!("n{n}");
        world.snapshot.nodes.insert(name.clone(), node(&name, &[], "6.1"));
    }
    world.removes = true;
    let rollout = format!("{{minReadySeconds: 1, {CANARY}, {strategy}}}");
    world.add_set("fix", &spec("Cumulative", "{}", &rollout), &[("6.1", "m")]);
    world
}

/// The next revision, as an operator that has read both artefacts sees it.
fn revise(world: &mut World, name: &str, modules: Vec<ModuleView>) {
    let set = world.set("fix");
    set.generation += 1;
    set.spec.template.source.oci.reference = format!("registry.example.com/{name}@sha256:{DIGEST}");
    let next = BundleView::Read(Arc::new(modules));
    set.former = Some(std::mem::replace(&mut set.bundle, next));
}

/// A fleet that runs `m` and gets `n`.
fn upgrade(size: usize, strategy: &str) -> World {
    let mut world = fleet(size, strategy);
    world.steps(60);
    assert_eq!(world.ready_reason("fix"), "Complete");
    revise(&mut world, "next", vec![module("6.1", "n")]);
    world
}

fn runs(world: &World, node: &str) -> Vec<String> {
    let object = world.snapshot.nodes[node].object.as_ref().unwrap();
    object
        .status
        .loaded
        .iter()
        .map(|loaded| loaded.module.clone())
        .collect()
}

fn open_grants(world: &World) -> usize {
    let objects = world.snapshot.nodes.values().filter_map(|node| node.object.as_ref());
    objects
        .filter(|object| object.spec.livepatches.iter().any(|grant| is_unresolved(object, grant)))
        .count()
}

#[test]
fn a_canary_that_warns_goes_back_and_the_rest_is_never_touched() {
    let mut world = upgrade(4, "failurePolicy: RollBack");
    world.answers.insert("n0".into(), Answer::Warns);
    let former = world.set("fix").status.current_revision.clone();
    world.steps(40);
    assert_eq!(world.ready_reason("fix"), "RolledBack");
    for name in ["n0", "n1", "n2", "n3"] {
        assert_eq!(runs(&world, name), ["m"], "{name}");
    }
    let rolled_out = world.rollout("fix").name.clone();
    for name in ["n1", "n2", "n3"] {
        let grants = &world.snapshot.nodes[name].object.as_ref().unwrap().spec.livepatches;
        assert_ne!(grants[0].rollout, rolled_out, "{name} was touched");
    }
    let status = world.set("fix").status.clone();
    assert_eq!((status.counts.rolled_back, status.current_revision), (4, former));
    assert!(is_true(&status.conditions, "Stalled") && !is_true(&status.conditions, "Ready"));
    assert!(status.blocked_by.unwrap().contains("n0 failed with KernelTainted"));
    assert!(world.rollout("fix").status.rolling_back);
    assert_eq!(world.look(), Decision::default());

    world.rollout("fix").control.attempt = 2;
    world.steps(10);
    assert_eq!(world.ready_reason("fix"), "RolledBack", "it is never turned round");
    world.answers.clear();
    revise(&mut world, "third", vec![module("6.1", "o")]);
    world.take_over();
    world.steps(60);
    assert_eq!(world.ready_reason("fix"), "Complete", "another revision goes on");
    assert_eq!(runs(&world, "n3"), ["o"]);
    assert_told!(world);
}

#[test]
fn a_person_rolls_a_complete_rollout_back_within_its_budget() {
    let mut world = upgrade(5, "maxConcurrent: 1");
    world.steps(100);
    assert_eq!(world.ready_reason("fix"), "Complete");
    world.rollout("fix").control.state = ControlState::RolledBack;
    world.answers = (0..5).map(|n| (format!("n{n}"), Answer::Loads(3))).collect();
    let mut seen = 0;
    for _ in 0..60 {
        world.step();
        assert!(open_grants(&world) <= 1);
        seen = seen.max(open_grants(&world));
        if world.ready_reason("fix") == "RollingBack" {
            assert!(is_true(&world.set("fix").status.conditions, "Reconciling"));
        }
    }
    assert_eq!(seen, 1);
    assert_eq!(world.ready_reason("fix"), "RolledBack");
    for n in 0..5 {
        assert_eq!(runs(&world, &format!("n{n}")), ["m"]);
    }
    assert_told!(world);
}

#[test]
fn where_nothing_was_before_nothing_is_after() {
    let mut world = fleet(3, "maxConcurrent: 100%");
    world.steps(40);
    world.rollout("fix").control.state = ControlState::RolledBack;
    world.steps(20);
    assert_eq!(world.ready_reason("fix"), "RolledBack");
    for name in ["n0", "n1", "n2"] {
        assert!(runs(&world, name).is_empty());
        let grants = &world.snapshot.nodes[name].object.as_ref().unwrap().spec.livepatches;
        assert_eq!(grants[0].state, DesiredState::Absent);
    }
    assert_eq!(world.look(), Decision::default());
    assert_told!(world);
}

#[test]
fn an_agent_that_cannot_remove_is_not_asked_to() {
    let mut world = fleet(2, "maxConcurrent: 100%");
    world.removes = false;
    world.steps(40);
    world.rollout("fix").control.state = ControlState::RolledBack;
    world.steps(20);
    assert_eq!(world.ready_reason("fix"), "RollingBack");
    for node in world.snapshot.nodes.values() {
        let grants = &node.object.as_ref().unwrap().spec.livepatches;
        assert_eq!(grants[0].state, DesiredState::Loaded);
    }
    assert_told!(world);
}

#[test]
fn a_grant_in_flight_is_taken_back_in_its_own_slot() {
    let mut world = upgrade(3, "maxConcurrent: 1");
    world.answers.insert("n0".into(), Answer::Loads(1000));
    world.steps(8);
    assert_eq!(open_grants(&world), 1);
    world.rollout("fix").control.state = ControlState::RolledBack;
    world.steps(10);
    assert_eq!(world.ready_reason("fix"), "RolledBack", "it runs what it ran before");
    let grants = &world.snapshot.nodes["n0"].object.as_ref().unwrap().spec.livepatches;
    assert!(
        grants[0].back && grants[0].module.name == "m",
        "the leave to load is gone"
    );
    assert_told!(world);
}

#[test]
fn what_the_kernel_would_refuse_is_told_before_and_not_tried() {
    let with_state = |name: &str, version| vec![described("6.1", name, &["f"], true, &[(7, version)])];
    for strategy in ["failurePolicy: Halt", "failurePolicy: RollBack"] {
        let mut world = fleet(3, strategy);
        world.set("fix").bundle = BundleView::Read(Arc::new(with_state("m", 1)));
        world.steps(60);
        revise(&mut world, "next", with_state("n", 2));
        world.answers.insert("n0".into(), Answer::Warns);
        world.steps(20);
        let rollback = world.rollout("fix").status.rollback.clone();
        assert!(rollback.contains("klp_state 7 in version 1"), "{rollback}");
        assert_eq!(world.ready_reason("fix"), "Halted");
        let blocked_by = world.set("fix").status.blocked_by.clone().unwrap();
        assert_eq!(
            blocked_by.contains("no way back"),
            strategy.ends_with("RollBack"),
            "{blocked_by}"
        );
        world.rollout("fix").control.state = ControlState::RolledBack;
        world.steps(10);
        assert_eq!(world.ready_reason("fix"), "RollbackImpossible");
        assert_eq!(runs(&world, "n0"), ["n"]);
    }
}

#[test]
fn a_failure_on_the_way_back_halts_until_the_next_attempt() {
    let mut world = upgrade(4, "maxConcurrent: 1");
    world.steps(80);
    assert_eq!(world.ready_reason("fix"), "Complete");
    for n in 0..4 {
        world.answers.insert(format!("n{n}"), Answer::Refuses);
    }
    world.rollout("fix").control.state = ControlState::RolledBack;
    world.steps(20);
    assert_eq!(world.ready_reason("fix"), "Halted");
    assert!(
        world
            .set("fix")
            .status
            .blocked_by
            .as_ref()
            .unwrap()
            .contains("on the way back 1 node failed")
    );
    assert!(world.rollout("fix").status.failures[0].back);
    world.answers.clear();
    world.rollout("fix").control.attempt = 2;
    world.steps(60);
    assert_eq!(world.ready_reason("fix"), "RolledBack");
    assert_eq!(runs(&world, "n3"), ["m"]);
    assert_told!(world);
}

#[test]
fn the_way_back_can_be_paused_by_an_abort_and_taken_up_again() {
    let mut world = upgrade(4, "maxConcurrent: 1");
    world.steps(80);
    world.rollout("fix").control.state = ControlState::RolledBack;
    world.steps(3);
    world.rollout("fix").control.state = ControlState::Aborted;
    world.steps(20);
    assert_eq!(world.ready_reason("fix"), "Aborted");
    assert!((0..4).any(|n| runs(&world, &format!("n{n}")) == ["n"]));
    world.rollout("fix").control.state = ControlState::RolledBack;
    world.steps(60);
    assert_eq!(world.ready_reason("fix"), "RolledBack");
    assert_told!(world);
}

#[test]
fn what_has_gone_back_stays_so_for_the_operator_that_takes_over() {
    let mut world = upgrade(2, "failurePolicy: RollBack, maxConcurrent: 1");
    world.answers.insert("n0".into(), Answer::Warns);
    world.steps(20);
    world.take_over();
    for _ in 0..3 {
        let decision = world.step();
        assert_eq!(world.ready_reason("fix"), "RolledBack");
        assert!(
            decision.set_statuses.is_empty() && decision.happenings.is_empty(),
            "{decision:?}"
        );
    }
    assert_told!(world);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn whatever_fails_ends_rolled_back_or_complete_and_within_the_budget(
        answers in proptest::collection::vec(
            prop_oneof![6 => (1u32..4).prop_map(Answer::Loads), 1 => Just(Answer::Warns), 1 => Just(Answer::Stalls)],
            2..10,
        ),
        limit in 1usize..4,
        borne in 0usize..3,
        take_over_every in 5usize..30,
    ) {
        let mut world = upgrade(
            answers.len(),
            &format!("failurePolicy: RollBack, maxConcurrent: {limit}, maxFailed: {borne}, maxStalled: {borne}"),
        );
        world.answers = answers.iter().enumerate().map(|(n, answer)| (format!("n{n}"), *answer)).collect();
        for step in 0..120 {
            if step % take_over_every == 0 {
                world.take_over();
            }
            world.step();
            prop_assert!(open_grants(&world) <= limit);
            if world.rollout("fix").status.rolling_back {
                // Going back, their kernels have nothing against what they ran before.
                world.answers.clear();
            }
        }
        let failed = answers.iter().filter(|answer| !matches!(answer, Answer::Loads(_))).count();
        let reason = world.ready_reason("fix");
        if reason == "RolledBack" {
            prop_assert!(failed > borne);
            for n in 0..answers.len() {
                prop_assert_eq!(runs(&world, &format!("n{n}")), ["m"]);
            }
        } else if failed == 0 {
            prop_assert_eq!(reason, "Complete");
        } else {
            // Some canary waits for a node that settles, or all failures were borne.
            prop_assert!(["Complete", "Progressing"].contains(&reason.as_str()), "{}", reason);
        }
        prop_assert_eq!(world.look(), Decision { wake_at: world.look().wake_at, ..Decision::default() });
    }
}

#[test]
fn a_grant_to_go_back_is_of_this_attempt_this_boot_and_the_set_as_it_is_now() {
    let mut world = upgrade(1, "maxConcurrent: 1");
    world.steps(20);
    assert_eq!(world.ready_reason("fix"), "Complete");
    let reached = world.snapshot.nodes["n0"].object.as_ref().unwrap().spec.livepatches[0].clone();
    let node = world.snapshot.nodes.get_mut("n0").unwrap();
    node.boot_id = "again".into();
    let object = node.object.as_mut().unwrap();
    object.status.boot_id = "again".into();
    object.status.kernel_taints = "O".into();
    object.spec.livepatches[0].failed = Some("TransitionTimedOut".into());
    world.snapshot.leave = Leave::Granted {
        epoch: "lease/2".into(),
    };
    world.set("fix").spec.transition.timeout_seconds = 77;
    let rollout = world.rollout("fix");
    rollout.control.state = ControlState::RolledBack;
    rollout.control.attempt = 3;
    let expected = Grant {
        epoch: "lease/2".into(),
        attempt: 3,
        module: reached.previous.clone().unwrap(),
        previous: None,
        boot_id: "again".into(),
        kernel_taints: "O".into(),
        transition_timeout_seconds: 77,
        failed: None,
        back: true,
        ..reached
    };
    assert_eq!(expected.module.name, "m");
    let change = world.look().node_changes.remove(0);
    assert_eq!(change.spec.livepatches, [expected]);
}

#[test]
fn a_node_of_which_nothing_is_known_has_not_gone_back() {
    let mut world = upgrade(1, "maxConcurrent: 1");
    world.steps(20);
    world.rollout("fix").control.state = ControlState::RolledBack;
    let node = world.snapshot.nodes.get_mut("n0").unwrap();
    node.object.as_mut().unwrap().status.boot_id = "former".into();
    let (_, status) = world.look().set_statuses.remove(0);
    assert_eq!(status.counts.unknown, 1);
    let blocked_by = status.blocked_by.unwrap();
    assert!(blocked_by.contains("1 nodes have to go back"), "{blocked_by}");
}
