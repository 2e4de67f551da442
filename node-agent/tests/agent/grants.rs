//! Grants, and what becomes of them.

use std::time::Duration;

use livepatch_agent::journal::Phase;
use livepatch_kernel::FakeTask;
use livepatch_module::ReplaceValue;

use crate::world::World;

fn one(result: &str, reason: &str) -> Vec<(String, String)> {
    vec![(result.to_owned(), reason.to_owned())]
}

#[tokio::test]
async fn a_grant_is_loaded_by_one_call_and_told_in_one_write() {
    let world = World::new();
    let grant = world.publish("off", "off_v1", &["f"], ReplaceValue::False);
    let mut agent = world.live(1).await;
    assert_eq!(world.ready(), "True/UpToDate");
    let writes = world.server.lock().unwrap().status_writes;
    world.grant(std::slice::from_ref(&grant));
    world.pass(&mut agent).await;
    assert_eq!(world.loaded(), ["off_v1"]);
    assert_eq!(world.results(), one("Loaded", "Effective"));
    assert_eq!(world.ready(), "True/UpToDate");
    assert_eq!(world.status().observed_generation, 2);
    assert_eq!(world.server.lock().unwrap().status_writes, writes + 1);
    assert_eq!(
        world.server.lock().unwrap().reads,
        1,
        "one live read of the object per grant"
    );
    for _ in 0..30 {
        world.pass(&mut agent).await;
    }
    assert_eq!(world.server.lock().unwrap().status_writes, writes + 1, "idle is silent");
    assert_eq!(world.loads("off_v1"), 1);
    assert_eq!(world.entry(&grant).unwrap().phase, Phase::Settled);
}

#[tokio::test]
async fn the_same_pair_in_another_rollout_is_not_loaded_again() {
    let world = World::new();
    let mut grant = world.publish("off", "off_v1", &["f"], ReplaceValue::False);
    world.grant(std::slice::from_ref(&grant));
    let mut agent = world.live(1).await;
    grant.rollout = "off-2".to_owned();
    grant.epoch = "stale/0".to_owned();
    world.grant(&[grant]);
    world.pass(&mut agent).await;
    assert_eq!(world.results(), one("Loaded", "Effective"));
    assert_eq!(world.loads("off_v1"), 1);
}

#[tokio::test]
async fn a_grant_of_another_leadership_is_not_acted_on() {
    let world = World::new();
    let mut grant = world.publish("off", "off_v1", &["f"], ReplaceValue::False);
    world.grant(std::slice::from_ref(&grant));
    world.server.lock().unwrap().transitions = 4;
    let mut agent = world.live(3).await;
    assert_eq!(world.results(), one("Pending", "EpochStale"));
    assert_eq!(world.loads("off_v1"), 0);
    grant.epoch = "lease-uid/4".to_owned();
    world.grant(&[grant]);
    world.pass(&mut agent).await;
    assert_eq!(world.results(), one("Loaded", "Effective"));
}

#[tokio::test]
async fn a_grant_that_was_withdrawn_meanwhile_is_not_acted_on() {
    let world = World::new();
    let grant = world.publish("off", "off_v1", &["f"], ReplaceValue::False);
    world.grant(&[grant]);
    let mut agent = world.agent();
    agent.tell(livepatch_agent::watch::Desired::Object(world.object().into()));
    world.grant(&[]);
    agent.pass().await;
    assert!(world.loaded().is_empty());
    assert_eq!(world.results(), one("Pending", "GrantWithdrawn"));
    world.pass(&mut agent).await;
    assert!(world.results().is_empty());
}

#[tokio::test]
async fn without_api_server_nothing_new_is_begun() {
    let world = World::new();
    let grant = world.publish("off", "off_v1", &["f"], ReplaceValue::False);
    world.grant(&[grant]);
    let mut agent = world.agent();
    agent.tell(livepatch_agent::watch::Desired::Object(world.object().into()));
    world.server.lock().unwrap().away = true;
    for _ in 0..5 {
        world.pass(&mut agent).await;
    }
    assert_eq!(world.loads("off_v1"), 0);
    world.server.lock().unwrap().away = false;
    world.kernel.advance(Duration::from_mins(5));
    world.pass(&mut agent).await;
    assert_eq!(world.results(), one("Loaded", "Effective"));
}

