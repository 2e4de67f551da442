//! What is not loaded, and the name of the reason.

use livepatch_crds::node::Grant;
use livepatch_kernel::{FakeModule, Kernel as _};
use livepatch_module::ReplaceValue;

use crate::world::World;

/// The agent refuses the grant under this name and asks the kernel for nothing; a second agent says the same.
async fn refused(world: &World, grants: &[Grant], index: usize, reason: &str) {
    let calls = world.kernel.calls();
    world.grant(grants);
    for _ in 0..2 {
        world.live(2).await;
        let told = world.results();
        assert_eq!(
            (told[index].0.as_str(), told[index].1.as_str()),
            ("Failed", reason),
            "{:?}",
            world.status()
        );
        assert!(!world.status().livepatches[index].message.is_empty());
    }
    assert_eq!(world.kernel.calls(), calls);
}

fn off(world: &World) -> Grant {
    world.publish("off", "off_v1", &["f"], ReplaceValue::False)
}

#[tokio::test]
async fn a_grant_that_is_not_well_formed() {
    for spoil in [
        (|grant: &mut Grant| grant.module.name = "../../evil".to_owned()) as fn(&mut Grant),
        |grant| grant.module.sha256 = "../x".to_owned(),
        |grant| grant.module.digest = "latest".to_owned(),
        |grant| grant.module.build_id = String::new(),
        |grant| grant.transition_timeout_seconds = 0,
        |grant| grant.set.uid = String::new(),
    ] {
        let world = World::new();
        let mut grant = off(&world);
        spoil(&mut grant);
        refused(&world, &[grant], 0, "GrantInvalid").await;
    }
}

#[tokio::test]
async fn a_grant_that_the_operator_has_given_up() {
    let world = World::new();
    let mut grant = off(&world);
    grant.failed = Some("NodeLost".to_owned());
    refused(&world, &[grant], 0, "NodeLost").await;
}

#[tokio::test]
async fn a_repository_that_is_not_allowed() {
    let world = World::new();
    let mut grant = off(&world);
    grant.module.repository = "evil.example.com/livepatches/fix".to_owned();
    refused(&world, &[grant], 0, "RepositoryNotAllowed").await;
}

#[tokio::test]
async fn a_digest_that_the_registry_does_not_know() {
    let world = World::new();
    let mut grant = off(&world);
    grant.module.digest = format!("sha256:{}", "0".repeat(64));
    refused(&world, &[grant], 0, "DigestUnknown").await;
}

#[tokio::test]
async fn another_file_than_the_granted_one() {
    let world = World::new();
    let mut grant = off(&world);
    grant.module.sha256 = "0".repeat(64);
    refused(&world, &[grant], 0, "DigestMismatch").await;
    let world = World::new();
    let mut grant = off(&world);
    grant.module.name = "other_name".to_owned();
    refused(&world, &[grant], 0, "IdentityMismatch").await;
}

#[tokio::test]
async fn a_grant_for_another_kernel_build() {
    let world = World::new();
    let mut grant = off(&world);
    grant.module.kernel_build_id = "ab".repeat(20);
    refused(&world, &[grant], 0, "WrongKernel").await;
}

#[tokio::test]
async fn a_module_for_another_release_or_machine() {
    let world = World::new();
    let grant = off(&world);
    world
        .shelf
        .modules
        .lock()
        .unwrap()
        .values_mut()
        .next()
        .unwrap()
        .inspection
        .kernel_release = "6.1.0".to_owned();
    refused(&world, &[grant], 0, "WrongKernel").await;
    let world = World::new();
    let grant = off(&world);
    world
        .shelf
        .modules
        .lock()
        .unwrap()
        .values_mut()
        .next()
        .unwrap()
        .inspection
        .architecture = livepatch_module::Architecture::Arm64;
    refused(&world, &[grant], 0, "WrongArchitecture").await;
}

#[tokio::test]
async fn an_off_band_livepatch_without_proof_that_it_replaces_nothing() {
    for value in [ReplaceValue::True, ReplaceValue::Dynamic, ReplaceValue::Unknown] {
        let world = World::new();
        let grant = world.publish("off", "off_v1", &["f"], value);
        refused(&world, &[grant], 0, "ReplaceFlagUnproven").await;
    }
}

#[tokio::test]
async fn a_cumulative_livepatch_that_would_throw_out_somebody_elses() {
    for value in [ReplaceValue::True, ReplaceValue::Dynamic, ReplaceValue::Unknown] {
        let world = World::new();
        world.live(1).await;
        let image = world.kernel.image(FakeModule::new("foreign", &["h"]));
        world.kernel.start_load("foreign", &image, c"").unwrap();
        world.kernel.advance(std::time::Duration::from_secs(3));
        let cumulative = world.publish("cumulative", "cum_v1", &["g"], value);
        refused(&world, &[cumulative], 0, "WouldRemoveOthers").await;
        assert_eq!(world.loaded(), ["foreign"]);
    }
}

