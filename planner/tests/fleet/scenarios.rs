//! One story each, from the set's appearance to its end.

use crate::stories::{CANARY, DIGEST, names, spec, three_nodes};
use crate::world::{Answer, World, happened, module, node};
use livepatch_crds::conditions::is_true;
use livepatch_crds::rollout::{ControlState, WaveState};
use livepatch_planner::fleet::decision::Regarding;
use livepatch_planner::fleet::snapshot::{BundleView, Leave};
use livepatch_planner::fleet::{Decision, decide};

#[test]
fn the_canary_settles_before_any_other_node_is_granted() {
    let mut world = three_nodes();
    world.add_set("fix", &spec("Cumulative", "{}", CANARY), &[("6.1", "m"), ("6.12", "m")]);
    world.answers.insert("a".into(), Answer::Loads(5));
    for _ in 0..8 {
        world.step();
        assert!(world.granted("fix").is_subset(&names(&["a"])));
        assert!(!is_true(&world.set("fix").status.conditions, "Complete"));
    }
    world.steps(12);
    assert_eq!(world.granted("fix"), names(&["a", "b", "c"]));
    assert_eq!(world.ready_reason("fix"), "Complete");
    assert!(is_true(&world.set("fix").status.conditions, "Complete"));
    assert_eq!(happened(&world, &Regarding::Set("fix".into()), "Complete"), 1);
    assert_eq!(
        decide(&world.snapshot, world.now),
        Decision::default(),
        "nothing is written when nothing changes"
    );
    assert_told!(world);
}

#[test]
fn a_failed_canary_halts_and_only_a_new_attempt_goes_on() {
    let mut world = three_nodes();
    world.add_set("fix", &spec("Cumulative", "{}", CANARY), &[("6.1", "m"), ("6.12", "m")]);
    world.answers.insert("a".into(), Answer::Refuses);
    world.steps(20);
    assert_eq!(world.granted("fix"), names(&["a"]));
    assert_eq!(world.ready_reason("fix"), "Halted");
    assert!(is_true(&world.set("fix").status.conditions, "Stalled"));
    let failure = world.rollout("fix").status.failures[0].clone();
    assert_eq!(
        (failure.node.as_str(), failure.reason.as_str()),
        ("a", "SymbolNotFound")
    );
    assert!(
        world
            .set("fix")
            .status
            .blocked_by
            .as_ref()
            .unwrap()
            .contains("EINVAL (22)")
    );
    let rollout = world.rollout("fix").name.clone();
    assert_eq!(happened(&world, &Regarding::Rollout(rollout), "NodeFailed"), 1);

    world.answers.clear();
    world.steps(5);
    assert_eq!(world.ready_reason("fix"), "Halted", "a halt is not undone by itself");
    world.rollout("fix").control.attempt = 2;
    world.steps(20);
    assert_eq!(world.ready_reason("fix"), "Complete");
    assert_told!(world);
}

#[test]
fn what_befalls_a_granted_node_is_a_failure_until_its_wave_has_passed() {
    for (answer, reason) in [
        (Answer::Vanishes, "NodeLost"),
        (Answer::Reboots, "NodeRebooted"),
        (Answer::Warns, "KernelTainted"),
    ] {
        let mut world = three_nodes();
        world.add_set("fix", &spec("Cumulative", "{}", CANARY), &[("6.1", "m"), ("6.12", "m")]);
        world.answers.insert("a".into(), answer);
        world.steps(12);
        assert_eq!(world.ready_reason("fix"), "Halted");
        assert_eq!(world.rollout("fix").status.failures[0].reason, reason);
        assert_eq!(world.granted("fix"), names(&["a"]));
    }
}

#[test]
fn a_node_that_is_lost_and_comes_back_stays_a_failure() {
    let mut world = three_nodes();
    world.add_set("fix", &spec("Cumulative", "{}", CANARY), &[("6.1", "m"), ("6.12", "m")]);
    world.steps(3);
    world.snapshot.nodes.get_mut("a").unwrap().ready = false;
    world.steps(2);
    world.snapshot.nodes.get_mut("a").unwrap().ready = true;
    world.take_over();
    world.steps(20);
    assert_eq!(world.ready_reason("fix"), "Halted");
    assert_eq!(world.granted("fix"), names(&["a"]));
    assert_told!(world);
}

