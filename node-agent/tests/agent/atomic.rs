//! A cumulative livepatch with atomic replace among off-band ones.

use std::time::Duration;

use livepatch_agent::journal::Phase;
use livepatch_crds::node::{Grant, GrantResult};
use livepatch_crds::policy::{ForeignPolicy, OnAtomicReplace, SupersededSet, TimeoutPolicy};
use livepatch_kernel::{FakeModule, FakeTask, Kernel as _};
use livepatch_module::{Callback, ReplaceValue};

use crate::world::World;

fn next(mut grant: Grant) -> Grant {
    grant.rollout = format!("{}-2", grant.set.name);
    grant
}

/// Cumulative v1 with two off-band livepatches beside it, all settled, and the grant for v2.
async fn beside() -> (World, [Grant; 3], Grant) {
    let world = World::new();
    let cumulative = world.publish("cumulative", "cum_v1", &["f"], ReplaceValue::True);
    let a = world.publish("off-a", "off_a", &["g"], ReplaceValue::False);
    let b = world.publish("off-b", "off_b", &["h"], ReplaceValue::False);
    world.grant(&[cumulative.clone(), a.clone(), b.clone()]);
    world.live(15).await;
    let second = next(world.publish("cumulative", "cum_v2", &["f", "f2"], ReplaceValue::True));
    (world, [cumulative, a, b], second)
}

fn sleeper(world: &World, function: &str) {
    world.kernel.add_task(FakeTask {
        pid: 9,
        comm: "sleeper".to_owned(),
        pod_uid: None,
        sleeps_in: function.to_owned(),
        until: None,
    });
}

#[tokio::test]
async fn what_it_throws_out_is_brought_back_in_order_and_the_gap_is_told() {
    let (world, [_, a, b], second) = beside().await;
    let before = world.kernel.calls().len();
    world.grant(&[second.clone(), a.clone(), b.clone()]);
    let mut agent = world.live(1).await;
    assert_eq!(world.loaded(), ["cum_v2", "off_a", "off_b"]);
    assert_eq!(
        world.kernel.calls()[before..],
        [
            "finit_module cum_v2",
            "delete_module off_a",
            "finit_module off_a",
            "delete_module off_b",
            "finit_module off_b",
            "delete_module cum_v1"
        ]
    );
    world.rest(&mut agent, 1).await;
    assert!(
        world.results().iter().all(|(result, _)| result == "Loaded"),
        "{:?}",
        world.status()
    );
    let (gap_a, gap_b) = (
        world.told("off-a").gap_milliseconds.unwrap(),
        world.told("off-b").gap_milliseconds.unwrap(),
    );
    assert!(gap_a >= 100 && gap_b > gap_a, "{gap_a} {gap_b}");
    assert_eq!(world.told("cumulative").gap_milliseconds, None);
    assert_eq!(world.entry(&a).unwrap().phase, Phase::Settled, "as proven as it was");
    assert_eq!(world.degraded().0, "AsExpected");
    world.rest(&mut agent, 12).await;
    assert_eq!(world.entry(&second).unwrap().phase, Phase::Settled);
    assert_eq!(world.status().loaded.len(), 3);
}

#[tokio::test]
async fn one_that_stalls_is_taken_back_and_the_gap_is_told_all_the_same() {
    let (world, [_, a, b], second) = beside().await;
    world.grant(&[second, a, b]);
    let mut agent = world.agent();
    agent.tell(livepatch_agent::watch::Desired::Object(world.object().into()));
    sleeper(&world, "g");
    agent.pass().await;
    // The stalled replace was taken back; nothing is lost.
    assert_eq!(world.loaded(), ["cum_v1", "off_a", "off_b"]);
    let told = world.told("cumulative");
    assert_eq!(told.reason, "TransitionTimedOut");
    assert_eq!(told.blockers[0].pid, 9);
    let gap = world.told("off-a").gap_milliseconds.unwrap();
    assert!(
        (60_000..70_000).contains(&gap),
        "reported also when it was taken back: {gap}"
    );
}

