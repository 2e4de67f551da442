//! Nodes, sets and kernels that change while a rollout is on: one story each.

use crate::stories::{CANARY, DIGEST, names, spec, three_nodes};
use crate::world::{Answer, World, module, node};
use livepatch_crds::SKIP_LABEL;
use livepatch_crds::rollout::ControlState;
use livepatch_planner::fleet::Decision;
use livepatch_planner::fleet::snapshot::{BundleView, Leave};
use livepatch_planner::fleet::standing::is_unresolved;
use std::collections::BTreeSet;
use std::sync::Arc;

const ONE_BY_ONE: &str = "{minReadySeconds: 0, maxConcurrent: 1}";

fn edge(names: &[&str]) -> World {
    let mut world = World::new(&[]);
    for name in names {
        world
            .snapshot
            .nodes
            .insert((*name).to_owned(), node(name, &[("workload", "edge")], "6.1"));
    }
    world
}

fn open_grants(world: &World) -> BTreeSet<String> {
    let open = world.snapshot.nodes.iter().filter(|(_, node)| {
        node.object
            .as_ref()
            .is_some_and(|object| object.spec.livepatches.iter().any(|grant| is_unresolved(object, grant)))
    });
    open.map(|(name, _)| name.clone()).collect()
}

fn hold(world: &World, node: &str) -> String {
    world.snapshot.nodes[node].object.as_ref().unwrap().spec.hold.clone()
}

/// Another kernel after a reboot.
fn boot_into(world: &mut World, name: &str, kernel: &str) {
    let node = world.snapshot.nodes.get_mut(name).unwrap();
    node.labels.insert("kernel".into(), kernel.into());
    node.boot_id.push_str("-again");
}

#[test]
fn a_node_that_is_deselected_in_mid_flight_holds_its_slot_until_it_ended() {
    let mut world = edge(&["a", "b"]);
    world.add_set(
        "fix",
        &spec("OffBand", "{matchLabels: {workload: edge}}", ONE_BY_ONE),
        &[("6.1", "m")],
    );
    for name in ["a", "b"] {
        world.answers.insert(name.into(), Answer::Loads(10));
    }
    world.steps(4);
    let first = world.granted("fix").pop_first().unwrap();
    world.snapshot.nodes.get_mut(&first).unwrap().labels.remove("workload");
    for _ in 0..6 {
        world.step();
        assert_eq!(
            world.granted("fix"),
            names(&[&first]),
            "its load goes on, and so its slot is not free"
        );
    }
    world.steps(40);
    assert!(!world.granted("fix").contains(&first), "what ended is left alone");
    assert_eq!(world.set("fix").status.counts.selected, 1);
    assert_eq!(world.ready_reason("fix"), "Complete");
    assert_told!(world);
}

#[test]
fn a_node_that_is_deselected_in_mid_flight_and_lost_is_a_failure() {
    let mut world = edge(&["a", "b"]);
    world.add_set(
        "fix",
        &spec("OffBand", "{matchLabels: {workload: edge}}", ONE_BY_ONE),
        &[("6.1", "m")],
    );
    for name in ["a", "b"] {
        world.answers.insert(name.into(), Answer::Loads(10));
    }
    world.steps(4);
    let first = world.granted("fix").pop_first().unwrap();
    let lost = world.snapshot.nodes.get_mut(&first).unwrap();
    lost.labels.remove("workload");
    lost.ready = false;
    world.steps(10);
    assert_eq!(world.ready_reason("fix"), "Halted");
    assert!(world.granted("fix").is_empty(), "what failed has ended");
    assert_eq!(world.rollout("fix").status.failed.lost, 1);
    assert_told!(world);
}

#[test]
fn nothing_new_is_granted_to_a_node_that_is_selected_no_longer() {
    let mut world = edge(&["a"]);
    world.add_set(
        "fix",
        &spec("OffBand", "{matchLabels: {workload: edge}}", ONE_BY_ONE),
        &[("6.1", "m")],
    );
    world.answers.insert("a".into(), Answer::Loads(1000));
    world.steps(4);
    world.snapshot.nodes.get_mut("a").unwrap().labels.remove("workload");
    world.set("fix").spec.template.source.oci.reference = format!("registry.example.com/next@sha256:{DIGEST}");
    world.set("fix").bundle = BundleView::Read(Arc::new(vec![module("6.1", "n")]));
    world.steps(10);
    let object = world.snapshot.nodes["a"].object.as_ref().unwrap();
    assert_eq!(object.spec.livepatches[0].module.name, "m");
    assert_told!(world);
}