#[test]
fn a_reboot_after_the_wave_has_passed_is_only_a_reboot() {
    let mut world = three_nodes();
    world.add_set("fix", &spec("Cumulative", "{}", CANARY), &[("6.1", "m"), ("6.12", "m")]);
    world.steps(20);
    assert_eq!(world.ready_reason("fix"), "Complete");
    world.snapshot.nodes.get_mut("b").unwrap().boot_id = "another".into();
    world.step();
    assert!(!is_true(&world.set("fix").status.conditions, "Degraded"));
    world.steps(6);
    assert_eq!(world.ready_reason("fix"), "Complete");
    assert_told!(world);
}

#[test]
fn an_empty_wave_waits_for_promotion() {
    let mut world = World::new(&[("b", &[], "6.1")]);
    world.add_set("fix", &spec("Cumulative", "{}", CANARY), &[("6.1", "m")]);
    world.steps(10);
    assert_eq!(world.ready_reason("fix"), "WaveEmpty");
    assert!(world.granted("fix").is_empty());
    world.rollout("fix").control.promoted_through = Some("canary".into());
    world.steps(10);
    assert_eq!(world.ready_reason("fix"), "Complete");
    assert_told!(world);
}

#[test]
fn a_wave_soaks_and_then_awaits_promotion() {
    let rollout = "{minReadySeconds: 0, waves: [{name: canary, nodeSelector: {matchLabels: {pool: canary}}, \
                   soakSeconds: 30, then: AwaitPromotion}]}";
    let mut world = three_nodes();
    world.add_set(
        "fix",
        &spec("Cumulative", "{}", rollout),
        &[("6.1", "m"), ("6.12", "m")],
    );
    world.steps(10);
    assert_eq!(world.ready_reason("fix"), "Soaking");
    let soak = world.look().wake_at.unwrap();
    assert!(
        world.now < soak && soak.duration_since(world.now).as_secs() < 30,
        "{soak}"
    );
    world.take_over();
    while world.now <= soak {
        assert_eq!(world.granted("fix"), names(&["a"]));
        world.step();
    }
    world.steps(5);
    assert_eq!(world.ready_reason("fix"), "AwaitingPromotion");
    assert_eq!(world.granted("fix"), names(&["a"]));
    world.rollout("fix").control.promoted_through = Some("canary".into());
    world.steps(20);
    assert_eq!(world.ready_reason("fix"), "Complete");
    assert_told!(world);
}

#[test]
fn a_set_that_selects_no_node_is_not_complete() {
    let mut world = three_nodes();
    world.add_set(
        "fix",
        &spec("Cumulative", "{matchLabels: {no: node}}", "{}"),
        &[("6.1", "m")],
    );
    world.steps(5);
    assert_eq!(world.ready_reason("fix"), "NoNodesSelected");
    assert!(!is_true(&world.set("fix").status.conditions, "Complete"));
    assert_told!(world);
}

#[test]
fn a_kernel_without_a_module_is_not_applicable() {
    let mut world = three_nodes();
    world.add_set("fix", &spec("Cumulative", "{}", CANARY), &[("6.1", "m")]);
    world.steps(20);
    let counts = world.set("fix").status.counts;
    assert_eq!((counts.settled, counts.not_applicable, counts.selected), (2, 1, 3));
    assert_eq!(world.ready_reason("fix"), "Complete");
    assert!(!world.granted("fix").contains("c"));
    assert_told!(world);
}