#[tokio::test]
async fn what_it_throws_out_comes_back_with_the_api_server_and_the_registry_away() {
    let (world, [_, a, b], second) = beside().await;
    world.kernel.hold_function("g");
    world.grant(&[second, a, b]);
    world.live(1).await;
    assert_eq!(world.loaded(), ["cum_v2", "off_b"]);
    world.server.lock().unwrap().away = true;
    *world.shelf.away.lock().unwrap() = true;
    world.kernel.release_function("g");
    world.live(1).await;
    assert_eq!(world.loaded(), ["cum_v2", "off_a", "off_b"]);
}

#[tokio::test]
async fn what_cannot_be_brought_back_holds_up_nobody_and_is_named() {
    let (world, [_, a, b], second) = beside().await;
    world.grant(&[second, a, b]);
    world.kernel.hold_function("g");
    let mut agent = world.live(2).await;
    assert_eq!(world.loaded(), ["cum_v2", "off_b"]);
    assert_eq!(world.told("off-a").result, GrantResult::Pending);
    let (reason, message) = world.degraded();
    assert_eq!(reason, "FixMissing");
    assert!(message.contains("off_a") && !message.contains("off_b"), "{message}");
    world.rest(&mut agent, 50).await;
    world.kernel.release_function("g");
    world.rest(&mut agent, 6).await;
    assert_eq!(world.loaded(), ["cum_v2", "off_a", "off_b"]);
    assert_eq!(world.degraded().0, "AsExpected");
    assert!(world.told("off-a").gap_milliseconds.unwrap() > 60_000);
}

#[tokio::test]
async fn nothing_is_thrown_out_whose_copy_is_damaged_and_cannot_be_had() {
    let (world, [_, a, b], second) = beside().await;
    let mut agent = world.live(1).await;
    world.grant(&[second, a.clone(), b]);
    let copy = world.disk.path().join(format!("state/store/{}.ko", a.module.sha256));
    std::fs::write(&copy, b"bit rot").unwrap();
    let digest = &a.module.digest;
    let shelved = world.shelf.modules.lock().unwrap().remove(digest).unwrap();
    world.rest(&mut agent, 3).await;
    assert_eq!(world.loaded(), ["cum_v1", "off_a", "off_b"]);
    assert_eq!(world.told("cumulative").reason, "DigestUnknown");
    world.shelf.modules.lock().unwrap().insert(digest.clone(), shelved);
    let mut again = world.object().spec.livepatches;
    again[0].attempt = 2;
    world.grant(&again);
    world.rest(&mut agent, 3).await;
    assert_eq!(world.loaded(), ["cum_v2", "off_a", "off_b"]);
    let message = world.told("cumulative").message;
    assert!(message.starts_with("Atomic: its replace flag is set"), "{message}");
}

#[tokio::test]
async fn one_that_stalls_has_its_slice_and_the_next_its_turn() {
    let (world, [_, a, b], second) = beside().await;
    world.grant(&[second, a.clone(), b]);
    // Nobody sleeps in it while it is swept, but when it comes back.
    let agent = world.agent();
    drop(agent);
    let mut module = FakeModule::new("off_a", &["g"]);
    module.objects[0].functions[0].name = "late".to_owned();
    let bytes = std::fs::read(world.disk.path().join(format!("state/store/{}.ko", a.module.sha256))).unwrap();
    world.kernel.provide(&bytes, module);
    sleeper(&world, "late");
    let mut agent = world.live(2).await;
    assert_eq!(world.loaded(), ["cum_v2", "off_b"]);
    assert_eq!(world.degraded().0, "FixMissing");
    world.kernel.wake("sleeper");
    world.rest(&mut agent, 6).await;
    assert_eq!(world.loaded(), ["cum_v2", "off_a", "off_b"]);
}

#[tokio::test]
async fn one_with_state_is_disabled_first() {
    let world = World::new();
    let cumulative = world.publish("cumulative", "cum_v1", &["f"], ReplaceValue::True);
    let mut module = FakeModule::new("off_a", &["g"]);
    module.states = vec![(7, 1)];
    let a = world.publish_as("off-a", module, ReplaceValue::False);
    let b = world.publish("off-b", "off_b", &["h"], ReplaceValue::False);
    world.describe(&b, |inspection| {
        inspection.objects[0].callbacks = vec![Callback::PreUnpatch];
    });
    world.grant(&[cumulative, a.clone(), b.clone()]);
    world.live(15).await;
    let before = world.kernel.calls().len();
    let second = next(world.publish("cumulative", "cum_v2", &["f"], ReplaceValue::True));
    world.grant(&[second, a, b]);
    world.live(1).await;
    assert_eq!(world.loaded(), ["cum_v2", "off_a", "off_b"], "{:?}", world.status());
    assert_eq!(
        world.kernel.calls()[before..][..3],
        ["enabled off_a 0", "enabled off_b 0", "finit_module cum_v2"]
    );
}

