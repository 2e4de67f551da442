//! How many failures a rollout bears, and for how long it may stand still: one story each.

use crate::stories::{CANARY, names, spec, three_nodes};
use crate::world::{Answer, World, node};
use livepatch_crds::conditions::is_true;
use livepatch_crds::rollout::ControlState;
use livepatch_planner::fleet::Decision;

/// So many nodes, `n0` and on, in one wave without limit.
fn fleet(size: usize, rollout: &str) -> World {
    let mut world = World::new(&[]);
    for n in 0..size {
        let name = format!("n{n}");
        world.snapshot.nodes.insert(name.clone(), node(&name, &[], "6.1"));
    }
    let rollout = format!("{{minReadySeconds: 0, maxConcurrent: 100%, {rollout}}}");
    world.add_set("fix", &spec("Cumulative", "{}", &rollout), &[("6.1", "m")]);
    world
}

fn answers(world: &mut World, answer: Answer, nodes: &[&str]) {
    for name in nodes {
        world.answers.insert((*name).to_owned(), answer);
    }
}

fn blocked_by(world: &mut World) -> String {
    world.set("fix").status.blocked_by.clone().unwrap_or_default()
}

#[test]
fn failures_within_the_budget_are_borne_and_told() {
    let mut world = fleet(6, "maxFailed: 1");
    answers(&mut world, Answer::Refuses, &["n3"]);
    world.steps(30);
    assert_eq!(world.ready_reason("fix"), "Complete");
    let status = world.set("fix").status.clone();
    assert_eq!((status.counts.settled, status.counts.failed), (5, 1));
    assert!(is_true(&status.conditions, "Complete") && is_true(&status.conditions, "Degraded"));
    assert_eq!(world.rollout("fix").status.failed.refused, 1);
    assert_eq!(world.look(), Decision::default());
    assert_told!(world);
}

#[test]
fn one_failure_more_halts_and_says_of_which_kind_they_are() {
    let mut world = fleet(6, "maxFailed: 1");
    answers(&mut world, Answer::Refuses, &["n3"]);
    answers(&mut world, Answer::Reboots, &["n4"]);
    world.steps(30);
    assert_eq!(world.ready_reason("fix"), "Halted");
    let blocked_by = blocked_by(&mut world);
    let wanted = "2 nodes failed (1 lost or rebooted, 1 with a load that was refused), and maxFailed is 1";
    assert!(blocked_by.contains(wanted), "{blocked_by}");
    world.answers.clear();
    world.rollout("fix").control.attempt = 2;
    world.steps(30);
    assert_eq!(world.ready_reason("fix"), "Complete", "a new attempt has a new budget");
    assert_eq!(world.rollout("fix").status.failed.attempt, 2);
    assert_told!(world);
}

#[test]
fn stalled_transitions_have_a_budget_of_their_own() {
    let mut world = fleet(8, "maxStalled: 1");
    answers(&mut world, Answer::Stalls, &["n3"]);
    world.steps(30);
    assert_eq!(world.ready_reason("fix"), "Complete");
    let mut world = fleet(8, "maxStalled: 1, maxFailed: 7");
    answers(&mut world, Answer::Stalls, &["n3", "n4"]);
    world.steps(30);
    assert_eq!(world.ready_reason("fix"), "Halted");
    let blocked_by = blocked_by(&mut world);
    assert!(
        blocked_by.contains("stalled on 2 nodes, and maxStalled is 1"),
        "{blocked_by}"
    );
    let mut world = fleet(8, "maxFailed: 7");
    answers(&mut world, Answer::Stalls, &["n3"]);
    world.steps(60);
    assert_eq!(world.ready_reason("fix"), "Halted", "5 % of eight nodes bears none");
    assert_told!(world);
}

#[test]
fn a_failure_is_not_forgotten_when_its_node_is_gone() {
    let mut world = three_nodes();
    world.add_set("fix", &spec("Cumulative", "{}", CANARY), &[("6.1", "m"), ("6.12", "m")]);
    world
        .snapshot
        .nodes
        .insert("d".into(), node("d", &[("pool", "canary")], "6.1"));
    answers(&mut world, Answer::Refuses, &["a", "d"]);
    world.steps(10);
    assert_eq!(world.ready_reason("fix"), "Halted");
    let granted = world.granted("fix");
    assert_eq!(granted.len(), 1);
    for name in &granted {
        world.snapshot.nodes.remove(name);
    }
    world.answers.clear();
    world.take_over();
    world.steps(20);
    assert_eq!(world.ready_reason("fix"), "Halted");
    assert!(world.granted("fix").is_empty());
    assert_told!(world);
}