#[test]
fn the_newcomer_of_two_cumulative_sets_is_refused_and_the_incumbent_goes_on() {
    let mut world = three_nodes();
    world.add_set("old", &spec("Cumulative", "{}", CANARY), &[("6.1", "m"), ("6.12", "m")]);
    world.steps(3);
    world.add_set(
        "new",
        &spec("Cumulative", "{matchLabels: {pool: canary}}", "{}"),
        &[("6.1", "n")],
    );
    world.steps(20);
    assert_eq!(world.ready_reason("old"), "Complete");
    assert_eq!(world.ready_reason("new"), "SetConflict");
    assert!(world.granted("new").is_empty());
    let accepted = world
        .set("new")
        .status
        .conditions
        .iter()
        .find(|c| c.type_ == "Accepted")
        .unwrap()
        .clone();
    assert!(
        accepted.message.contains("old") && accepted.message.contains("node a"),
        "{}",
        accepted.message
    );
    world.snapshot.sets.retain(|set| set.name != "old");
    world.steps(80);
    assert_eq!(
        world.ready_reason("new"),
        "Complete",
        "with the incumbent gone the newcomer begins"
    );
    assert_told!(world);
}

#[test]
fn a_node_made_anew_under_its_name_gets_an_object_of_its_own() {
    let mut world = three_nodes();
    world.add_set("fix", &spec("Cumulative", "{}", CANARY), &[("6.1", "m"), ("6.12", "m")]);
    world.answers.insert("b".into(), Answer::Loads(100));
    world.steps(10);
    let mut anew = node("b", &[], "6.1");
    anew.uid = "another".into();
    anew.boot_id = "another".into();
    anew.object = world.snapshot.nodes["b"].object.clone();
    world.snapshot.nodes.insert("b".into(), anew);
    world.answers.clear();
    world.steps(20);
    assert_eq!(
        world.snapshot.nodes["b"].object.as_ref().unwrap().spec.node_uid,
        "another"
    );
    assert_eq!(world.ready_reason("fix"), "Complete");
    assert_told!(world);
}

#[test]
fn nothing_is_granted_while_leave_is_withheld_or_the_rollout_is_paused() {
    let mut world = three_nodes();
    world.add_set("fix", &spec("Cumulative", "{}", CANARY), &[("6.1", "m"), ("6.12", "m")]);
    world.snapshot.leave = Leave::Withheld {
        reason: "AdmissionPoliciesMissing",
        message: "no policy".into(),
    };
    world.steps(5);
    assert!(world.granted("fix").is_empty());
    assert_eq!(world.ready_reason("fix"), "AdmissionPoliciesMissing");
    world.snapshot.leave = Leave::Granted {
        epoch: "lease/2".into(),
    };
    world.rollout("fix").control.state = ControlState::Paused;
    world.steps(5);
    assert!(world.granted("fix").is_empty());
    assert_eq!(world.ready_reason("fix"), "Paused");
    world.rollout("fix").control.state = ControlState::Run;
    world.steps(20);
    assert_eq!(world.ready_reason("fix"), "Complete");
    assert_told!(world);
}

#[test]
fn a_registry_that_goes_away_leaves_the_set_as_it_is_and_stalls_nothing_else() {
    let mut world = three_nodes();
    world.add_set(
        "fix",
        &spec("OffBand", "{matchLabels: {pool: canary}}", "{}"),
        &[("6.1", "m")],
    );
    world.add_set(
        "other",
        &spec("Cumulative", "{matchLabels: {kernel: '6.12'}}", "{minReadySeconds: 0}"),
        &[("6.12", "m")],
    );
    world.set("fix").bundle = BundleView::Unusable {
        reason: "RegistryUnavailable",
        message: "connection refused".into(),
        retried: true,
    };
    world.steps(10);
    assert_eq!(world.ready_reason("fix"), "RegistryUnavailable");
    assert!(!is_true(&world.set("fix").status.conditions, "Stalled"));
    assert_eq!(world.ready_reason("other"), "Complete");
    assert_told!(world);
}

#[test]
fn an_unreachable_node_without_a_grant_is_skipped_and_catches_up() {
    let mut world = three_nodes();
    world.add_set("fix", &spec("Cumulative", "{}", CANARY), &[("6.1", "m"), ("6.12", "m")]);
    world.snapshot.nodes.get_mut("b").unwrap().ready = false;
    world.steps(20);
    assert_eq!(world.ready_reason("fix"), "Complete");
    assert_eq!(world.set("fix").status.counts.unreachable, 1);
    world.snapshot.nodes.get_mut("b").unwrap().ready = true;
    world.steps(10);
    assert_eq!(world.granted("fix"), names(&["a", "b", "c"]));
    assert_eq!(world.ready_reason("fix"), "Complete");
    assert_told!(world);
}