#[test]
fn a_new_kernel_build_in_mid_rollout_has_its_own_canary_within_the_budget() {
    let all = ["a", "b", "c", "d", "e", "f"];
    let mut world = edge(&all);
    let rollout = "{minReadySeconds: 3, maxConcurrent: 2}";
    world.add_set("fix", &spec("OffBand", "{}", rollout), &[("6.1", "m"), ("7.2", "m")]);
    world.steps(60);
    assert_eq!(world.ready_reason("fix"), "Complete");
    for name in all {
        boot_into(&mut world, name, "7.2");
    }
    let mut settled = 0;
    for _ in 0..60 {
        let allowed = if settled == 0 { 1 } else { 2 };
        world.step();
        assert!(open_grants(&world).len() <= allowed, "{:?}", open_grants(&world));
        settled = world.set("fix").status.counts.settled;
    }
    assert_eq!(world.ready_reason("fix"), "Complete");
    let kernels = &world.rollout("fix").status.kernels;
    assert_eq!(
        (kernels.len(), kernels[0].release.as_str(), kernels[0].settled),
        (1, "7.2", 6)
    );
    assert_told!(world);
}

#[test]
fn a_node_that_changes_its_wave_in_mid_flight_stays_where_it_was_granted() {
    let mut world = three_nodes();
    world.add_set("fix", &spec("Cumulative", "{}", CANARY), &[("6.1", "m"), ("6.12", "m")]);
    world.answers.insert("a".into(), Answer::Loads(10));
    world.steps(4);
    world.snapshot.nodes.get_mut("a").unwrap().labels.remove("pool");
    for _ in 0..6 {
        world.step();
        assert_eq!(world.granted("fix"), names(&["a"]));
    }
    world.steps(30);
    assert_eq!(world.ready_reason("fix"), "Complete");
    assert_told!(world);
}

#[test]
fn waves_that_passed_in_a_former_start_do_not_count_even_if_nobody_wrote_that_it_ended() {
    let mut world = three_nodes();
    world.add_set("fix", &spec("Cumulative", "{}", CANARY), &[("6.1", "m"), ("6.12", "m")]);
    world.steps(20);
    let first = world.set("fix").clone();
    world.set("fix").spec.template.source.oci.reference = format!("registry.example.com/other@sha256:{DIGEST}");
    world.set("fix").bundle = BundleView::Read(Arc::new(vec![module("6.1", "n"), module("6.12", "n")]));
    world.steps(4);
    assert!(world.set("fix").rollouts.len() == 2);
    // The write that the first rollout was superseded is lost; b rebooted in the meantime.
    world.set("fix").rollouts[0].status = first.rollouts[0].status.clone();
    world.snapshot.nodes.get_mut("b").unwrap().boot_id.push_str("-again");
    world.set("fix").spec = first.spec;
    world.set("fix").bundle = first.bundle;
    world.answers.insert("a".into(), Answer::Loads(8));
    for _ in 0..8 {
        world.step();
        let passed =
            world.set("fix").rollouts[0].has_passed("canary") && world.set("fix").rollouts[0].status.start == 3;
        assert!(!passed, "the canary has not settled in this start");
    }
    world.steps(30);
    assert_eq!(
        world.ready_reason("fix"),
        "Complete",
        "a reboot between two starts is no failure"
    );
    assert_eq!(world.set("fix").rollouts[0].status.start, 3);
    assert_eq!(world.look(), Decision::default());
    assert_told!(world);
}

#[test]
fn a_set_that_returns_while_its_other_revision_is_being_loaded_takes_that_grant_back() {
    let mut world = edge(&["a", "b"]);
    world.add_set("fix", &spec("OffBand", "{}", ONE_BY_ONE), &[("6.1", "m")]);
    world.steps(20);
    assert_eq!(world.ready_reason("fix"), "Complete");
    let revise = |world: &mut World, reference: String, name: &str| {
        let set = world.set("fix");
        set.generation += 1;
        set.spec.template.source.oci.reference = reference;
        set.bundle = BundleView::Read(Arc::new(vec![module("6.1", name)]));
    };
    let first = world.set("fix").spec.template.source.oci.reference.clone();
    for name in ["a", "b"] {
        world.answers.insert(name.into(), Answer::Loads(1000));
    }
    revise(&mut world, format!("registry.example.com/next@sha256:{DIGEST}"), "n");
    world.steps(4);
    let begun = open_grants(&world);
    assert_eq!(begun.len(), 1, "the next revision is on its way");
    revise(&mut world, first, "m");
    for _ in 0..20 {
        world.step();
        let open = open_grants(&world);
        assert!(open.is_subset(&begun), "its slot is not free: {open:?}");
    }
    assert_eq!(world.ready_reason("fix"), "Complete");
    for (name, node) in &world.snapshot.nodes {
        let grants = &node.object.as_ref().unwrap().spec.livepatches;
        assert!(
            grants.iter().all(|grant| grant.module.name == "m"),
            "{name}: {grants:?}"
        );
    }
    assert_told!(world);
}

