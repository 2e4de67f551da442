//! The agent dies before and after each thing it asks of the kernel; the next one brings about the same end.

use std::sync::Arc;

use livepatch_crds::node::Grant;
use livepatch_kernel::FakeTask;
use livepatch_module::ReplaceValue;

use crate::mortal::{Moment, Mortal};
use crate::world::World;

/// Lives until the chosen call. False if it was never made.
async fn live_until(world: &World, dies_at: usize, moment: Moment, passes: usize) -> bool {
    let mortal = Mortal::new(world.kernel.clone(), dies_at, moment);
    let (died, funeral) = (mortal.died(), mortal.funeral());
    let mut agent = world.agent_on(Arc::new(mortal));
    let dead = tokio::select! {
        biased;
        () = died.notified() => true,
        () = async { for _ in 0..passes { world.pass(&mut agent).await; } } => false,
    };
    drop(agent);
    drop(funeral);
    dead
}

/// Runs a world once for each call at which its agent can die, and for both moments of that call.
async fn at_every_call<S>(begin: impl Fn() -> (World, S), end: impl AsyncFn(&World, &S, usize, Moment)) {
    for moment in [Moment::Before, Moment::After] {
        let mut deaths = 0;
        loop {
            let (world, state) = begin();
            let dead = live_until(&world, deaths + 1, moment, 3).await;
            end(&world, &state, deaths + 1, moment).await;
            if !dead {
                break;
            }
            deaths += 1;
        }
        assert!(deaths > 20, "only {deaths} calls: this proves nothing");
    }
}

fn with_grant() -> (World, Grant) {
    let world = World::new();
    let grant = world.publish("off", "off_v1", &["f"], ReplaceValue::False);
    world.grant(std::slice::from_ref(&grant));
    (world, grant)
}

#[tokio::test]
async fn whenever_it_dies_the_pair_is_loaded_once() {
    at_every_call(with_grant, async |world, grant, call, moment| {
        world.live(3).await;
        assert_eq!(world.loaded(), ["off_v1"], "{call} {moment:?}");
        assert_eq!(world.loads("off_v1"), 1, "{call} {moment:?}");
        assert_eq!(world.results()[0].0, "Loaded", "{call} {moment:?}");
        assert!(world.entry(grant).unwrap().is_in_effect(), "{call} {moment:?}");
    })
    .await;
}

fn sleeper() -> FakeTask {
    FakeTask {
        pid: 7,
        comm: "sleeper".to_owned(),
        pod_uid: None,
        sleeps_in: "f".to_owned(),
        until: None,
    }
}

#[tokio::test]
async fn whenever_it_dies_a_stalled_transition_is_taken_back_at_its_first_deadline() {
    let stalled = || {
        let (world, grant) = with_grant();
        world.kernel.add_task(sleeper());
        (world, grant)
    };
    // Some hundred looks per transition, all alike: only the first and the last of them tell.
    for moment in [Moment::Before, Moment::After] {
        for call in (1..80).chain((80..2000).step_by(53)) {
            let (world, _) = stalled();
            live_until(&world, call, moment, 3).await;
            world.live(6).await;
            assert!(world.loaded().is_empty(), "{call} {moment:?}");
            assert_eq!(
                world.results()[0].0,
                "Failed",
                "{call} {moment:?}: {:?}",
                world.status()
            );
            assert_eq!(world.results()[0].1, "TransitionTimedOut", "{call} {moment:?}");
            assert_eq!(world.loads("off_v1"), 1, "{call} {moment:?}");
        }
    }
}

#[tokio::test]
async fn whenever_it_dies_the_gap_of_a_replace_that_was_taken_back_is_told() {
    for moment in [Moment::Before, Moment::After] {
        let mut taken_back = 0;
        for call in (1..80).chain((80..2000).step_by(7)) {
            let world = World::new();
            let cumulative = world.publish("cumulative", "cum", &["f"], ReplaceValue::True);
            let off_band = world.publish("off", "off", &["g"], ReplaceValue::False);
            world.grant(std::slice::from_ref(&off_band));
            world.live(1).await;
            world.kernel.add_task(sleeper());
            world.grant(&[cumulative, off_band]);
            let dead = live_until(&world, call, moment, 3).await;
            let at = world
                .kernel
                .calls()
                .iter()
                .filter(|made| *made == "enabled cum 0")
                .count();
            taken_back += at;
            world.live(6).await;
            assert_eq!(world.loaded(), ["off"], "{call} {moment:?}");
            assert_eq!(world.results()[0].1, "TransitionTimedOut", "{call} {moment:?}");
            let gap = world.told("off").gap_milliseconds;
            assert!(gap.is_some_and(|gap| gap >= 60_000), "{call} {moment:?}: {gap:?}");
            if !dead {
                break;
            }
        }
        assert!(
            taken_back > 3,
            "it died after it took the replace back only {taken_back} times"
        );
    }
}

#[tokio::test]
async fn whenever_the_node_reboots_nothing_begun_is_loaded_again() {
    at_every_call(with_grant, async |world, _, call, moment| {
        let begun = world.loads("off_v1") > 0;
        let recorded = world
            .journal_file()
            .read()
            .unwrap()
            .is_some_and(|journal| !journal.entries.is_empty());
        assert!(
            recorded || !begun,
            "{call} {moment:?}: the intent is on disk before the kernel is asked"
        );
        world.reboot(2);
        world.live(3).await;
        let (result, reason) = world.results()[0].clone();
        if recorded {
            assert!(world.loaded().is_empty(), "{call} {moment:?}");
            assert_eq!(result, "Failed", "{call} {moment:?}");
            assert!(reason.starts_with("Rebooted"), "{call} {moment:?}: {reason}");
        } else {
            assert_eq!(result, "Loaded", "{call} {moment:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn whenever_it_dies_a_cumulative_replaces_its_predecessor_once() {
    let second_granted = || {
        let world = World::new();
        let first = world.publish("cumulative", "cum_v1", &["f"], ReplaceValue::True);
        let mut second = world.publish("cumulative", "cum_v2", &["f", "g"], ReplaceValue::True);
        second.rollout = "cumulative-2".to_owned();
        (world, (first, second))
    };
    for moment in [Moment::Before, Moment::After] {
        for call in 1.. {
            let (world, (first, second)) = second_granted();
            world.grant(&[first]);
            world.live(1).await;
            world.grant(std::slice::from_ref(&second));
            let dead = live_until(&world, call, moment, 3).await;
            world.live(4).await;
            assert_eq!(world.loaded(), ["cum_v2"], "{call} {moment:?}");
            assert_eq!(world.loads("cum_v2"), 1, "{call} {moment:?}");
            assert_eq!(world.results()[0].0, "Loaded", "{call} {moment:?}");
            let calls = world.kernel.calls();
            assert_eq!(
                calls.iter().filter(|made| *made == "delete_module cum_v1").count(),
                1,
                "{call} {moment:?}"
            );
            if !dead {
                break;
            }
        }
    }
}