#[tokio::test]
async fn a_registry_that_is_away_is_waited_for_and_stalls_nothing_else() {
    let world = World::new();
    let here = world.publish("off-a", "here", &["f"], ReplaceValue::False);
    world.grant(std::slice::from_ref(&here));
    let mut agent = world.live(1).await;
    *world.shelf.away.lock().unwrap() = true;
    let absent = world.publish("off-b", "absent", &["g"], ReplaceValue::False);
    world.grant(&[here, absent]);
    world.pass(&mut agent).await;
    let told = world.results();
    assert_eq!(told[0].0, "Loaded");
    assert_eq!(
        (told[1].0.as_str(), told[1].1.as_str()),
        ("Pending", "RegistryUnavailable")
    );
    let writes = world.server.lock().unwrap().status_writes;
    let mut longest = Duration::ZERO;
    for _ in 0..20 {
        longest = longest.max(world.pass(&mut agent).await);
    }
    assert!(longest <= Duration::from_mins(5));
    assert_eq!(
        world.server.lock().unwrap().status_writes,
        writes,
        "trying again is no news"
    );
    *world.shelf.away.lock().unwrap() = false;
    world.kernel.advance(Duration::from_mins(5));
    world.pass(&mut agent).await;
    assert_eq!(world.loaded(), ["absent", "here"]);
}

#[tokio::test]
async fn every_switch_holds() {
    let world = World::new();
    let grant = world.publish("off", "off_v1", &["f"], ReplaceValue::False);
    world.change_spec(|spec| {
        spec.livepatches = vec![grant];
        spec.hold = "the label livepatch.dev/skip is on the node".to_owned();
    });
    let mut agent = world.live(2).await;
    assert_eq!(world.results(), one("Pending", "Held"));
    assert_eq!(world.ready(), "False/Held");
    let stop = world.disk.path().join("etc");
    std::fs::create_dir_all(&stop).unwrap();
    std::fs::write(stop.join("stop"), "").unwrap();
    world.change_spec(|spec| spec.hold.clear());
    world.pass(&mut agent).await;
    assert_eq!(world.results(), one("Pending", "Held"));
    std::fs::remove_file(stop.join("stop")).unwrap();
    std::fs::write(world.disk.path().join("proc/cmdline"), "quiet livepatch.stop=1\n").unwrap();
    world.pass(&mut agent).await;
    assert_eq!(world.results(), one("Pending", "Held"));
    assert!(world.kernel.calls().is_empty());
    std::fs::write(world.disk.path().join("proc/cmdline"), "quiet\n").unwrap();
    world.pass(&mut agent).await;
    assert_eq!(world.results(), one("Loaded", "Effective"));
}

#[tokio::test]
async fn absence_leaves_alone() {
    let world = World::new();
    let grant = world.publish("off", "off_v1", &["f"], ReplaceValue::False);
    world.grant(&[grant]);
    let mut agent = world.live(1).await;
    world.grant(&[]);
    world.pass(&mut agent).await;
    agent.tell(livepatch_agent::watch::Desired::Absent);
    agent.pass().await;
    assert_eq!(world.loaded(), ["off_v1"]);
    assert_eq!(world.kernel.calls(), ["finit_module off_v1"]);
    assert_eq!(format!("{:?}", world.status().loaded[0].owner), "Retained");
}

#[tokio::test]
async fn cumulative_first_and_one_at_a_time() {
    let world = World::new();
    let off = world.publish("off", "off_v1", &["f"], ReplaceValue::False);
    let cumulative = world.publish("cumulative", "cum_v1", &["g"], ReplaceValue::True);
    world.grant(&[off, cumulative]);
    world.live(1).await;
    assert_eq!(world.kernel.calls(), ["finit_module cum_v1", "finit_module off_v1"]);
    assert_eq!(world.loaded(), ["cum_v1", "off_v1"]);
}

#[tokio::test]
async fn an_off_band_waits_while_the_cumulative_is_fetched() {
    let world = World::new();
    let off = world.publish("off", "off_v1", &["f"], ReplaceValue::False);
    world.grant(std::slice::from_ref(&off));
    let cumulative = world.publish("cumulative", "cum_v1", &["g"], ReplaceValue::True);
    *world.shelf.away.lock().unwrap() = true;
    world.grant(&[off, cumulative]);
    let mut agent = world.live(1).await;
    assert_eq!(world.results()[0].1, "WaitingForCumulative");
    assert!(world.kernel.calls().is_empty());
    *world.shelf.away.lock().unwrap() = false;
    world.kernel.advance(Duration::from_mins(5));
    world.pass(&mut agent).await;
    assert_eq!(world.loaded(), ["cum_v1", "off_v1"]);
}

#[tokio::test]
async fn a_new_cumulative_replaces_its_predecessor_and_its_leftover_goes() {
    let world = World::new();
    let first = world.publish("cumulative", "cum_v1", &["f"], ReplaceValue::True);
    world.grant(std::slice::from_ref(&first));
    let mut agent = world.live(1).await;
    let mut second = world.publish("cumulative", "cum_v2", &["f", "g"], ReplaceValue::True);
    second.rollout = "cumulative-2".to_owned();
    world.grant(std::slice::from_ref(&second));
    world.pass(&mut agent).await;
    assert_eq!(world.results(), one("Loaded", "Effective"));
    assert_eq!(world.loaded(), ["cum_v2"]);
    assert!(matches!(world.entry(&first).unwrap().phase, Phase::Superseded { .. }));
    world.pass(&mut agent).await;
    assert_eq!(world.kernel.calls().last().unwrap(), "delete_module cum_v1");
    for _ in 0..11 {
        world.pass(&mut agent).await;
    }
    assert_eq!(world.entry(&first), None, "forgotten once its successor has settled");
    assert_eq!(world.entry(&second).unwrap().phase, Phase::Settled);
}