#[tokio::test]
async fn before_the_commit_point_everything_comes_back() {
    let world = World::new();
    let cumulative = world.publish("cumulative", "cum_v1", &["f"], ReplaceValue::True);
    let mut module = FakeModule::new("off_a", &["g"]);
    module.states = vec![(7, 1)];
    let a = world.publish_as("off-a", module, ReplaceValue::False);
    world.grant(&[cumulative, a.clone()]);
    world.live(15).await;
    let mut broken = FakeModule::new("cum_v2", &["f"]);
    broken.missing_symbol = Some("nope".to_owned());
    let second = next(world.publish_as("cumulative", broken, ReplaceValue::True));
    world.grant(&[second, a]);
    world.live(2).await;
    assert_eq!(world.results()[0], ("Failed".to_owned(), "SymbolNotFound".to_owned()));
    assert_eq!(world.loaded(), ["cum_v1", "off_a"]);
    assert!(world.told("off-a").gap_milliseconds.is_some());
}

#[tokio::test]
async fn an_off_band_livepatch_may_block_it() {
    let (world, [first, mut a, b], second) = beside().await;
    a.policy.off_band.on_atomic_replace = OnAtomicReplace::Block;
    world.grant(&[second.clone(), a.clone(), b]);
    world.live(2).await;
    assert_eq!(world.results()[0], ("Failed".to_owned(), "BlockedByOffBand".to_owned()));
    assert!(world.told("cumulative").message.contains("off-a"));
    assert_eq!(world.loaded(), [first.module.name.as_str(), "off_a", "off_b"]);
}

#[tokio::test]
async fn somebody_elses_goes_only_if_a_person_says_so() {
    let world = World::new();
    let mut cumulative = world.publish("cumulative", "cum_v1", &["f"], ReplaceValue::True);
    world.live(1).await;
    let image = world.kernel.image(FakeModule::new("foreign", &["z"]));
    world.kernel.start_load("foreign", &image, c"").unwrap();
    world.kernel.advance(Duration::from_secs(3));
    cumulative.policy.foreign_policy = ForeignPolicy::Replace;
    world.grant(&[cumulative]);
    world.live(2).await;
    assert_eq!(world.loaded(), ["cum_v1"]);
}

#[tokio::test]
async fn what_it_contains_gives_way_and_comes_back_with_a_rollback() {
    let (world, [first, a, b], _) = beside().await;
    let mut second = next(world.publish("cumulative", "cum_v3", &["f", "g"], ReplaceValue::True));
    world.grant(&[second.clone(), a.clone(), b.clone()]);
    world.live(2).await;
    assert_eq!(world.results()[0], ("Failed".to_owned(), "Conflict".to_owned()));
    assert!(world.told("cumulative").message.contains('g'));
    second.policy.supersedes = vec![SupersededSet {
        set: "off-a".to_owned(),
        module_sha256: vec![a.module.sha256.clone()],
    }];
    second.attempt = 2;
    world.grant(&[second.clone(), a.clone(), b.clone()]);
    world.live(15).await;
    assert_eq!(world.loaded(), ["cum_v3", "off_b"], "{:?}", world.status());
    assert_eq!(world.told("off-a").result, GrantResult::Superseded);
    assert_eq!(world.ready(), "True/UpToDate");
    // A reboot changes nothing of that.
    world.reboot(2);
    world.live(15).await;
    assert_eq!(world.loaded(), ["cum_v3", "off_b"]);
    let mut back = first.clone();
    back.rollout = "cumulative-3".to_owned();
    world.grant(&[back, a, b]);
    world.live(2).await;
    assert_eq!(world.loaded(), ["cum_v1", "off_a", "off_b"]);
    assert!(world.results().iter().all(|(result, _)| result == "Loaded"));
    assert!(world.told("off-a").gap_milliseconds.is_some());
}

