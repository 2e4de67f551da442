//! Nodes that a set selects no longer.

use crate::world::World;
use livepatch_crds::node::{DesiredState, Grant, GrantResult, GrantStatus};
use livepatch_planner::fleet::snapshot::Leave;

const SPEC: &str = "{type: OffBand, nodeSelector: {matchLabels: {pool: edge}}, removalPolicy: POLICY, rollout: {minReadySeconds: 0}, \
     template: {source: {oci: {reference: 'registry.example.com/a@sha256:0000000000000000000000000000000000000000000000000000000000000000'}}}}";

fn rolled_out(policy: &str) -> World {
    let mut world = World::new(&[("n0", &[("pool", "edge")], "6.1")]);
    world.add_set("fix", &SPEC.replace("POLICY", policy), &[("6.1", "m")]);
    world.steps(10);
    assert_eq!(entries(&world).len(), 1);
    label(&mut world, "core");
    world.steps(2);
    world
}

fn label(world: &mut World, pool: &str) {
    let node = world.snapshot.nodes.get_mut("n0").unwrap();
    node.labels.insert("pool".into(), pool.into());
}

fn entries(world: &World) -> Vec<Grant> {
    world.snapshot.nodes["n0"]
        .object
        .as_ref()
        .unwrap()
        .spec
        .livepatches
        .clone()
}

#[test]
fn by_default_they_are_left_alone() {
    assert!(entries(&rolled_out("Retain")).is_empty());
}

#[test]
fn with_unload_they_are_granted_absence_until_the_agent_says_that_it_is_gone() {
    let mut world = rolled_out("Unload");
    let granted = entries(&world);
    assert_eq!(granted[0].state, DesiredState::Absent);
    world.snapshot.leave = Leave::Granted {
        epoch: "lease/2".into(),
    };
    world.steps(2);
    assert_ne!(
        entries(&world)[0].epoch,
        granted[0].epoch,
        "each leadership vouches for it"
    );
    let object = world.snapshot.nodes.get_mut("n0").unwrap().object.as_mut().unwrap();
    object.status.loaded.clear();
    object.status.livepatches = vec![GrantStatus {
        set: "fix".into(),
        rollout: granted[0].rollout.clone(),
        attempt: 1,
        result: GrantResult::Absent,
        reason: "Absent".into(),
        message: String::new(),
        blockers: Vec::new(),
        gap_milliseconds: None,
    }];
    world.steps(2);
    assert!(entries(&world).is_empty());
    assert_told!(world);
}

#[test]
fn one_that_is_selected_again_before_keeps_it() {
    let mut world = rolled_out("Unload");
    label(&mut world, "edge");
    world.steps(3);
    assert!(entries(&world).iter().all(|grant| grant.state == DesiredState::Loaded));
    assert_told!(world);
}

#[test]
fn what_the_agent_says_of_others_or_before_it_is_gone_ends_no_absence() {
    let mut world = rolled_out("Unload");
    let grant = entries(&world).remove(0);
    let gone = crate::world::outcome(&grant, GrantResult::Absent, "Absent", "");
    let mut says = |said: GrantStatus| {
        let object = world.snapshot.nodes.get_mut("n0").unwrap().object.as_mut().unwrap();
        object.status.livepatches = vec![said];
        let mut changes = world.look().node_changes;
        changes.pop().map(|change| change.spec.livepatches.len())
    };
    let of_other = GrantStatus {
        set: "other".into(),
        ..gone.clone()
    };
    let of_former = GrantStatus {
        rollout: "fix-former".into(),
        ..gone.clone()
    };
    let failed = GrantStatus {
        result: GrantResult::Failed,
        ..gone.clone()
    };
    for said in [of_other, of_former, failed] {
        assert_eq!(says(said), None);
    }
    assert_eq!(says(gone), Some(0));
}
