//! Stories in which several things happen at once; what is written in them is compared with their transcripts.

use crate::stories::{DIGEST, spec};
use crate::world::{Answer, World, module, node};
use livepatch_crds::SKIP_LABEL;
use livepatch_crds::rollout::ControlState;
use livepatch_planner::fleet::snapshot::{BundleView, Leave, ModuleView};
use std::sync::Arc;

/// A fleet of three zones and two kernels, with two nodes in a pool of their own.
fn zones() -> World {
    let mut world = World::new(&[]);
    for n in 0..12 {
        let zone = ["east", "north", "west"][n % 3];
        let pool = if n < 2 { "canary" } else { "workers" };
        let kernel = if n % 4 == 3 { "6.12" } else { "6.1" };
        let labels = [("topology.kubernetes.io/zone", zone), ("pool", pool)];
        let name = format!("n{n:02}");
        world.snapshot.nodes.insert(name.clone(), node(&name, &labels, kernel));
    }
    world
}

fn revise(world: &mut World, set: &str, name: &str, modules: Vec<ModuleView>) {
    let set = world.set(set);
    set.generation += 1;
    set.spec.template.source.oci.reference = format!("registry.example.com/{name}@sha256:{DIGEST}");
    let next = BundleView::Read(Arc::new(modules));
    set.former = Some(std::mem::replace(&mut set.bundle, next));
}

const FOUR_WAVES: &str = "{minReadySeconds: 2, maxConcurrent: 3, maxFailed: 1, maxStalled: 1, progressDeadlineSeconds: 60, waves: [\
    {name: canary, nodeSelector: {matchLabels: {pool: canary}}, minSucceeded: 2, soakSeconds: 5}, \
    {name: part, percent: 25, maxConcurrent: 1, then: AwaitPromotion}, \
    {name: half, percent: 30, maxConcurrent: 50%, soakSeconds: 3, then: AwaitPromotion}]}";

#[test]
fn four_waves_with_slow_nodes_a_stalled_one_and_a_promotion() {
    let mut world = zones();
    world.add_set(
        "fix",
        &spec("Cumulative", "{}", FOUR_WAVES),
        &[("6.1", "m"), ("6.12", "m")],
    );
    for (n, answer) in [(0, 3), (4, 5), (7, 4), (9, 6), (11, 3)] {
        world.answers.insert(format!("n{n:02}"), Answer::Loads(answer));
    }
    world.answers.insert("n05".into(), Answer::Stalls);
    world.steps(45);
    world.rollout("fix").control.promoted_through = Some("part".into());
    world.rollout("fix").generation += 1;
    world.steps(30);
    world.rollout("fix").control.promoted_through = Some("half".into());
    world.rollout("fix").generation += 1;
    world.steps(60);
    assert_eq!(world.ready_reason("fix"), "Complete");
    assert_told!(world);
}

#[test]
fn a_revision_in_mid_rollout_with_nodes_in_flight_in_two_waves() {
    let mut world = zones();
    world.add_set(
        "fix",
        &spec("OffBand", "{matchLabels: {pool: workers}}", FOUR_WAVES),
        &[("6.1", "m"), ("6.12", "m")],
    );
    world.steps(2);
    world.rollout("fix").control.promoted_through = Some("half".into());
    world.steps(10);
    for n in 0..12 {
        world.answers.insert(format!("n{n:02}"), Answer::Loads(20));
    }
    world.steps(8);
    revise(&mut world, "fix", "next", vec![module("6.1", "n"), module("6.12", "n")]);
    world.steps(6);
    world.rollout("fix").control.promoted_through = Some("half".into());
    world.snapshot.leave = Leave::Granted {
        epoch: "lease/2".into(),
    };
    world.take_over();
    world.steps(10);
    for n in 0..12 {
        world.answers.insert(format!("n{n:02}"), Answer::Loads(2));
    }
    world.steps(120);
    assert_eq!(world.ready_reason("fix"), "Complete");
    assert_told!(world);
}

#[test]
fn nodes_that_are_held_lost_new_silent_and_left_out_in_one_rollout() {
    let mut world = zones();
    world.add_set(
        "fix",
        &spec(
            "Cumulative",
            "{}",
            "{minReadySeconds: 1, maxConcurrent: 2, maxFailed: 20%}",
        ),
        &[("6.1", "m")],
    );
    world
        .snapshot
        .nodes
        .get_mut("n04")
        .unwrap()
        .labels
        .insert(SKIP_LABEL.into(), "true".into());
    world.snapshot.nodes.get_mut("n05").unwrap().ready = false;
    world.answers.insert("n06".into(), Answer::Vanishes);
    world.answers.insert("n08".into(), Answer::Reboots);
    world.steps(2);
    world.rollout("fix").control.exclude_nodes = vec!["n09".into()];
    world.steps(25);
    world.snapshot.nodes.insert("n99".into(), node("n99", &[], "6.1"));
    world.snapshot.nodes.get_mut("n05").unwrap().ready = true;
    world
        .snapshot
        .nodes
        .get_mut("n04")
        .unwrap()
        .labels
        .insert(SKIP_LABEL.into(), "false".into());
    world.snapshot.nodes.get_mut("n10").unwrap().boot_id = "again".into();
    world.steps(25);
    world.rollout("fix").control.attempt = 2;
    world.answers.clear();
    world.snapshot.nodes.get_mut("n06").unwrap().ready = true;
    world.steps(30);
    assert_told!(world);
}

