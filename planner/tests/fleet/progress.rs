//! How far the waves are told to be: one story each.

use crate::stories::{CANARY, spec, three_nodes};
use crate::world::{Answer, World, node};
use jiff::SignedDuration;
use livepatch_crds::rollout::ControlState;

fn blocked_by(world: &mut World) -> String {
    world.set("fix").status.blocked_by.clone().unwrap_or_default()
}

fn with(rollout: &str) -> World {
    let mut world = three_nodes();
    world.add_set(
        "fix",
        &spec("Cumulative", "{}", rollout),
        &[("6.1", "m"), ("6.12", "m")],
    );
    world
}

fn complete() -> World {
    let mut world = with(CANARY);
    world.steps(20);
    assert_eq!(world.ready_reason("fix"), "Complete");
    world
}

#[test]
fn a_wave_needs_as_many_settled_nodes_as_it_says_or_a_promotion() {
    for (needs, reason) in [(1, "Complete"), (2, "Progressing")] {
        let canary =
            format!("[{{name: canary, nodeSelector: {{matchLabels: {{pool: canary}}}}, minSucceeded: {needs}}}]");
        let mut world = with(&format!("{{minReadySeconds: 0, waves: {canary}}}"));
        let silent = node("silent", &[("pool", "canary")], "7.2");
        world.snapshot.nodes.insert("silent".into(), silent);
        world.steps(20);
        assert_eq!(world.ready_reason("fix"), reason);
        if needs == 2 {
            let blocked_by = blocked_by(&mut world);
            assert!(blocked_by.contains("1 settled nodes and needs 2"), "{blocked_by}");
            world.rollout("fix").control.promoted_through = Some("canary".into());
            world.steps(10);
            assert_eq!(world.ready_reason("fix"), "Complete");
        }
    }
}

#[test]
fn the_rest_needs_a_settled_node_if_it_has_any() {
    let mut world = World::new(&[("a", &[("pool", "canary")], "6.1")]);
    world.add_set("fix", &spec("Cumulative", "{}", CANARY), &[("6.1", "m")]);
    world.steps(10);
    assert_eq!(world.ready_reason("fix"), "Complete", "nothing is left for the rest");

    let mut world = World::new(&[("a", &[("pool", "canary")], "6.1"), ("b", &[], "7.2")]);
    world.add_set("fix", &spec("Cumulative", "{}", CANARY), &[("6.1", "m")]);
    world.steps(10);
    assert_eq!(world.ready_reason("fix"), "Progressing");
    let blocked_by = blocked_by(&mut world);
    assert!(
        blocked_by.contains("wave rest has 0 settled nodes and needs 1"),
        "{blocked_by}"
    );
    world.rollout("fix").control.promoted_through = Some("rest".into());
    world.steps(3);
    assert_eq!(world.ready_reason("fix"), "Complete");
}

#[test]
fn a_soak_is_over_at_its_second_and_an_empty_wave_has_none() {
    let soaks = CANARY.replace("nodeSelector", "soakSeconds: 30, nodeSelector");
    let mut world = with(&soaks);
    for _ in 0..20 {
        if world.ready_reason("fix") != "Soaking" {
            world.step();
        }
    }
    let over = world.look().wake_at.unwrap();
    world.now = over - SignedDuration::from_secs(1);
    world.look();
    assert!(world.look().rollout_statuses.is_empty(), "not a second before");
    world.now = over;
    let (_, status) = world.look().rollout_statuses.pop().unwrap();
    assert_eq!(status.waves[0].state, livepatch_crds::rollout::WaveState::Passed);

    let mut world = World::new(&[("b", &[], "6.1")]);
    world.add_set("fix", &spec("Cumulative", "{}", &soaks), &[("6.1", "m")]);
    world.steps(4);
    world.rollout("fix").control.promoted_through = Some("canary".into());
    world.steps(8);
    assert_eq!(world.ready_reason("fix"), "Complete");
}

#[test]
fn a_complete_rollout_is_paused_only_if_there_is_something_to_do() {
    let mut world = complete();
    world.rollout("fix").control.state = ControlState::Paused;
    world.steps(3);
    assert_eq!(world.ready_reason("fix"), "Complete");
    world.snapshot.nodes.insert("d".into(), node("d", &[], "6.1"));
    world.steps(3);
    assert_eq!(world.ready_reason("fix"), "Paused");
    assert!(!world.granted("fix").contains("d"));
    world.rollout("fix").control.state = ControlState::Run;
    world.steps(10);
    assert_eq!(world.ready_reason("fix"), "Complete");
}

#[test]
fn a_pause_hides_no_halt() {
    let mut world = with(CANARY);
    world.answers.insert("a".into(), Answer::Refuses);
    world.steps(6);
    world.rollout("fix").control.state = ControlState::Paused;
    world.steps(2);
    assert_eq!(world.ready_reason("fix"), "Halted");
}

#[test]
fn a_node_that_joins_a_complete_rollout_makes_it_incomplete_until_it_has_settled() {
    let mut world = complete();
    world.snapshot.nodes.insert("d".into(), node("d", &[], "6.1"));
    world.answers.insert("d".into(), Answer::Loads(3));
    let mut stood = Vec::new();
    for _ in 0..12 {
        world.step();
        let counts = world.set("fix").status.counts;
        let told = (counts.unknown, counts.pending, counts.in_flight);
        assert_eq!(world.ready_reason("fix") == "Complete", told == (0, 0, 0), "{told:?}");
        if told != (0, 0, 0) {
            let blocked_by = blocked_by(&mut world);
            assert!(blocked_by.contains("1 nodes that came later"), "{blocked_by}");
        }
        stood.push(told);
    }
    for told in [(1, 0, 0), (0, 1, 0), (0, 0, 1)] {
        assert!(stood.contains(&told), "{told:?} in {stood:?}");
    }
    assert_eq!(world.ready_reason("fix"), "Complete");
}

#[test]
fn what_fails_after_all_waves_have_passed_halts_all_the_same() {
    let mut world = complete();
    world.snapshot.nodes.insert("d".into(), node("d", &[], "6.1"));
    world.answers.insert("d".into(), Answer::Refuses);
    world.steps(8);
    assert_eq!(world.ready_reason("fix"), "Halted");
    let blocked_by = blocked_by(&mut world);
    assert!(blocked_by.starts_with("every wave has passed, but"), "{blocked_by}");
}

#[test]
fn a_rollout_without_a_settled_node_is_not_complete() {
    let mut world = complete();
    world.rollout("fix").control.exclude_nodes = ["a", "b", "c"].map(String::from).to_vec();
    world.steps(3);
    assert_eq!(world.ready_reason("fix"), "Progressing");
    let blocked_by = blocked_by(&mut world);
    assert!(blocked_by.contains("no node has settled"), "{blocked_by}");
}