#[tokio::test]
async fn a_stalled_transition_is_taken_back_at_its_deadline_and_not_tried_again() {
    let world = World::new();
    world.kernel.add_task(FakeTask {
        pid: 77,
        comm: "sleeper\u{1b}[31m".to_owned(),
        pod_uid: None,
        sleeps_in: "f".to_owned(),
        until: None,
    });
    let mut grant = world.publish("off", "off_v1", &["f"], ReplaceValue::False);
    world.grant(std::slice::from_ref(&grant));
    let mut agent = world.live(4).await;
    assert_eq!(world.results(), one("Failed", "TransitionTimedOut"));
    let told = &world.status().livepatches[0];
    assert_eq!(
        (told.blockers[0].pid, told.blockers[0].comm.as_str()),
        (77, "sleeper [31m")
    );
    assert!(world.loaded().is_empty());
    assert_eq!(world.loads("off_v1"), 1);
    assert_eq!(world.ready(), "False/Failed");
    world.kernel.wake("sleeper\u{1b}[31m");
    grant.attempt = 2;
    world.grant(&[grant]);
    world.pass(&mut agent).await;
    assert_eq!(world.results(), one("Loaded", "Effective"));
}

#[tokio::test]
async fn what_a_person_disables_stays_disabled_until_a_person_tries_again() {
    use livepatch_kernel::Kernel as _;
    let world = World::new();
    let mut grant = world.publish("off", "off_v1", &["f"], ReplaceValue::False);
    world.grant(std::slice::from_ref(&grant));
    let mut agent = world.live(1).await;
    world.kernel.set_enabled("off_v1", false).unwrap();
    world.kernel.advance(Duration::from_secs(3));
    world.kernel.delete_module("off_v1").unwrap();
    for _ in 0..3 {
        world.pass(&mut agent).await;
    }
    assert_eq!(world.results(), one("Failed", "Drifted"));
    assert_eq!(world.loads("off_v1"), 1);
    grant.attempt = 2;
    world.grant(&[grant]);
    world.pass(&mut agent).await;
    assert_eq!(world.results(), one("Loaded", "Effective"));
}

#[tokio::test]
async fn somebody_elses_transition_is_waited_for() {
    use livepatch_kernel::Kernel as _;
    let world = World::new();
    world.live(1).await;
    world.kernel.add_task(FakeTask {
        pid: 5,
        comm: "slow".to_owned(),
        pod_uid: None,
        sleeps_in: "other".to_owned(),
        until: None,
    });
    let image = world
        .kernel
        .image(livepatch_kernel::FakeModule::new("foreign", &["other"]));
    world.kernel.start_load("foreign", &image, c"").unwrap();
    let grant = world.publish("off", "off_v1", &["f"], ReplaceValue::False);
    world.grant(&[grant]);
    let mut agent = world.live(3).await;
    assert_eq!(world.results(), one("Pending", "Queued"));
    assert_eq!(world.loads("off_v1"), 0);
    world.kernel.wake("slow");
    world.kernel.advance(Duration::from_secs(3));
    world.pass(&mut agent).await;
    assert_eq!(world.loaded(), ["foreign", "off_v1"]);
    assert_eq!(format!("{:?}", world.status().loaded[0].owner), "Foreign");
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_hangs_is_reported_and_does_not_keep_the_agent_from_leaving() {
    let world = World::new();
    world.grant(&[world.publish("off", "off_v1", &["f"], ReplaceValue::False)]);
    *world.shelf.silent.lock().unwrap() = true;
    let leave = tokio_util::sync::CancellationToken::new();
    let mut agent = world.agent_until(std::sync::Arc::new(world.kernel.clone()), leave.clone());
    agent.tell(livepatch_agent::watch::Desired::Object(world.object().into()));
    let meanwhile = async {
        tokio::time::sleep(Duration::from_secs(31)).await;
        assert_eq!(world.results(), one("Pending", "Preparing"));
        assert_eq!(world.server.lock().unwrap().status_writes, 1);
        leave.cancel();
    };
    tokio::join!(agent.pass(), meanwhile);
    let mut agent = world.agent();
    agent.tell(livepatch_agent::watch::Desired::Object(world.object().into()));
    agent.pass().await;
    assert_eq!(world.results(), one("Pending", "RegistryUnavailable"));
}
