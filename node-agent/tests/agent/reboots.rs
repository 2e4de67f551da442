//! What comes back after a reboot, and what does not.

use livepatch_agent::journal::Phase;
use livepatch_crds::node::Grant;
use livepatch_module::ReplaceValue;

use crate::world::World;

async fn settled(world: &World, grants: &[Grant]) {
    world.grant(grants);
    world.live(15).await;
    for grant in grants {
        assert_eq!(world.entry(grant).unwrap().phase, Phase::Settled);
    }
}

#[tokio::test]
async fn what_had_settled_comes_back_without_registry_and_api_server() {
    let world = World::new();
    let off = world.publish("off", "off_v1", &["f"], ReplaceValue::False);
    let cumulative = world.publish("cumulative", "cum_v1", &["g"], ReplaceValue::True);
    settled(&world, &[off.clone(), cumulative]).await;
    world.reboot(2);
    world.server.lock().unwrap().away = true;
    *world.shelf.away.lock().unwrap() = true;
    let mut agent = world.live(1).await;
    assert_eq!(world.kernel.calls(), ["finit_module cum_v1", "finit_module off_v1"]);
    assert_eq!(world.loaded(), ["cum_v1", "off_v1"]);
    assert!(
        matches!(world.entry(&off).unwrap().phase, Phase::Applied { .. }),
        "not for long in this boot"
    );
    assert!(world.entry(&off).unwrap().proven, "and not on probation again");
    world.server.lock().unwrap().away = false;
    world.pass(&mut agent).await;
    assert!(world.results().iter().all(|(result, _)| result == "Loaded"));
    assert_eq!(world.status().boot_id, "00000000-0000-4000-8000-000000000002");
}

#[tokio::test]
async fn what_was_on_probation_stays_out_until_a_person_tries_again() {
    let world = World::new();
    let mut grant = world.publish("off", "off_v1", &["f"], ReplaceValue::False);
    world.grant(std::slice::from_ref(&grant));
    world.live(2).await;
    world.reboot(2);
    let mut agent = world.live(3).await;
    assert_eq!(
        world.results(),
        [("Failed".to_owned(), "RebootedOnProbation".to_owned())]
    );
    assert!(world.kernel.calls().is_empty());
    world.reboot(3);
    world.pass(&mut agent).await;
    assert!(world.kernel.calls().is_empty(), "a further reboot changes nothing");
    grant.rollout = "off-2".to_owned();
    world.grant(std::slice::from_ref(&grant));
    world.pass(&mut agent).await;
    assert_eq!(
        world.results()[0].0,
        "Failed",
        "the same pair in a new rollout is still in quarantine"
    );
    grant.attempt = 2;
    world.grant(&[grant]);
    world.pass(&mut agent).await;
    assert_eq!(world.results()[0].0, "Loaded");
}

#[tokio::test]
async fn a_quarantined_cumulative_gives_way_to_its_predecessor() {
    let world = World::new();
    let first = world.publish("cumulative", "cum_v1", &["f"], ReplaceValue::True);
    settled(&world, std::slice::from_ref(&first)).await;
    let mut second = world.publish("cumulative", "cum_v2", &["f"], ReplaceValue::True);
    second.rollout = "cumulative-2".to_owned();
    world.grant(&[second]);
    world.live(2).await;
    assert_eq!(world.loaded(), ["cum_v2"]);
    world.reboot(2);
    world.live(2).await;
    assert_eq!(world.loaded(), ["cum_v1"]);
    assert_eq!(
        world.results(),
        [("Failed".to_owned(), "RebootedOnProbation".to_owned())]
    );
}

#[tokio::test]
async fn a_person_keeps_it_out_after_a_reboot_too() {
    let world = World::new();
    let grant = world.publish("off", "off_v1", &["f"], ReplaceValue::False);
    settled(&world, &[grant]).await;
    world.change_spec(|spec| spec.hold = "maintenance".to_owned());
    world.live(1).await;
    world.reboot(2);
    world.server.lock().unwrap().away = true;
    let mut agent = world.live(2).await;
    assert!(
        world.kernel.calls().is_empty(),
        "the hold is remembered while the API server is away"
    );
    world.server.lock().unwrap().away = false;
    world.pass(&mut agent).await;
    assert_eq!(world.results(), [("Pending".to_owned(), "Held".to_owned())]);
    world.change_spec(|spec| spec.hold.clear());
    world.pass(&mut agent).await;
    assert_eq!(world.loaded(), ["off_v1"]);
}

#[tokio::test]
async fn a_damaged_copy_is_fetched_anew() {
    let world = World::new();
    let grant = world.publish("off", "off_v1", &["f"], ReplaceValue::False);
    settled(&world, std::slice::from_ref(&grant)).await;
    let copy = world
        .disk
        .path()
        .join(format!("state/store/{}.ko", grant.module.sha256));
    std::fs::write(&copy, b"bit rot").unwrap();
    world.reboot(2);
    world.live(1).await;
    assert_eq!(world.loaded(), ["off_v1"]);
    assert_eq!(
        livepatch_agent::store::sha256_of(&std::fs::read(&copy).unwrap()),
        grant.module.sha256
    );
}

#[tokio::test]
async fn another_kernel_gets_nothing_of_this_one() {
    use livepatch_kernel::Kernel as _;
    let world = World::new();
    let grant = world.publish("off", "off_v1", &["f"], ReplaceValue::False);
    settled(&world, &[grant]).await;
    world.reboot(2);
    let mut identity = world.kernel.identity().unwrap();
    identity.build_id = livepatch_kernel::BuildId::from_bytes(&[1; 20]).ok();
    let boot = world.kernel.boot_id().unwrap();
    world.kernel.set_identity(identity, boot);
    world.live(3).await;
    assert!(world.kernel.calls().is_empty());
    assert_eq!(world.results(), [("Failed".to_owned(), "WrongKernel".to_owned())]);
}
