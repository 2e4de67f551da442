//! One version of an off-band livepatch for another, and cumulative ones without the replace flag.

use livepatch_agent::journal::Phase;
use livepatch_crds::node::{Grant, GrantResult};
use livepatch_crds::policy::{Drift, Upgrade};
use livepatch_kernel::{FakeModule, FakeTask, Kernel as _};
use livepatch_module::{Callback, ReplaceValue};

use crate::world::World;

fn next(mut grant: Grant) -> Grant {
    grant.rollout = format!("{}-2", grant.set.name);
    grant
}

async fn off_v1() -> (World, Grant) {
    let world = World::new();
    let first = world.publish("off", "off_v1", &["f"], ReplaceValue::False);
    world.grant(std::slice::from_ref(&first));
    world.live(13).await;
    (world, first)
}

#[tokio::test]
async fn load_first_has_no_gap() {
    let (world, first) = off_v1().await;
    let second = next(world.publish("off", "off_v2", &["f", "g"], ReplaceValue::False));
    world.grant(std::slice::from_ref(&second));
    let mut agent = world.live(1).await;
    world.rest(&mut agent, 2).await;
    assert_eq!(world.loaded(), ["off_v2"]);
    assert_eq!(
        world.kernel.calls()[1..],
        ["finit_module off_v2", "enabled off_v1 0", "delete_module off_v1"]
    );
    assert_eq!(world.told("off").gap_milliseconds, None);
    assert!(matches!(
        world.entry(&first).unwrap().phase,
        Phase::Superseded { settled: true, .. }
    ));
}

#[tokio::test]
async fn load_first_is_refused_with_the_reason() {
    type Change = fn(&World, &Grant, &Grant);
    let cases: [(&str, &[&str], Change); 5] = [
        ("StackingFunctionsDropped", &["g"], |_, _, _| {}),
        ("StackingCallbacks", &["f"], |world, _, new| {
            world.describe(new, |inspection| {
                inspection.objects[0].callbacks = vec![Callback::PostPatch];
            });
        }),
        ("StackingShadowVariables", &["f"], |world, _, new| {
            world.describe(new, |inspection| inspection.shadow_variables = true);
        }),
        ("StackingStates", &["f"], |world, _, new| {
            let state = livepatch_module::State { id: 3, version: 1 };
            world.describe(new, |inspection| inspection.states = vec![state]);
        }),
        ("StackingThirdParty", &["f", "z"], |world, _, _| {
            let image = world.kernel.image(FakeModule::new("foreign", &["z"]));
            world.kernel.start_load("foreign", &image, c"").unwrap();
            world.kernel.advance(std::time::Duration::from_secs(3));
        }),
    ];
    for (reason, functions, change) in cases {
        let (world, first) = off_v1().await;
        let second = next(world.publish("off", "off_v2", functions, ReplaceValue::False));
        change(&world, &first, &second);
        world.grant(&[second]);
        world.live(2).await;
        assert_eq!(world.results(), [("Failed".to_owned(), reason.to_owned())]);
        assert!(world.loaded().contains(&"off_v1".to_owned()));
        assert_eq!(world.loads("off_v2"), 0);
    }
}

#[tokio::test]
async fn a_predecessor_that_cannot_be_disabled_stays_and_is_tried_again() {
    let (world, _) = off_v1().await;
    let second = next(world.publish("off", "off_v2", &["f"], ReplaceValue::False));
    world.grant(&[second]);
    let fail = livepatch_kernel::Call::WriteEnabled;
    for _ in 0..2 {
        world.kernel.fail_next(fail, nix_eio(), None);
    }
    let mut agent = world.live(1).await;
    assert_eq!(world.loaded(), ["off_v1", "off_v2"]);
    assert_eq!(world.told("off").result, GrantResult::Loaded);
    assert_eq!(world.told("off").reason, "PredecessorRemains");
    world.rest(&mut agent, 6).await;
    assert_eq!(world.loaded(), ["off_v2"]);
    assert_eq!(world.told("off").reason, "Effective");
}

fn nix_eio() -> nix::errno::Errno {
    nix::errno::Errno::EIO
}

#[tokio::test]
async fn unload_first_has_a_gap_that_is_told() {
    let (world, _) = off_v1().await;
    let mut second = next(world.publish("off", "off_v2", &["g"], ReplaceValue::False));
    second.policy.off_band.upgrade = Upgrade::UnloadFirst;
    world.grant(&[second]);
    world.live(2).await;
    assert_eq!(world.loaded(), ["off_v2"]);
    assert_eq!(world.kernel.calls()[1..3], ["enabled off_v1 0", "finit_module off_v2"]);
    assert!(world.told("off").gap_milliseconds.unwrap() >= 50);
}

#[tokio::test]
async fn unload_first_that_fails_brings_the_former_one_back() {
    let (world, _) = off_v1().await;
    let mut broken = FakeModule::new("off_v2", &["g"]);
    broken.missing_symbol = Some("nope".to_owned());
    let mut second = next(world.publish_as("off", broken, ReplaceValue::False));
    second.policy.off_band.upgrade = Upgrade::UnloadFirst;
    world.grant(&[second]);
    world.live(3).await;
    assert_eq!(world.results(), [("Failed".to_owned(), "SymbolNotFound".to_owned())]);
    assert_eq!(world.loaded(), ["off_v1"]);
}

