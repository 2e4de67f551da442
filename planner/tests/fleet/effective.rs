//! Whether a grant is carried out, or may still be, by every trait of its node that matters.

use crate::one_node::{Change, Scene, each, scene};
use crate::world::module;
use livepatch_crds::node::{DesiredState, GrantResult};
use livepatch_planner::fleet::snapshot::{BundleView, Leave, ModuleView};
use livepatch_planner::fleet::standing::{Coverage, coverage, is_leaving};
use std::sync::Arc;

#[test]
fn a_livepatch_is_effective_if_the_granted_kernel_runs_it_wholly_or_one_that_contains_it() {
    each(
        Scene::is_effective,
        &[
            (|_| (), true),
            (Scene::loads_nothing, false),
            (|scene| scene.object().status.kernel.build_id = "other".into(), false),
            (|scene| scene.object().status.loaded[0].build_id = "other".into(), false),
            (|scene| scene.object().status.loaded[0].enabled = false, false),
            (|scene| scene.object().status.loaded[0].transition = true, false),
            (
                |scene| {
                    scene.grant().module.build_id = String::new();
                    scene.object().status.loaded[0].build_id = String::new();
                },
                false,
            ),
            (
                |scene| {
                    scene.loads_nothing();
                    scene.says(GrantResult::Superseded, "Superseded");
                },
                true,
            ),
            (
                |scene| {
                    scene.loads_nothing();
                    scene.says(GrantResult::Superseded, "Superseded");
                    scene.object().status.kernel.build_id = "other".into();
                },
                false,
            ),
            (
                |scene| {
                    scene.loads_nothing();
                    scene.says(GrantResult::Pending, "Superseded");
                },
                false,
            ),
        ],
    );
}

#[test]
fn what_is_said_of_another_grant_is_not_said_of_this() {
    let said: fn(&mut Scene) = |scene| {
        scene.loads_nothing();
        scene.says(GrantResult::Superseded, "Superseded");
    };
    let others: [Change; 3] = [
        |scene| scene.grant().set.name = "other".into(),
        |scene| scene.grant().rollout = "other".into(),
        |scene| scene.grant().attempt += 1,
    ];
    for other in others {
        let mut scene = scene();
        said(&mut scene);
        other(&mut scene);
        assert!(!scene.is_effective());
    }
}

#[test]
fn of_a_grant_to_go_back_only_what_was_said_since_it_was_given_counts() {
    let mut scene = scene();
    scene.grant().state = DesiredState::Absent;
    scene.says(GrantResult::Absent, "Absent");
    assert!(scene.is_carried_out());
    scene.object().generation = 9;
    scene.object().status.observed_generation = 8;
    assert!(scene.is_carried_out(), "a way forward has an attempt of its own");
    scene.grant().back = true;
    assert!(!scene.is_carried_out());
    scene.object().status.observed_generation = 9;
    assert!(scene.is_carried_out());
    scene.says(GrantResult::Pending, "Absent");
    assert!(!scene.is_carried_out());
}

#[test]
fn a_grant_is_unresolved_until_it_is_effective_void_or_failed() {
    each(
        |scene| {
            let loaded = std::mem::take(&mut scene.object().status.loaded);
            let open = scene.is_unresolved();
            scene.object().status.loaded = loaded;
            (scene.is_unresolved(), open)
        },
        &[
            (|_| (), (false, true)),
            (|scene| scene.says(GrantResult::Pending, "Queued"), (false, true)),
            (|scene| scene.says(GrantResult::Failed, "Conflict"), (false, false)),
            (|scene| scene.grant().state = DesiredState::Absent, (false, false)),
            (
                |scene| scene.object().status.kernel.build_id = "other".into(),
                (false, false),
            ),
            (
                |scene| scene.object().status.kernel.build_id = String::new(),
                (true, true),
            ),
        ],
    );
}

#[test]
fn a_node_leaves_while_its_grant_may_still_be_carried_out() {
    let present: fn() -> Leave = || Leave::Granted {
        epoch: "lease/1".into(),
    };
    let another: fn() -> Leave = || Leave::Granted {
        epoch: "lease/2".into(),
    };
    each(
        |scene| [present(), another(), Leave::default()].map(|leave| is_leaving(&scene.node, "uid-fix", &leave)),
        &[
            (|_| (), [false; 3]),
            (Scene::loads_nothing, [true, false, true]),
            (
                |scene| {
                    scene.loads_nothing();
                    scene.says(GrantResult::Pending, "Queued");
                },
                [true, false, true],
            ),
            (
                |scene| {
                    scene.loads_nothing();
                    scene.says(GrantResult::Transitioning, "Transitioning");
                },
                [true; 3],
            ),
            (
                |scene| {
                    scene.loads_nothing();
                    scene.says(GrantResult::Failed, "Conflict");
                },
                [false; 3],
            ),
            (
                |scene| {
                    scene.loads_nothing();
                    scene.grant().failed = Some("NodeLost".into());
                },
                [false; 3],
            ),
            (
                |scene| {
                    scene.loads_nothing();
                    scene.grant().state = DesiredState::Absent;
                },
                [false; 3],
            ),
            (|scene| scene.object().status.boot_id = "former".into(), [true; 3]),
            (|scene| scene.object().spec.node_uid = "another".into(), [false; 3]),
            (|scene| scene.object().deleting = true, [false; 3]),
            (|scene| scene.grant().set.uid = "another".into(), [false; 3]),
        ],
    );
}

#[test]
fn a_module_is_for_one_release_and_machine_and_rather_for_the_very_build() {
    let scene = scene();
    let kernel = scene.node.object.unwrap().status.kernel;
    let of_build = |build: &str, name: &str| ModuleView {
        kernel_build_id: Some(build.into()),
        ..module("6.1", name)
    };
    let found = |modules: Vec<ModuleView>| match coverage(&BundleView::Read(Arc::new(modules)), &kernel) {
        Coverage::Covered(module) => module.name.clone(),
        other => format!("{other:?}"),
    };
    let any = || module("6.1", "any");
    assert_eq!(found(vec![any()]), "any");
    assert_eq!(found(vec![of_build("id-6.1", "this"), any()]), "this");
    assert_eq!(found(vec![of_build("id-other", "other"), any()]), "any");
    assert_eq!(found(vec![of_build("id-other", "other")]), "NotCovered");
    assert_eq!(found(vec![module("6.12", "newer")]), "NotCovered");
    let elsewhere = ModuleView {
        architecture: "arm64".into(),
        ..any()
    };
    assert_eq!(found(vec![elsewhere]), "NotCovered");
    assert_eq!(coverage(&BundleView::Unread, &kernel), Coverage::Unread);
}
