//! Where one node stands, by every trait of it that matters.

use crate::one_node::{Change, Scene, each, scene};
use jiff::SignedDuration;
use livepatch_crds::SKIP_LABEL;
use livepatch_crds::node::{DesiredState, GrantResult};
use livepatch_crds::rollout::Failure;
use livepatch_planner::fleet::snapshot::BundleView;
use livepatch_planner::fleet::standing::Standing;
use std::sync::Arc;

/// Where the node stands before and after its wave has passed.
fn before_and_after(scene: &mut Scene) -> [String; 2] {
    [false, true].map(|passed| {
        scene.passed = passed;
        scene.told()
    })
}

fn both(told: &str) -> [String; 2] {
    [told.to_owned(), told.to_owned()]
}

fn first(before: &str, after: &str) -> [String; 2] {
    [before.to_owned(), after.to_owned()]
}

#[test]
fn a_granted_node_stands_by_what_befell_it_until_its_wave_has_passed() {
    each(
        before_and_after,
        &[
            (|_| (), both("Settled")),
            (|scene| scene.node.effective_since.clear(), both("InFlight")),
            (
                |scene| scene.world.now -= SignedDuration::from_secs(1),
                both("InFlight"),
            ),
            (Scene::loads_nothing, both("InFlight")),
            (|scene| scene.node.ready = false, first("NodeLost", "Unreachable")),
            (
                |scene| scene.node.boot_id = "again".into(),
                first("NodeRebooted", "InFlight"),
            ),
            (
                |scene| {
                    scene.node.boot_id = "again".into();
                    scene.object().status.boot_id = "again".into();
                },
                first("NodeRebooted", "Settled"),
            ),
            (|scene| scene.object().status.boot_id.clear(), both("InFlight")),
            (
                |scene| scene.object().status.kernel_taints = "OD".into(),
                first("KernelTainted", "Settled"),
            ),
            (
                |scene| scene.object().status.kernel_taints = "L".into(),
                first("KernelTainted", "Settled"),
            ),
            (
                |scene| scene.object().status.kernel_taints = "OK".into(),
                both("Settled"),
            ),
            (
                |scene| {
                    scene.object().status.kernel_taints = "W".into();
                    scene.grant().kernel_taints = "W".into();
                },
                both("Settled"),
            ),
            (
                |scene| {
                    scene.object().status.kernel_taints = "WD".into();
                    scene.grant().kernel_taints = "W".into();
                },
                first("KernelTainted", "Settled"),
            ),
        ],
    );
}

#[test]
fn a_failure_counts_until_another_attempt_is_asked_for() {
    let fails: Change = |scene| {
        scene.loads_nothing();
        scene.says(GrantResult::Failed, "Conflict");
    };
    let next: Change = |scene| scene.rollout.control.attempt += 1;
    let mut scene = scene();
    fails(&mut scene);
    assert_eq!(scene.told(), "Conflict");
    next(&mut scene);
    assert_eq!(scene.told(), "Pending");
    scene.says(GrantResult::Pending, "Queued");
    assert_eq!(scene.told(), "InFlight", "it has not failed, and goes on");

    let marked: Change = |scene| scene.grant().failed = Some("TransitionTimedOut".into());
    let listed = |scene: &mut Scene, node: &str, attempt: i32, back: bool| {
        scene.rollout.status.failures = vec![Failure {
            node: node.into(),
            wave: "canary".into(),
            attempt,
            reason: "NodeLost".into(),
            message: "it was lost".into(),
            back,
        }];
    };
    let mut scene = crate::one_node::scene();
    marked(&mut scene);
    assert_eq!(scene.told(), "TransitionTimedOut", "whatever it looks like now");
    listed(&mut scene, "a", 1, false);
    let Standing::Failed { reason, message } = scene.stands() else {
        unreachable!()
    };
    assert_eq!((reason.as_str(), message.as_str()), ("NodeLost", "it was lost"));
    next(&mut scene);
    assert_eq!(scene.told(), "Settled");

    for (node, attempt, back) in [("b", 1, false), ("a", 2, false), ("a", 1, true)] {
        let mut scene = crate::one_node::scene();
        listed(&mut scene, node, attempt, back);
        assert_eq!(scene.told(), "Settled", "that is none of this node's way forward");
    }
    let mut scene = crate::one_node::scene();
    next(&mut scene);
    marked(&mut scene);
    scene.grant().attempt = 2;
    assert_eq!(scene.told(), "TransitionTimedOut");
}

#[test]
fn a_node_without_a_grant_stands_by_what_it_runs_and_what_the_artefact_has() {
    each(
        |scene| {
            scene.object().spec.livepatches.clear();
            scene.told()
        },
        &[
            (|_| (), "Settled".into()),
            (Scene::loads_nothing, "Pending".into()),
            (
                |scene| {
                    scene.loads_nothing();
                    scene.object().spec.hold = "held".into();
                },
                "Held".into(),
            ),
            (
                |scene| {
                    scene.loads_nothing();
                    scene.node.labels.insert(SKIP_LABEL.into(), "true".into());
                },
                "Held".into(),
            ),
            (
                |scene| {
                    scene.loads_nothing();
                    scene.node.labels.insert(SKIP_LABEL.into(), "false".into());
                },
                "Pending".into(),
            ),
            (|scene| scene.bundle = BundleView::Unread, "Pending".into()),
            (
                |scene| scene.bundle = BundleView::Read(Arc::default()),
                "NotApplicable".into(),
            ),
            (|scene| scene.node.ready = false, "Unreachable".into()),
            (
                |scene| scene.object().status.boot_id = "former".into(),
                "Unknown".into(),
            ),
        ],
    );
}

#[test]
fn what_a_grant_of_another_rollout_or_start_asks_otherwise_is_not_settled() {
    each(
        |scene| scene.told(),
        &[
            (|scene| scene.grant().rollout = "former".into(), "Settled".into()),
            (|scene| scene.grant().start = 7, "Settled".into()),
            (
                |scene| {
                    scene.node.late.insert("uid-fix".into());
                    scene.loads_nothing();
                },
                "Pending".into(),
            ),
            (
                |scene| {
                    scene.grant().rollout = "former".into();
                    scene.grant().module.sha256 = "other".into();
                },
                "Pending".into(),
            ),
            (
                |scene| {
                    scene.grant().rollout = "former".into();
                    scene.grant().state = DesiredState::Absent;
                },
                "Pending".into(),
            ),
            (
                |scene| {
                    scene.grant().rollout = "former".into();
                    scene.grant().module.sha256 = "other".into();
                    scene.grant().module.kernel_build_id = "former".into();
                },
                "Settled".into(),
            ),
            (
                |scene| scene.rollout.control.exclude_nodes = vec!["a".into()],
                "Excluded".into(),
            ),
            (
                |scene| {
                    scene.rollout.control.exclude_nodes = vec!["a".into()];
                    scene.node.ready = false;
                },
                "NodeLost".into(),
            ),
        ],
    );
}