#[test]
fn a_cap_over_all_sets_is_kept_and_named() {
    let mut world = edge(&["a", "b", "c", "d"]);
    for (index, name) in ["a", "b", "c", "d"].into_iter().enumerate() {
        let half = if index < 2 { "left" } else { "right" };
        world
            .snapshot
            .nodes
            .get_mut(name)
            .unwrap()
            .labels
            .insert("half".into(), half.into());
        world.answers.insert(name.into(), Answer::Loads(6));
    }
    for half in ["left", "right"] {
        let selector = format!("{{matchLabels: {{half: {half}}}}}");
        world.add_set(half, &spec("OffBand", &selector, ONE_BY_ONE), &[("6.1", "m")]);
    }
    world.snapshot.limits.max_in_flight = Some(1);
    let mut told = false;
    for _ in 0..80 {
        world.step();
        assert!(open_grants(&world).len() <= 1, "{:?}", open_grants(&world));
        let blocked_by = world.set("right").status.blocked_by.clone().unwrap_or_default();
        told |= blocked_by.contains("1 grants in flight over all sets");
    }
    assert!(told);
    assert_eq!(
        (world.ready_reason("left"), world.ready_reason("right")),
        ("Complete".into(), "Complete".into())
    );
    assert_told!(world);
}

#[test]
fn a_node_that_is_held_from_this_moment_gets_no_grant_with_its_hold() {
    let mut world = three_nodes();
    world.add_set("fix", &spec("Cumulative", "{}", CANARY), &[("6.1", "m"), ("6.12", "m")]);
    world.snapshot.leave = Leave::default();
    world.steps(3);
    world.snapshot.leave = Leave::Granted {
        epoch: "lease/1".into(),
    };
    for node in world.snapshot.nodes.values_mut() {
        node.labels.insert(SKIP_LABEL.into(), "true".into());
    }
    for change in world.look().node_changes {
        assert!(!change.spec.hold.is_empty(), "{} is held", change.node);
        assert_eq!(
            change.new_grants, 0,
            "{} is held, and granted in the same write",
            change.node
        );
    }
    world.steps(3);
    assert!(world.granted("fix").is_empty());
    assert_eq!(world.set("fix").status.counts.held, 3);
    assert_told!(world);
}

#[test]
fn a_freeze_stops_every_grant_and_holds_what_was_not_begun() {
    let mut world = edge(&["a", "b"]);
    world.add_set("fix", &spec("OffBand", "{}", ONE_BY_ONE), &[("6.1", "m")]);
    for name in ["a", "b"] {
        world.answers.insert(name.into(), Answer::Loads(8));
    }
    world.steps(4);
    let first = world.granted("fix").pop_first().unwrap();
    let other = if first == "a" { "b" } else { "a" };
    world.snapshot.limits.frozen = Some("change freeze until Monday".into());
    world.step();
    assert!(hold(&world, &first).contains("change freeze"));
    assert!(
        hold(&world, other).is_empty(),
        "nodes without an open grant are not written"
    );
    world.steps(20);
    assert_eq!(world.granted("fix"), names(&[&first]));
    assert_eq!(world.ready_reason("fix"), "Frozen");
    world.snapshot.limits.frozen = None;
    world.steps(40);
    assert!(hold(&world, &first).is_empty());
    assert_eq!(world.ready_reason("fix"), "Complete");
    assert_told!(world);
}

