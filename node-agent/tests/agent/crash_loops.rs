//! Clean and unclean ends, and nodes that go down again and again.

use livepatch_agent::journal::Phase;
use livepatch_kernel::Kernel as _;
use livepatch_module::ReplaceValue;

use crate::world::World;

#[tokio::test]
async fn a_clean_reboot_on_probation_quarantines_nothing() {
    let world = World::new();
    let off = world.publish("off", "off_v1", &["f"], ReplaceValue::False);
    world.grant(std::slice::from_ref(&off));
    let mut agent = world.live(2).await;
    agent.leave();
    drop(agent);
    world.reboot(2);
    world.server.lock().unwrap().away = true;
    world.live(1).await;
    assert_eq!(world.loaded(), ["off_v1"]);
    assert!(matches!(world.entry(&off).unwrap().phase, Phase::Applied { .. }));
}

#[tokio::test]
async fn an_agent_that_was_restarted_before_the_crash_does_not_hide_it() {
    let world = World::new();
    let off = world.publish("off", "off_v1", &["f"], ReplaceValue::False);
    world.grant(std::slice::from_ref(&off));
    world.live(2).await.leave();
    world.live(1).await;
    world.reboot(2);
    world.live(1).await;
    assert!(world.loaded().is_empty());
    assert!(matches!(world.entry(&off).unwrap().phase, Phase::Quarantined { .. }));
}

#[tokio::test]
async fn two_crashes_after_loads_stop_everything_until_a_person_tries_again() {
    let world = World::new();
    let cumulative = world.publish("cumulative", "cum_v1", &["f"], ReplaceValue::True);
    let mut off = world.publish("off", "off_v1", &["g"], ReplaceValue::False);
    world.grant(&[cumulative.clone(), off.clone()]);
    world.live(13).await;
    // Both had settled, so both come back; the node goes down again, late enough to be off probation.
    for boot in [2, 3] {
        world.reboot(boot);
        let loads = world.kernel.calls().len();
        world.live(13).await;
        if boot == 2 {
            assert_eq!(world.loaded(), ["cum_v1", "off_v1"]);
        } else {
            assert_eq!(world.kernel.calls().len(), loads, "nothing is loaded");
            assert_eq!(world.degraded().0, "CrashLoopSuspected");
            let told = ("Failed".to_owned(), "CrashLoopSuspected".to_owned());
            assert!(
                world.results().iter().all(|one| *one == told),
                "so that they are granted anew"
            );
        }
    }
    world.reboot(4);
    world.live(3).await;
    assert!(world.loaded().is_empty(), "a further crash does not lift it");
    off.attempt = 2;
    world.grant(&[cumulative, off]);
    world.live(3).await;
    assert_eq!(world.loaded(), ["cum_v1", "off_v1"]);
}

#[tokio::test]
async fn an_hour_in_peace_ends_the_suspicion() {
    let world = World::new();
    let off = world.publish("off", "off_v1", &["g"], ReplaceValue::False);
    world.grant(&[off]);
    world.live(13).await;
    for boot in [2, 3, 4] {
        world.reboot(boot);
        world.live(65).await;
        assert_eq!(world.loaded(), ["off_v1"]);
    }
}

#[tokio::test]
async fn what_was_superseded_on_probation_is_under_suspicion_too() {
    let world = World::new();
    let settled = world.publish("cumulative", "cum_v1", &["f"], ReplaceValue::True);
    world.grant(std::slice::from_ref(&settled));
    world.live(13).await;
    let mut grants = Vec::new();
    for (number, name) in [(2, "cum_v2"), (3, "cum_v3")] {
        let mut grant = world.publish("cumulative", name, &["f"], ReplaceValue::True);
        grant.rollout = format!("cumulative-{number}");
        world.grant(std::slice::from_ref(&grant));
        world.live(2).await;
        grants.push(grant);
    }
    world.reboot(2);
    world.live(1).await;
    assert_eq!(world.loaded(), ["cum_v1"]);
    for grant in &grants {
        assert!(matches!(world.entry(grant).unwrap().phase, Phase::Quarantined { .. }));
    }
}

#[tokio::test]
async fn a_module_that_was_forced_out_stops_everything_until_the_next_boot() {
    let world = World::new();
    let off = world.publish("off", "off_v1", &["f"], ReplaceValue::False);
    world.grant(std::slice::from_ref(&off));
    let mut agent = world.live(13).await;
    world.kernel.set_enabled("off_v1", false).unwrap();
    world.kernel.force("off_v1");
    world.kernel.advance(std::time::Duration::from_secs(1));
    world.rest(&mut agent, 2).await;
    let other = world.publish("other", "other_v1", &["h"], ReplaceValue::False);
    world.grant(&[off, other]);
    world.rest(&mut agent, 2).await;
    assert_eq!(world.told("other").reason, "RebootRequired");
    assert_eq!(world.degraded().0, "RebootRequired");
    assert_eq!(world.loads("other_v1"), 0);
    world.reboot(2);
    world.live(3).await;
    assert_eq!(world.loads("other_v1"), 1);
}

#[tokio::test]
async fn a_probation_is_served_once() {
    let world = World::new();
    let cumulative = world.publish("cumulative", "cum_v1", &["f"], ReplaceValue::True);
    let mut off = world.publish("off", "off_v1", &["g"], ReplaceValue::False);
    let newest = world.publish("newest", "newest_v1", &["h"], ReplaceValue::False);
    world.grant(&[cumulative.clone(), off.clone()]);
    world.live(75).await;
    world.grant(&[cumulative.clone(), off.clone(), newest.clone()]);
    world.live(2).await;
    world.reboot(2);
    world.live(2).await;
    assert_eq!(world.loaded(), ["cum_v1", "off_v1"], "only the newest is suspected");
    assert_eq!(world.told("newest").reason, "RebootedOnProbation");
    // Again, soon: nothing is loaded, but nothing else is put into quarantine either.
    world.reboot(3);
    world.live(2).await;
    assert!(world.loaded().is_empty());
    assert_eq!(world.degraded().0, "CrashLoopSuspected");
    off.attempt = 2;
    world.grant(&[cumulative, off, newest]);
    world.live(3).await;
    assert_eq!(world.loaded(), ["cum_v1", "off_v1"]);
    assert_eq!(world.told("newest").reason, "RebootedOnProbation");
    assert_eq!(world.loads("newest_v1"), 0, "in this boot");
}

#[tokio::test]
async fn one_crash_soon_after_a_boot_takes_no_fix_away() {
    let world = World::new();
    let off = world.publish("off", "off_v1", &["g"], ReplaceValue::False);
    world.grant(&[off]);
    world.live(75).await;
    for boot in [2, 3] {
        world.reboot(boot);
        world.live(1).await;
        assert_eq!(world.loaded(), ["off_v1"], "boot {boot}");
    }
    world.reboot(4);
    world.live(1).await;
    assert!(world.loaded().is_empty(), "the second crash soon after a load");
    assert_eq!(world.degraded().0, "CrashLoopSuspected");
}