#[test]
fn three_cumulative_sets_of_which_the_oldest_goes_on() {
    let mut world = zones();
    let quick = "{minReadySeconds: 0, maxConcurrent: 100%}";
    let everywhere = [("6.1", "m"), ("6.12", "m")];
    world.add_set("c-late", &spec("Cumulative", "{}", quick), &everywhere);
    world.set("c-late").created += jiff::SignedDuration::from_secs(60);
    world.add_set(
        "b-early",
        &spec("Cumulative", "{matchLabels: {pool: canary}}", quick),
        &everywhere,
    );
    world.add_set(
        "a-twin",
        &spec("Cumulative", "{matchLabels: {pool: canary}}", quick),
        &everywhere,
    );
    world.set("a-twin").created = world.snapshot.sets[1].created;
    world.add_set(
        "off",
        &spec("OffBand", "{matchLabels: {pool: canary}}", quick),
        &[("6.1", "o")],
    );
    world.steps(10);
    world.snapshot.sets.retain(|set| set.name != "a-twin");
    world.steps(10);
    world.set("b-early").deleting = true;
    world.steps(10);
    world.snapshot.sets.retain(|set| set.name != "b-early");
    world.steps(30);
    assert_told!(world);
}

#[test]
fn modules_for_builds_of_one_release_and_artefacts_that_cannot_be_used() {
    let mut world = World::new(&[("a", &[], "6.1"), ("b", &[], "6.1"), ("c", &[], "6.12")]);
    world.add_set("fix", &spec("OffBand", "{}", "{minReadySeconds: 0}"), &[]);
    let of_build = |build: &str, name: &str| ModuleView {
        kernel_build_id: Some(build.into()),
        ..module("6.1", name)
    };
    let other_machine = ModuleView {
        architecture: "arm64".into(),
        ..module("6.12", "elsewhere")
    };
    world.set("fix").bundle = BundleView::Unread;
    world.steps(3);
    world.set("fix").bundle = BundleView::Unusable {
        reason: "DigestUnknown",
        message: "manifest unknown".into(),
        retried: false,
    };
    world.steps(3);
    world.set("fix").bundle = BundleView::Read(Arc::new(vec![
        module("6.1", "for_any"),
        of_build("id-6.1", "for_this"),
        of_build("id-other", "for_other"),
        other_machine,
    ]));
    world.steps(10);
    world.set("fix").spec.node_selector =
        serde_saphyr::from_str("{matchExpressions: [{key: kernel, operator: In, values: []}]}").unwrap();
    world.steps(3);
    assert_told!(world);
}

#[test]
fn a_way_back_with_nodes_lost_rebooted_and_slow() {
    let mut world = zones();
    world.removes = true;
    let strategy = "{minReadySeconds: 1, maxConcurrent: 3, maxFailed: 2, failurePolicy: RollBack, \
                    waves: [{name: canary, nodeSelector: {matchLabels: {pool: canary}}, maxConcurrent: 1}]}";
    world.add_set(
        "fix",
        &spec("Cumulative", "{}", strategy),
        &[("6.1", "m"), ("6.12", "m")],
    );
    world.steps(40);
    revise(&mut world, "fix", "next", vec![module("6.1", "n"), module("6.12", "n")]);
    world.steps(12);
    for (n, answer) in [
        (3, Answer::Warns),
        (4, Answer::Warns),
        (5, Answer::Refuses),
        (6, Answer::Warns),
        (7, Answer::Loads(9)),
        (8, Answer::Warns),
    ] {
        world.answers.insert(format!("n{n:02}"), answer);
    }
    world.steps(15);
    world.snapshot.nodes.get_mut("n00").unwrap().ready = false;
    world.snapshot.nodes.get_mut("n01").unwrap().boot_id = "again".into();
    world.snapshot.leave = Leave::Granted {
        epoch: "lease/2".into(),
    };
    world.steps(15);
    world.answers.clear();
    world.snapshot.nodes.get_mut("n00").unwrap().ready = true;
    world.rollout("fix").control.attempt = 2;
    world.steps(40);
    world.rollout("fix").control.state = ControlState::Aborted;
    world.steps(3);
    assert_told!(world);
}

#[test]
fn two_off_band_sets_and_a_cap_with_a_freeze_and_a_removal() {
    let mut world = zones();
    world.removes = true;
    let strategy = "{minReadySeconds: 1, maxConcurrent: 4}";
    let selector = "{matchLabels: {pool: workers}}";
    world.add_set(
        "first",
        &spec("OffBand", selector, strategy),
        &[("6.1", "p"), ("6.12", "p")],
    );
    world.add_set("second", &spec("OffBand", selector, strategy), &[("6.1", "q")]);
    world.set("second").spec.removal_policy = livepatch_crds::policy::RemovalPolicy::Unload;
    world.snapshot.limits.max_in_flight = Some(3);
    for n in 0..12 {
        world.answers.insert(format!("n{n:02}"), Answer::Loads(3));
    }
    world.steps(15);
    world.snapshot.limits.frozen = Some("until the books are closed".into());
    world.steps(5);
    world.snapshot.limits.frozen = None;
    world.steps(60);
    let labels = &mut world.snapshot.nodes.get_mut("n05").unwrap().labels;
    labels.insert("pool".into(), "spare".into());
    world.steps(5);
    world.snapshot.leave = Leave::default();
    let labels = &mut world.snapshot.nodes.get_mut("n06").unwrap().labels;
    labels.insert("pool".into(), "spare".into());
    world.steps(3);
    world.snapshot.leave = Leave::Granted {
        epoch: "lease/2".into(),
    };
    world.steps(5);
    assert_told!(world);
}