/// Three nodes of which the first has settled; the others hold a grant of the first leader and are slow.
fn two_in_flight() -> (World, Vec<String>) {
    let mut world = edge(&["a", "b", "c"]);
    let strategy = "{minReadySeconds: 0, maxConcurrent: 2}";
    world.add_set(
        "fix",
        &spec("OffBand", "{matchLabels: {workload: edge}}", strategy),
        &[("6.1", "m")],
    );
    for _ in 0..10 {
        if world.granted("fix").is_empty() {
            world.step();
        }
    }
    let first = world.granted("fix").pop_first().unwrap();
    for name in ["a", "b", "c"] {
        if name != first {
            world.answers.insert(name.into(), Answer::Loads(100));
        }
    }
    world.steps(4);
    let slow: Vec<String> = open_grants(&world).into_iter().collect();
    assert_eq!(slow.len(), 2, "granted one after the other, and slow");
    world.snapshot.leave = Leave::Granted {
        epoch: "lease/2".into(),
    };
    (world, slow)
}

fn epoch(world: &World, node: &str) -> String {
    let object = world.snapshot.nodes[node].object.as_ref().unwrap();
    object.spec.livepatches[0].epoch.clone()
}

fn given_again(world: &World, nodes: &[String]) -> usize {
    nodes.iter().filter(|node| epoch(world, node) == "lease/2").count()
}

#[test]
fn more_grants_than_the_budget_are_given_again_one_after_the_other() {
    let (mut world, slow) = two_in_flight();
    world.set("fix").spec.rollout.max_concurrent = livepatch_crds::concurrency::IntOrPercent::Int(1);
    world.steps(3);
    assert_eq!(given_again(&world, &slow), 1);
    for name in &slow {
        world.answers.insert(name.clone(), Answer::Loads(1));
    }
    world.steps(20);
    assert_eq!(world.ready_reason("fix"), "Complete");
    assert_told!(world);
}

#[test]
fn a_grant_that_arrived_late_gets_a_slot_like_any_other_node() {
    let (mut world, slow) = two_in_flight();
    let uid = world.set("fix").uid.clone();
    world.set("fix").spec.rollout.max_concurrent = livepatch_crds::concurrency::IntOrPercent::Int(1);
    let late = &slow[0];
    world.snapshot.nodes.get_mut(late).unwrap().late.insert(uid);
    world.steps(3);
    assert!(
        !world.granted("fix").contains(late),
        "the other one holds the slot, and nobody begins with this"
    );
    assert_eq!(epoch(&world, &slow[1]), "lease/2");
    assert_eq!(world.set("fix").status.counts.pending, 1);
    assert_told!(world);
}

#[test]
fn a_grant_that_outlived_its_leader_goes_when_nobody_gives_it_again() {
    let (mut world, slow) = two_in_flight();
    world.rollout("fix").control.state = ControlState::Aborted;
    world.steps(3);
    let first: BTreeSet<String> = world.granted("fix");
    assert!(
        slow.iter().all(|node| !first.contains(node)),
        "what waits behind it goes on"
    );
    assert_eq!(first.len(), 1, "what was carried out stays");
    assert_eq!(world.set("fix").status.counts.pending, 2);
    assert_eq!(world.ready_reason("fix"), "Aborted");
}

#[test]
fn a_grant_that_outlived_its_leader_leaves_what_was_in_effect_before_it() {
    let mut world = edge(&["a"]);
    world.add_set(
        "fix",
        &spec("Cumulative", "{matchLabels: {workload: edge}}", ONE_BY_ONE),
        &[("6.1", "m")],
    );
    world.steps(10);
    assert_eq!(world.ready_reason("fix"), "Complete");
    let set = world.set("fix");
    set.spec.template.source.oci.reference = format!("registry.example.com/next@sha256:{DIGEST}");
    set.bundle = BundleView::Read(Arc::new(vec![module("6.1", "n")]));
    world.answers.insert("a".into(), Answer::Loads(100));
    world.steps(4);
    let entry = |world: &World| world.snapshot.nodes["a"].object.as_ref().unwrap().spec.livepatches[0].clone();
    assert_eq!(entry(&world).module.name, "n");

    world.snapshot.leave = Leave::Granted {
        epoch: "lease/2".into(),
    };
    world.rollout("fix").control.state = ControlState::Paused;
    world.steps(3);
    assert_eq!(entry(&world).module.name, "m", "as before");
    assert_eq!(entry(&world).epoch, "lease/2");
    assert_eq!(
        world.set("fix").status.counts.pending,
        1,
        "it is none of the present rollout"
    );

    world.rollout("fix").control.state = ControlState::Run;
    world.steps(3);
    assert_eq!(entry(&world).module.name, "n");
    let previous = entry(&world).previous.map(|previous| previous.name);
    assert_eq!(previous.as_deref(), Some("m"), "the way back is known");
}
