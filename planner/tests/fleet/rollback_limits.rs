//! Whether there is a way back, as far as artefacts tell, and what a node may do on it.

use crate::conflicts::described;
use crate::stories::{DIGEST, spec};
use crate::world::{Answer, World, module};
use livepatch_crds::LivepatchType;
use livepatch_crds::policy::{Drift, GrantPolicy, SupersededSet};
use livepatch_crds::rollout::ControlState;
use livepatch_crds::set::CumulativeTemplate;
use livepatch_planner::fleet::rollback::Rollback;
use livepatch_planner::fleet::snapshot::{BundleView, ModuleView, SetView};
use std::sync::Arc;

fn holds(modules: Vec<ModuleView>) -> BundleView {
    BundleView::Read(Arc::new(modules))
}

fn with_state(kernel: &str, version: u32) -> ModuleView {
    described(kernel, "m", &["f"], true, &[(7, version)])
}

/// A set whose present revision has a state in version 2 and whose former one has it in version 1, changed so.
fn way_back(change: impl FnOnce(&mut SetView)) -> Rollback {
    let mut world = World::new(&[]);
    world.add_set("fix", &spec("Cumulative", "{}", "{}"), &[]);
    let set = world.set("fix");
    set.bundle = holds(vec![with_state("6.1", 2)]);
    set.former = Some(holds(vec![with_state("6.1", 1)]));
    change(set);
    Rollback::of(set)
}

fn is_open(former: ModuleView) -> bool {
    way_back(|set| set.former = Some(holds(vec![former]))) == Rollback::Possible
}

#[test]
fn there_is_no_way_back_over_a_state_that_the_former_module_for_that_kernel_does_not_know() {
    let told = way_back(|_| ()).told();
    assert!(told.starts_with("Impossible: on kernel 6.1"), "{told}");
    assert!(is_open(with_state("6.1", 2)));
    assert!(!is_open(described("6.1", "m", &["f"], true, &[])));
    assert!(is_open(with_state("6.12", 1)), "that is for another kernel");
    let arm = ModuleView {
        architecture: "arm64".into(),
        ..with_state("6.1", 1)
    };
    assert!(is_open(arm), "and that for another machine");
    let undescribed = ModuleView {
        described: None,
        ..with_state("6.1", 1)
    };
    assert!(is_open(undescribed), "the kernel would refuse without harm");
}

#[test]
fn builds_of_one_release_are_different_kernels_if_both_are_named() {
    let of_build = |version, build: Option<&str>| ModuleView {
        kernel_build_id: build.map(str::to_owned),
        ..with_state("6.1", version)
    };
    for (present, former, open) in [
        (Some("one"), Some("one"), false),
        (Some("one"), Some("other"), true),
        (Some("one"), None, false),
        (None, Some("one"), false),
    ] {
        let rollback = way_back(|set| {
            set.bundle = holds(vec![of_build(2, present)]);
            set.former = Some(holds(vec![of_build(1, former)]));
        });
        assert_eq!(rollback == Rollback::Possible, open, "{present:?} {former:?}");
    }
}

#[test]
fn the_way_to_nothing_and_that_of_an_off_band_set_are_open_and_what_is_not_read_is_not_known() {
    assert_eq!(way_back(|set| set.former = None).told(), "Possible");
    assert_eq!(
        way_back(|set| set.spec.livepatch_type = LivepatchType::OffBand),
        Rollback::Possible
    );
    for unread in [
        way_back(|set| set.former = Some(BundleView::Unread)),
        way_back(|set| set.bundle = BundleView::Unread),
    ] {
        assert!(unread.told().starts_with("Unknown: "), "{unread:?}");
    }
}

fn containing(set: &str) -> CumulativeTemplate {
    let supersedes = vec![SupersededSet {
        set: set.to_owned(),
        module_sha256: vec![DIGEST.to_owned()],
    }];
    CumulativeTemplate { supersedes }
}

/// The policy of the grant that takes a node back from a revision that contains `second` to one that contains `first`.
fn policy_of_the_way_back(change: impl FnOnce(&mut SetView)) -> GrantPolicy {
    let mut world = World::new(&[("a", &[], "6.1")]);
    world.removes = true;
    world.add_set(
        "fix",
        &spec("Cumulative", "{}", "{minReadySeconds: 0}"),
        &[("6.1", "m")],
    );
    world.set("fix").spec.drift = Drift::Restore;
    world.set("fix").spec.template.cumulative = Some(containing("first"));
    world.steps(8);
    let set = world.set("fix");
    set.spec.template.source.oci.reference = format!("registry.example.com/next@sha256:{DIGEST}");
    set.spec.template.cumulative = Some(containing("second"));
    set.former = Some(std::mem::replace(&mut set.bundle, holds(vec![module("6.1", "n")])));
    world.steps(8);
    assert_eq!(world.ready_reason("fix"), "Complete");
    world.rollout("fix").control.state = ControlState::RolledBack;
    change(world.set("fix"));
    let mut changes = world.look().node_changes;
    changes.remove(0).spec.livepatches.remove(0).policy
}

#[test]
fn on_the_way_back_a_node_may_do_what_the_former_revision_allowed() {
    let policy = policy_of_the_way_back(|_| ());
    assert_eq!(policy.supersedes, containing("first").supersedes);
    assert_eq!(policy.drift, Drift::Restore);
    let policy = policy_of_the_way_back(|set| _ = set.rollouts.remove(0));
    assert_eq!(
        (policy.supersedes.len(), policy.drift),
        (0, Drift::Restore),
        "nobody knows that one"
    );
}

#[test]
fn more_failures_than_are_borne_turn_a_rollout_back_only_if_its_policy_says_so_and_nobody_aborted_it() {
    for (policy, state, turns) in [
        ("RollBack", ControlState::Run, true),
        ("RollBack", ControlState::Paused, true),
        ("RollBack", ControlState::Aborted, false),
        ("Halt", ControlState::Run, false),
    ] {
        let mut world = World::new(&[("a", &[], "6.1"), ("b", &[], "6.1")]);
        let strategy = format!("{{minReadySeconds: 0, maxConcurrent: 1, failurePolicy: {policy}}}");
        world.add_set("fix", &spec("Cumulative", "{}", &strategy), &[("6.1", "m")]);
        for name in ["a", "b"] {
            world.answers.insert(name.into(), Answer::Refuses);
        }
        world.steps(2);
        let mut turned = false;
        for _ in 0..6 {
            let granted = !world.granted("fix").is_empty();
            if granted {
                world.rollout("fix").control.state = state;
            }
            world.pass();
            turned |= world.rollout("fix").status.rolling_back;
        }
        assert_eq!(turned, turns, "{policy} {state:?}");
    }
}