#[test]
fn more_failures_than_are_listed_stay_failures_when_the_nodes_come_back() {
    let mut world = fleet(20, "maxFailed: 15");
    let lost: Vec<String> = (5..20).map(|n| format!("n{n}")).collect();
    let lost: Vec<&str> = lost.iter().map(String::as_str).collect();
    answers(&mut world, Answer::Loads(3), &lost);
    world.steps(1);
    for _ in 0..60 {
        if world.granted("fix").len() < 20 {
            world.step();
        }
    }
    let mut down = 0;
    for name in &lost {
        let node = world.snapshot.nodes.get_mut(*name).unwrap();
        // The canary of the kernel build has settled before any other was granted.
        if node.object.as_ref().unwrap().status.loaded.is_empty() {
            node.ready = false;
            down += 1;
        }
    }
    assert!(down > 10);
    world.steps(2);
    for name in &lost {
        world.snapshot.nodes.get_mut(*name).unwrap().ready = true;
    }
    world.take_over();
    world.steps(30);
    let status = world.rollout("fix").status.clone();
    assert_eq!((status.failed.lost, status.counts.failed), (down, down));
    assert_eq!(status.failures.len(), 10);
    assert_eq!(world.ready_reason("fix"), "Complete");
    let (gone, _) = world.snapshot.nodes.pop_last().unwrap();
    assert!(lost.contains(&gone.as_str()));
    world.steps(3);
    assert_eq!(
        world.rollout("fix").status.failed.lost,
        down,
        "a node that is gone is counted all the same"
    );
    assert_told!(world);
}

#[test]
fn a_rollout_that_stands_still_is_told_as_stalled_and_goes_on_when_it_can() {
    let mut world = three_nodes();
    let rollout = CANARY.replace("minReadySeconds", "progressDeadlineSeconds: 60, minReadySeconds");
    world.add_set(
        "fix",
        &spec("Cumulative", "{}", &rollout),
        &[("6.1", "m"), ("6.12", "m")],
    );
    world.answers.insert("a".into(), Answer::Loads(100));
    world.steps(50);
    assert_eq!(world.ready_reason("fix"), "Progressing");
    assert!(
        world.look().wake_at.is_some(),
        "nothing else tells that the time is over"
    );
    world.steps(20);
    assert_eq!(world.ready_reason("fix"), "ProgressDeadlineExceeded");
    assert!(is_true(&world.set("fix").status.conditions, "Stalled"));
    let blocked_by = blocked_by(&mut world);
    assert!(
        blocked_by.contains("nothing has moved since") && blocked_by.contains("node a"),
        "{blocked_by}"
    );
    assert_eq!(world.look(), Decision::default());
    world.steps(60);
    assert_eq!(world.ready_reason("fix"), "Complete");
    assert_eq!(world.granted("fix"), names(&["a", "b", "c"]));

    world.steps(100);
    world.snapshot.nodes.insert("d".into(), node("d", &[], "6.1"));
    world.steps(2);
    assert_eq!(
        world.ready_reason("fix"),
        "Progressing",
        "the time counts from when there is something to do"
    );
    assert_told!(world);
}

#[test]
fn what_waits_for_a_person_has_no_deadline() {
    let mut world = three_nodes();
    let rollout = CANARY.replace("minReadySeconds", "progressDeadlineSeconds: 60, minReadySeconds");
    world.add_set(
        "fix",
        &spec("Cumulative", "{}", &rollout),
        &[("6.1", "m"), ("6.12", "m")],
    );
    world.steps(3);
    world.rollout("fix").control.state = ControlState::Paused;
    world.rollout("fix").generation += 1;
    world.steps(100);
    assert_eq!(world.ready_reason("fix"), "Paused");
    world.rollout("fix").control.state = ControlState::Run;
    world.rollout("fix").generation += 1;
    world.answers.insert("b".into(), Answer::Loads(20));
    world.steps(15);
    assert_eq!(world.ready_reason("fix"), "Progressing");
    assert_told!(world);
}
