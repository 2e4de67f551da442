//! Livepatches that are no longer in use and that the kernel still lists: it removes their entries in its own time.

use std::time::Duration;

use livepatch_crds::node::{Grant, GrantResult};
use livepatch_kernel::Kernel as _;
use livepatch_module::ReplaceValue;

use crate::world::World;

/// A cumulative livepatch that has been replaced by the next one, and is still listed for a while.
async fn replaced(freeing: Duration) -> (World, Grant, Grant) {
    let world = World::new();
    let first = world.publish("cumulative", "cum_v1", &["f"], ReplaceValue::True);
    world.grant(std::slice::from_ref(&first));
    world.live(1).await;
    world.kernel.freeing_takes(freeing);
    let mut second = world.publish("cumulative", "cum_v2", &["f"], ReplaceValue::True);
    second.rollout = "cumulative-2".to_owned();
    second.previous = Some(first.module.clone());
    world.grant(std::slice::from_ref(&second));
    world.live(1).await;
    assert_eq!(world.loaded(), ["cum_v2"]);
    assert!(world.kernel.standing("cum_v1").unwrap().is_some_and(|one| !one.enabled));
    (world, first, second)
}

#[tokio::test]
async fn a_replaced_one_that_is_granted_again_waits_until_its_entry_is_gone() {
    let (world, mut first, second) = replaced(Duration::from_secs(90)).await;
    first.attempt = 2;
    first.back = true;
    first.transition_timeout_seconds = 300;
    first.previous = Some(second.module);
    world.grant(std::slice::from_ref(&first));
    let mut agent = world.agent();
    for _ in 0..4 {
        world.pass(&mut agent).await;
        let told = world.told("cumulative");
        assert_ne!(told.result, GrantResult::Failed, "{told:?}");
    }
    assert_eq!(world.loaded(), ["cum_v1"]);
    assert_eq!(world.loads("cum_v1"), 2);
    assert_eq!(world.told("cumulative").reason, "Effective");
}

#[tokio::test]
async fn an_entry_that_never_goes_is_waited_for_until_the_deadline() {
    let (world, mut first, second) = replaced(Duration::from_mins(10)).await;
    first.attempt = 2;
    first.previous = Some(second.module);
    first.transition_timeout_seconds = 30;
    world.grant(std::slice::from_ref(&first));
    let before = world.kernel.now();
    world.live(1).await;
    assert!(world.kernel.now().since(before) >= Duration::from_secs(30));
    assert_eq!(world.loaded(), ["cum_v2"]);
    assert_eq!(world.told("cumulative").reason, "NameTaken");
    assert_eq!(world.loads("cum_v1"), 1);
}

#[tokio::test]
async fn nothing_is_told_of_who_disabled_it_before_its_entry_is_gone() {
    let world = World::new();
    let grant = world.publish("off", "off_v1", &["f"], ReplaceValue::False);
    world.grant(std::slice::from_ref(&grant));
    let mut agent = world.live(1).await;
    world.kernel.freeing_takes(Duration::from_secs(90));
    world.kernel.set_enabled("off_v1", false).unwrap();
    world.kernel.advance(Duration::from_secs(3));
    world.pass(&mut agent).await;
    let told = world.told("off");
    assert_eq!((told.result, told.reason.as_str()), (GrantResult::Pending, "Vanishing"));
    world.kernel.advance(Duration::from_secs(90));
    world.pass(&mut agent).await;
    assert_eq!(world.told("off").reason, "Drifted");
}

#[tokio::test]
async fn what_somebody_else_is_disabling_before_it_is_granted_is_waited_for() {
    let world = World::new();
    let grant = world.publish("off", "off_v1", &["f"], ReplaceValue::False);
    let mut agent = world.live(1).await;
    let image = world.kernel.image(livepatch_kernel::FakeModule::new("off_v1", &["f"]));
    world.kernel.start_load("off_v1", &image, c"").unwrap();
    world.kernel.advance(Duration::from_secs(3));
    world.kernel.transition_takes(Duration::from_secs(30));
    world.kernel.set_enabled("off_v1", false).unwrap();
    world.grant(&[grant]);
    world.pass(&mut agent).await;
    let told = world.told("off");
    assert_eq!((told.result, told.reason.as_str()), (GrantResult::Pending, "Queued"));
    world.kernel.advance(Duration::from_mins(1));
    world.rest(&mut agent, 3).await;
    assert_eq!(world.loaded(), ["off_v1"]);
}