#[test]
fn a_new_revision_gets_a_rollout_and_history_is_kept_within_its_limit() {
    let mut world = three_nodes();
    world.add_set("fix", &spec("Cumulative", "{}", CANARY), &[("6.1", "m"), ("6.12", "m")]);
    world.set("fix").spec.revision_history_limit = 1;
    world.steps(20);
    for revision in 1..=3 {
        let set = world.set("fix");
        set.generation += 1;
        set.spec.template.source.oci.reference = format!("registry.example.com/r{revision}@sha256:{DIGEST}");
        world.steps(20);
        assert_eq!(world.ready_reason("fix"), "Complete");
    }
    let rollouts = &world.set("fix").rollouts;
    assert_eq!(rollouts.len(), 2);
    let reason = |index: usize| {
        &rollouts[index]
            .status
            .conditions
            .iter()
            .find(|c| c.type_ == "Ready")
            .unwrap()
            .reason
    };
    assert_eq!((reason(0).as_str(), reason(1).as_str()), ("Superseded", "Complete"));
    assert!(
        rollouts[1]
            .status
            .waves
            .iter()
            .all(|wave| wave.state == WaveState::Passed)
    );
    assert_told!(world);
}

#[test]
fn a_set_that_returns_to_a_former_revision_goes_through_the_waves_anew() {
    let mut world = three_nodes();
    world.add_set("fix", &spec("Cumulative", "{}", CANARY), &[("6.1", "m"), ("6.12", "m")]);
    world.steps(20);
    let first = world.set("fix").clone();
    world.set("fix").spec.template.source.oci.reference = format!("registry.example.com/other@sha256:{DIGEST}");
    world.set("fix").bundle = BundleView::Read(std::sync::Arc::new(vec![module("6.1", "n"), module("6.12", "n")]));
    world.steps(20);
    assert_eq!(world.ready_reason("fix"), "Complete");
    world.set("fix").spec = first.spec;
    world.set("fix").bundle = first.bundle;
    world.answers.insert("a".into(), Answer::Loads(5));
    for _ in 0..7 {
        world.step();
        let of_first = |node: &str| {
            let object = world.snapshot.nodes[node].object.as_ref().unwrap();
            object.spec.livepatches[0].module.name == "m"
        };
        assert!(
            !of_first("b") && !of_first("c"),
            "granted before the canary settled again"
        );
    }
    world.steps(20);
    assert_eq!(world.ready_reason("fix"), "Complete");
    assert_told!(world);
}

#[test]
fn a_grant_that_came_to_no_end_is_given_again_by_the_next_leader() {
    let mut world = three_nodes();
    world.add_set("fix", &spec("Cumulative", "{}", CANARY), &[("6.1", "m"), ("6.12", "m")]);
    world.answers.insert("a".into(), Answer::Loads(100));
    world.steps(5);
    let epoch = |world: &World| {
        world.snapshot.nodes["a"].object.as_ref().unwrap().spec.livepatches[0]
            .epoch
            .clone()
    };
    assert_eq!(epoch(&world), "lease/1");
    world.snapshot.leave = Leave::Granted {
        epoch: "lease/2".into(),
    };
    world.step();
    assert_eq!(epoch(&world), "lease/2");
    world.rollout("fix").control.state = ControlState::Paused;
    world.snapshot.leave = Leave::Granted {
        epoch: "lease/3".into(),
    };
    world.step();
    assert_eq!(
        epoch(&world),
        "lease/2",
        "while the rollout is paused nothing new may begin"
    );
    world.answers.insert("a".into(), Answer::Loads(1));
    world.rollout("fix").control.state = ControlState::Run;
    world.steps(30);
    assert_eq!(world.ready_reason("fix"), "Complete");
    assert_eq!(world.look(), Decision::default());
    assert_told!(world);
}
