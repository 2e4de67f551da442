//! Where one node stands on the way back, by every trait of it that matters.

use crate::one_node::{Change, Scene, scene};
use livepatch_crds::node::GrantResult;
use livepatch_crds::rollout::ControlState;
use livepatch_planner::fleet::standing::key;

fn told(changes: &[Change]) -> String {
    let mut scene = scene();
    scene.rollout.control.state = ControlState::RolledBack;
    for change in changes {
        change(&mut scene);
    }
    scene.told()
}

/// It has the grant that takes it back, which is carried out since so long ago as the former one was.
fn back(scene: &mut Scene) {
    let since = *scene.node.effective_since.values().next().unwrap();
    scene.grant().back = true;
    scene.node.effective_since = [(key(scene.grant()), since)].into();
}

fn next_attempt(scene: &mut Scene) {
    scene.rollout.control.attempt += 1;
}

#[test]
fn a_node_that_the_rollout_reached_waits_for_the_grant_that_takes_it_back() {
    assert_eq!(told(&[]), "Pending");
    let by_failure: Change = |scene| {
        scene.rollout.control.state = ControlState::Run;
        scene.rollout.status.rolling_back = true;
    };
    assert_eq!(told(&[by_failure]), "Pending");
    assert_eq!(told(&[|scene| scene.object().spec.livepatches.clear()]), "RolledBack");
    assert_eq!(
        told(&[|scene| scene.object().status.kernel.build_id = "other".into()]),
        "RolledBack",
        "on the kernel of now it loaded nothing"
    );
    assert_eq!(told(&[|scene| scene.node.ready = false]), "Unreachable");
    assert_eq!(
        told(&[|scene| scene.object().status.boot_id = "former".into()]),
        "Unknown"
    );
    assert_eq!(told(&[|scene| scene.object().spec.hold = "held".into()]), "Held");
    assert_eq!(
        told(&[|scene| scene.grant().failed = Some("NodeLost".into())]),
        "Pending"
    );
}

#[test]
fn a_node_with_that_grant_is_back_when_it_was_healthy_with_it_for_long_enough() {
    assert_eq!(told(&[back]), "RolledBack");
    assert_eq!(told(&[back, |scene| scene.node.effective_since.clear()]), "InFlight");
    let later: Change = |scene| scene.world.now -= jiff::SignedDuration::from_secs(1);
    assert_eq!(told(&[back, later]), "InFlight");
    assert_eq!(told(&[back, Scene::loads_nothing]), "InFlight");
    assert_eq!(told(&[back, |scene| scene.node.ready = false]), "Unreachable");
    assert_eq!(
        told(&[back, Scene::loads_nothing, |scene| scene.node.ready = false]),
        "NodeLost"
    );
    let reboots: Change = |scene| {
        scene.node.boot_id = "again".into();
        scene.object().status.boot_id = "again".into();
    };
    assert_eq!(
        told(&[back, Scene::loads_nothing, reboots]),
        "InFlight",
        "that is none by itself"
    );
}

#[test]
fn a_failure_on_the_way_back_counts_until_another_attempt_is_asked_for() {
    let fails: Change = |scene| scene.says(GrantResult::Failed, "Conflict");
    let waits: Change = |scene| scene.says(GrantResult::Pending, "Queued");
    let nothing: Change = Scene::loads_nothing;
    assert_eq!(told(&[back, nothing, fails]), "Conflict");
    assert_eq!(told(&[back, nothing, fails, next_attempt]), "Pending");
    assert_eq!(told(&[back, nothing, waits]), "InFlight");
    assert_eq!(told(&[back, nothing, waits, next_attempt]), "InFlight");
    let marked: Change = |scene| scene.grant().failed = Some("NodeLost".into());
    assert_eq!(told(&[back, marked]), "NodeLost", "whatever it looks like now");
    assert_eq!(told(&[back, marked, next_attempt]), "Pending");
}