#[tokio::test]
async fn what_it_says_to_contain_it_must_contain() {
    let (world, [_, a, b], _) = beside().await;
    let mut second = next(world.publish("cumulative", "cum_v3", &["f"], ReplaceValue::True));
    second.policy.supersedes = vec![SupersededSet {
        set: "off-a".to_owned(),
        module_sha256: vec![a.module.sha256.clone()],
    }];
    world.grant(&[second, a, b]);
    world.live(2).await;
    assert_eq!(world.results()[0], ("Failed".to_owned(), "NotCovered".to_owned()));
    assert_eq!(world.loaded(), ["cum_v1", "off_a", "off_b"]);
}

#[tokio::test]
async fn twenty_come_back() {
    let world = World::new();
    let mut grants = vec![world.publish("cumulative", "cum_v1", &["f"], ReplaceValue::True)];
    for number in 0..20 {
        let (set, name, function) = (
            format!("off-{number}"),
            format!("off_{number:02}"),
            format!("g{number}"),
        );
        grants.push(world.publish(&set, &name, &[&function], ReplaceValue::False));
    }
    world.grant(&grants);
    world.live(16).await;
    assert_eq!(world.loaded().len(), 21);
    let before = world.kernel.calls().len();
    grants[0] = next(world.publish("cumulative", "cum_v2", &["f"], ReplaceValue::True));
    world.grant(&grants);
    world.live(3).await;
    assert_eq!(world.loaded().len(), 21);
    let calls = world.kernel.calls();
    let loads: Vec<&str> = calls[before..]
        .iter()
        .filter_map(|call| call.strip_prefix("finit_module "))
        .collect();
    let order: Vec<&str> = grants.iter().map(|grant| grant.module.name.as_str()).collect();
    assert_eq!(loads, order);
    assert!(
        world
            .status()
            .livepatches
            .iter()
            .skip(1)
            .all(|told| told.gap_milliseconds.is_some())
    );
}

#[tokio::test]
async fn a_person_who_stops_the_agent_gets_back_what_it_took_out() {
    let (world, [_, a, b], second) = beside().await;
    world.kernel.hold_function("g");
    world.grant(&[second, a, b]);
    let mut agent = world.live(2).await;
    assert_eq!(world.loaded(), ["cum_v2", "off_b"]);
    world.change_spec(|spec| spec.hold = "maintenance".to_owned());
    world.kernel.release_function("g");
    world.kernel.advance(Duration::from_mins(6));
    world.rest(&mut agent, 2).await;
    assert_eq!(world.loaded(), ["cum_v2", "off_a", "off_b"]);
}

#[tokio::test]
async fn a_transition_may_be_waited_for() {
    let (world, [_, a, b], mut second) = beside().await;
    sleeper(&world, "g");
    second.policy.timeout_policy = TimeoutPolicy::Wait;
    world.grant(&[second, a, b]);
    let mut agent = world.live(4).await;
    assert_eq!(world.told("cumulative").result, GrantResult::Transitioning);
    assert_eq!(world.told("cumulative").reason, "TransitionStalled");
    assert!(world.kernel.calls().iter().all(|call| call != "enabled cum_v2 0"));
    world.kernel.wake("sleeper");
    world.kernel.advance(Duration::from_mins(6));
    world.rest(&mut agent, 3).await;
    assert_eq!(world.loaded(), ["cum_v2", "off_a", "off_b"]);
}

#[tokio::test]
async fn a_crash_on_probation_brings_back_what_was_before() {
    let (world, [_, a, b], second) = beside().await;
    world.grant(&[second.clone(), a, b]);
    world.live(3).await;
    assert_eq!(world.loaded(), ["cum_v2", "off_a", "off_b"]);
    world.reboot(2);
    world.server.lock().unwrap().away = true;
    *world.shelf.away.lock().unwrap() = true;
    world.live(2).await;
    assert_eq!(world.loaded(), ["cum_v1", "off_a", "off_b"]);
    assert!(matches!(world.entry(&second).unwrap().phase, Phase::Quarantined { .. }));
}
