//! Absence, and nodes that move between sets.

use livepatch_agent::journal::Phase;
use livepatch_crds::node::{DesiredState, GrantResult};
use livepatch_module::ReplaceValue;

use crate::world::World;

#[tokio::test]
async fn absence_is_granted_like_presence() {
    let world = World::new();
    let mut off = world.publish("off", "off_v1", &["f"], ReplaceValue::False);
    world.grant(std::slice::from_ref(&off));
    world.live(13).await;
    off.state = DesiredState::Absent;
    world.server.lock().unwrap().transitions = 4;
    world.grant(std::slice::from_ref(&off));
    let mut agent = world.live(2).await;
    assert_eq!(
        world.loaded(),
        ["off_v1"],
        "a grant of another leadership is not acted on"
    );
    world.server.lock().unwrap().transitions = 3;
    world.rest(&mut agent, 4).await;
    assert!(world.loaded().is_empty());
    assert_eq!(world.told("off").result, GrantResult::Absent);
    assert_eq!(world.kernel.calls()[1..], ["enabled off_v1 0", "delete_module off_v1"]);
    assert_eq!(world.ready(), "True/UpToDate");
    world.rest(&mut agent, 2).await;
    assert!(world.journal().entries.is_empty());
    world.reboot(2);
    world.live(2).await;
    assert!(world.loaded().is_empty());
}

#[tokio::test]
async fn what_is_granted_no_longer_stays_and_comes_back_after_a_reboot() {
    let world = World::new();
    let off = world.publish("off", "off_v1", &["f"], ReplaceValue::False);
    world.grant(&[off]);
    world.live(13).await;
    world.grant(&[]);
    world.live(2).await;
    assert_eq!(format!("{:?}", world.status().loaded[0].owner), "Retained");
    world.reboot(2);
    world.live(1).await;
    assert_eq!(world.loaded(), ["off_v1"]);
}

#[tokio::test]
async fn a_node_that_moves_to_a_set_with_the_same_livepatch_keeps_it() {
    let world = World::new();
    let here = world.publish("off-a", "off_v1", &["f"], ReplaceValue::False);
    world.grant(std::slice::from_ref(&here));
    let mut agent = world.live(13).await;
    let mut there = here.clone();
    there.set.name = "off-b".to_owned();
    there.set.uid = "uid-of-off-b".to_owned();
    world.grant(std::slice::from_ref(&there));
    world.rest(&mut agent, 2).await;
    assert_eq!(world.loads("off_v1"), 1);
    assert_eq!(world.entry(&here), None);
    assert_eq!(world.entry(&there).unwrap().phase, Phase::Settled);
}

#[tokio::test]
async fn a_node_that_moves_between_cumulative_sets_is_never_without_one() {
    let world = World::new();
    let mut first = world.publish("cumulative", "cum_a", &["f"], ReplaceValue::True);
    world.grant(std::slice::from_ref(&first));
    let mut agent = world.live(13).await;
    let second = world.publish("cumulative-b", "cum_b", &["f"], ReplaceValue::True);
    first.state = DesiredState::Absent;
    world.grant(&[first, second]);
    world.rest(&mut agent, 3).await;
    assert_eq!(world.loaded(), ["cum_b"]);
    assert!(
        !world
            .kernel
            .calls()
            .iter()
            .any(|call| call.starts_with("enabled cum_a"))
    );
    assert_eq!(world.told("cumulative").result, GrantResult::Absent);
}