#[tokio::test]
async fn unload_first_that_stalls_is_taken_back() {
    let (world, _) = off_v1().await;
    let mut second = next(world.publish("off", "off_v2", &["g"], ReplaceValue::False));
    second.policy.off_band.upgrade = Upgrade::UnloadFirst;
    world.kernel.add_task(FakeTask {
        pid: 4,
        comm: "sleeper".to_owned(),
        pod_uid: None,
        sleeps_in: "f".to_owned(),
        until: None,
    });
    world.grant(&[second]);
    world.live(3).await;
    assert_eq!(world.results(), [("Failed".to_owned(), "DisableTimedOut".to_owned())]);
    assert_eq!(world.told("off").blockers[0].pid, 4);
    assert_eq!(world.loaded(), ["off_v1"]);
    assert_eq!(world.loads("off_v2"), 0);
}

#[tokio::test]
async fn cumulative_ones_without_the_flag_are_stacked_and_others_have_no_gap() {
    let world = World::new();
    let first = world.publish("cumulative", "cum_v1", &["f"], ReplaceValue::False);
    let off = world.publish("off", "off_v1", &["g"], ReplaceValue::False);
    world.grant(&[first, off.clone()]);
    world.live(13).await;
    let second = next(world.publish("cumulative", "cum_v2", &["f", "h"], ReplaceValue::False));
    world.grant(&[second.clone(), off]);
    world.live(3).await;
    assert_eq!(world.loaded(), ["cum_v2", "off_v1"]);
    assert_eq!(world.loads("off_v1"), 1);
    let plan = world.entry(&second).unwrap().plan.unwrap();
    assert_eq!(plan.mode.to_string(), "Stacked");
    assert!(plan.because.iter().any(|why| why.contains("cum_v1")));
}

#[tokio::test]
async fn back_to_a_predecessor_that_is_still_there() {
    let (world, first) = off_v1().await;
    let second = next(world.publish("off", "off_v2", &["f"], ReplaceValue::False));
    world.grant(&[second]);
    world
        .kernel
        .fail_next(livepatch_kernel::Call::WriteEnabled, nix_eio(), None);
    let mut agent = world.live(1).await;
    assert_eq!(world.loaded(), ["off_v1", "off_v2"]);
    let mut back = first;
    back.rollout = "off-3".to_owned();
    world.grant(std::slice::from_ref(&back));
    world.rest(&mut agent, 6).await;
    assert_eq!(world.loaded(), ["off_v1"]);
    assert_eq!(world.loads("off_v1"), 1);
}

#[tokio::test]
async fn a_rollout_that_is_taken_back_takes_the_node_back() {
    let (world, first) = off_v1().await;
    let second = next(world.publish("off", "off_v2", &["f", "g"], ReplaceValue::False));
    world.grant(std::slice::from_ref(&second));
    world.live(13).await;
    assert_eq!(world.loaded(), ["off_v2"]);
    let mut back = second;
    back.module = first.module;
    back.back = true;
    world.grant(std::slice::from_ref(&back));
    world.live(3).await;
    assert_eq!(world.loaded(), ["off_v1"]);
    let told = world.told("off");
    assert!(
        told.message.starts_with("UnloadFirst: the rollout is taken back"),
        "{told:?}"
    );
    assert!(told.gap_milliseconds.unwrap() >= 50);
    back.state = livepatch_crds::node::DesiredState::Absent;
    world.grant(&[back]);
    world.live(3).await;
    assert!(world.loaded().is_empty());
    assert_eq!(world.told("off").result, GrantResult::Absent);
}

#[tokio::test]
async fn what_a_person_disables_comes_back_once_an_hour_if_the_set_says_so() {
    let world = World::new();
    let mut grant = world.publish("off", "off_v1", &["f"], ReplaceValue::False);
    grant.policy.drift = Drift::Restore;
    world.grant(std::slice::from_ref(&grant));
    let mut agent = world.live(13).await;
    for loads in [2, 3] {
        world.kernel.set_enabled("off_v1", false).unwrap();
        world.kernel.advance(std::time::Duration::from_secs(3));
        world.rest(&mut agent, 3).await;
        assert_eq!(world.loads("off_v1"), 2, "once an hour");
        if loads == 3 {
            assert_eq!(world.results(), [("Failed".to_owned(), "Drifted".to_owned())]);
            world.rest(&mut agent, 61).await;
            assert_eq!(world.loads("off_v1"), 3);
        }
        assert_eq!(world.loaded(), ["off_v1"]);
    }
}

#[tokio::test]
async fn the_way_back_is_brought_to_the_node_before_the_way_forward_begins() {
    let (world, first) = off_v1().await;
    let mut second = next(world.publish("off", "off_v2", &["f"], ReplaceValue::False));
    let older = world.publish("off", "off_v0", &["f"], ReplaceValue::False);
    second.previous = Some(older.module.clone());
    world.grant(&[second]);
    world.live(1).await;
    for grant in [&first, &older] {
        let copy = format!("state/store/{}.ko", grant.module.sha256);
        assert!(world.disk.path().join(copy).exists());
    }
    assert!(world.loaded().contains(&"off_v2".to_owned()));
}