#[tokio::test]
async fn two_livepatches_of_one_function() {
    let world = World::new();
    let first = off(&world);
    world.grant(std::slice::from_ref(&first));
    world.live(1).await;
    let second = world.publish("other", "other_v1", &["g", "f"], ReplaceValue::False);
    refused(&world, &[first, second], 1, "Conflict").await;
    assert!(world.status().livepatches[1].message.contains('f'));
}

#[tokio::test]
async fn a_name_that_a_foreign_livepatch_has() {
    let world = World::new();
    world.live(1).await;
    let mut foreign = FakeModule::new("off_v1", &["h"]);
    foreign.build_id = livepatch_kernel::BuildId::from_bytes(&[9; 20]).ok();
    world.kernel.provide(b"foreign", foreign);
    world.kernel.start_load("off_v1", b"foreign", c"").unwrap();
    world.kernel.advance(std::time::Duration::from_secs(3));
    let grant = off(&world);
    refused(&world, &[grant], 0, "Conflict").await;
}

#[tokio::test]
async fn kernel_semantics_unknown_to_this_version_are_waited_out() {
    let world = World::new();
    world
        .kernel
        .set_policy(|policy| policy.replace_set = livepatch_kernel::Seen::Known(true));
    world.grant(&[off(&world)]);
    world.live(2).await;
    assert_eq!(world.results()[0].1, "ReplaceSetUnsupported");
    assert!(world.kernel.calls().is_empty());
}

#[tokio::test]
async fn what_the_kernel_refuses_is_told_with_its_error_and_not_tried_again() {
    let world = World::new();
    let mut module = FakeModule::new("off_v1", &["f"]);
    module.missing_symbol = Some("nope".to_owned());
    let grant = world.publish_as("off", module, ReplaceValue::False);
    world.grant(&[grant]);
    world.live(3).await;
    world.live(3).await;
    assert_eq!(world.results()[0], ("Failed".to_owned(), "SymbolNotFound".to_owned()));
    let message = &world.status().livepatches[0].message;
    assert!(
        message.contains("EINVAL") && message.contains("'nope' not found"),
        "{message}"
    );
    assert_eq!(world.loads("off_v1"), 1);
}

#[tokio::test]
async fn without_a_journal_nothing_is_changed_beside_unknown_livepatches() {
    let world = World::new();
    let image = world.kernel.image(FakeModule::new("foreign", &["h"]));
    world.kernel.start_load("foreign", &image, c"").unwrap();
    world.kernel.advance(std::time::Duration::from_secs(3));
    world.grant(&[off(&world)]);
    world.live(3).await;
    assert_eq!(world.results()[0], ("Pending".to_owned(), "JournalMissing".to_owned()));
    assert_eq!(world.loads("off_v1"), 0);
    assert_eq!(world.journal_file().read().unwrap(), None);
}

#[tokio::test]
async fn without_a_journal_what_is_granted_and_loaded_is_adopted() {
    let world = World::new();
    let grant = off(&world);
    let bytes = world
        .shelf
        .modules
        .lock()
        .unwrap()
        .values()
        .next()
        .unwrap()
        .bytes
        .clone();
    world.kernel.start_load("off_v1", &bytes, c"").unwrap();
    world.kernel.advance(std::time::Duration::from_secs(3));
    world.grant(std::slice::from_ref(&grant));
    world.live(2).await;
    assert_eq!(world.results()[0].0, "Loaded");
    assert_eq!(world.loads("off_v1"), 1);
    assert!(world.entry(&grant).unwrap().is_in_effect());
}

#[tokio::test]
async fn a_journal_that_cannot_be_read_changes_nothing_and_is_not_overwritten() {
    for content in [
        &b"{"[..],
        b"",
        b"{\"schema\": 2, \"entries\": \"who knows\"}",
        b"\x00\xff",
        b"{\"entries\": []}",
    ] {
        let world = World::new();
        let path = world.disk.path().join("state/journal.json");
        std::fs::write(&path, content).unwrap();
        world.grant(&[off(&world)]);
        world.live(3).await;
        assert_eq!(
            world.results()[0],
            ("Pending".to_owned(), "JournalUnreadable".to_owned())
        );
        assert!(world.kernel.calls().is_empty());
        assert_eq!(std::fs::read(&path).unwrap(), content);
    }
}

#[tokio::test]
async fn a_journal_that_cannot_be_written_starts_nothing() {
    let world = World::new();
    // A directory in the place of the file that is renamed into it.
    std::fs::create_dir_all(world.disk.path().join("state/journal.json.new")).unwrap();
    world.grant(&[off(&world)]);
    let mut agent = world.live(4).await;
    assert_eq!(
        world.results()[0],
        ("Pending".to_owned(), "JournalNotWritable".to_owned())
    );
    assert!(world.kernel.calls().is_empty());
    std::fs::remove_dir(world.disk.path().join("state/journal.json.new")).unwrap();
    for _ in 0..10 {
        world.pass(&mut agent).await;
    }
    assert_eq!(world.results()[0].0, "Loaded");
}
