//! Grants of a leadership that is over: which of them go, which stay, and what takes their place.

use crate::stories::{DIGEST, spec};
use crate::world::{Answer, World, module, outcome};
use livepatch_crds::concurrency::IntOrPercent;
use livepatch_crds::node::{DesiredState, Grant, GrantResult};
use livepatch_crds::policy::SupersededSet;
use livepatch_crds::rollout::ControlState;
use livepatch_crds::set::CumulativeTemplate;
use livepatch_planner::fleet::snapshot::{BundleView, Leave, NodeObject, NodeView};
use livepatch_planner::node::EPOCH_STALE;
use std::sync::Arc;

/// Makes a node say other than that.
type Unsays = fn(&mut World);

/// One node with a grant of the first leader that takes long; the second leader finds the rollout aborted.
fn aborted_under_another_leader() -> World {
    let mut world = World::new(&[("a", &[], "6.1")]);
    world.add_set("fix", &spec("OffBand", "{}", "{minReadySeconds: 0}"), &[("6.1", "m")]);
    world.answers.insert("a".into(), Answer::Loads(100));
    world.steps(4);
    assert!(world.granted("fix").contains("a"));
    world.rollout("fix").control.state = ControlState::Aborted;
    lead(&mut world, "lease/2");
    says(&mut world, GrantResult::Pending, EPOCH_STALE);
    world
}

fn lead(world: &mut World, epoch: &str) {
    world.snapshot.leave = Leave::Granted { epoch: epoch.into() };
}

fn node(world: &mut World) -> &mut NodeView {
    world.snapshot.nodes.get_mut("a").unwrap()
}

fn object(world: &mut World) -> &mut NodeObject {
    node(world).object.as_mut().unwrap()
}

fn entry(world: &mut World) -> Grant {
    object(world).spec.livepatches[0].clone()
}

fn says(world: &mut World, result: GrantResult, reason: &str) {
    let said = outcome(&entry(world), result, reason, "");
    object(world).status.livepatches = vec![said];
}

/// The entries of the node as they are written now; `None` if nothing is written.
fn written(world: &mut World) -> Option<Vec<Grant>> {
    let mut changes = world.look().node_changes;
    assert!(changes.len() <= 1);
    changes.pop().map(|change| change.spec.livepatches)
}

#[test]
fn what_the_agent_says_that_it_never_begins_goes() {
    let mut world = aborted_under_another_leader();
    assert_eq!(written(&mut world), Some(Vec::new()));
}

#[test]
fn what_may_have_been_begun_stays() {
    let unsaid: [(&str, Unsays); 8] = [
        ("it waits for something else", |world| {
            says(world, GrantResult::Pending, "PredecessorRemains");
        }),
        ("it came to an end", |world| {
            says(world, GrantResult::Failed, EPOCH_STALE);
        }),
        ("it says nothing", |world| object(world).status.livepatches.clear()),
        ("it said so of a former attempt", |world| {
            object(world).status.livepatches[0].attempt -= 1;
        }),
        ("it said so of a former spec", |world| object(world).generation += 1),
        ("it said so on a former boot", |world| {
            object(world).status.boot_id = "former".into();
        }),
        ("it is of the present leader", |world| lead(world, "lease/1")),
        ("it takes away", |world| {
            let entry = &mut object(world).spec.livepatches[0];
            (entry.state, entry.back) = (DesiredState::Absent, true);
            says(world, GrantResult::Pending, EPOCH_STALE);
        }),
    ];
    for (why, unsay) in unsaid {
        let mut world = aborted_under_another_leader();
        unsay(&mut world);
        let entries = written(&mut world).unwrap_or_else(|| vec![entry(&mut world)]);
        assert_eq!(entries.len(), 1, "{why}");
    }
}

#[test]
fn nothing_goes_while_nobody_leads_or_the_node_cannot_be_reached() {
    let mut world = aborted_under_another_leader();
    world.snapshot.leave = Leave::default();
    assert_eq!(written(&mut world), None);
    let mut world = aborted_under_another_leader();
    node(&mut world).ready = false;
    let entries = written(&mut world).unwrap_or_else(|| vec![entry(&mut world)]);
    assert_eq!(entries.len(), 1, "it is lost, and its grant says so");
}

#[test]
fn a_grant_that_is_given_again_is_the_same_but_for_its_leadership() {
    let mut world = aborted_under_another_leader();
    world.rollout("fix").control.state = ControlState::Run;
    let before = entry(&mut world);
    let again = Grant {
        epoch: "lease/2".into(),
        ..before
    };
    assert_eq!(written(&mut world), Some(vec![again]));
}

#[test]
fn in_its_place_comes_what_is_in_effect_as_the_node_is_now() {
    let mut world = World::new(&[("a", &[], "6.1")]);
    world.add_set(
        "fix",
        &spec("Cumulative", "{}", "{minReadySeconds: 0}"),
        &[("6.1", "m")],
    );
    world.steps(10);
    assert_eq!(world.ready_reason("fix"), "Complete");
    let set = world.set("fix");
    set.spec.template.source.oci.reference = format!("registry.example.com/next@sha256:{DIGEST}");
    set.spec.template.cumulative = Some(CumulativeTemplate {
        supersedes: vec![SupersededSet {
            set: "other".into(),
            module_sha256: vec![DIGEST.into()],
        }],
    });
    set.bundle = BundleView::Read(Arc::new(vec![module("6.1", "n")]));
    world.answers.insert("a".into(), Answer::Loads(100));
    world.steps(4);
    let before = entry(&mut world);
    assert_eq!((before.module.name.as_str(), before.start), ("n", 2));
    assert_eq!(before.policy.supersedes.len(), 1);

    // It reboots and fails so; its agent has loaded again what was in effect.
    node(&mut world).boot_id = "again".into();
    object(&mut world).status.boot_id = "again".into();
    object(&mut world).status.kernel_taints = "O".into();
    let failed = written(&mut world).unwrap();
    assert_eq!(failed[0].failed.as_deref(), Some("NodeRebooted"));
    object(&mut world).spec.livepatches = failed;
    world.rollout("fix").control.state = ControlState::Aborted;
    lead(&mut world, "lease/2");
    says(&mut world, GrantResult::Pending, EPOCH_STALE);
    let instead = Grant {
        epoch: "lease/2".into(),
        module: before.previous.clone().unwrap(),
        previous: None,
        policy: livepatch_crds::policy::GrantPolicy::default(),
        boot_id: "again".into(),
        kernel_taints: "O".into(),
        start: 0,
        failed: None,
        back: true,
        ..before
    };
    assert_eq!(instead.module.name, "m");
    assert_eq!(written(&mut world), Some(vec![instead]));

    object(&mut world).status.loaded.clear();
    assert_eq!(
        written(&mut world),
        Some(Vec::new()),
        "what is not in effect is not said to be"
    );
}

#[test]
fn no_more_grants_of_a_wave_are_given_again_than_it_bears() {
    let mut world = World::new(&[("a", &[], "6.1"), ("b", &[], "6.1"), ("c", &[], "6.1")]);
    let waves = "[{name: all, percent: 100, maxConcurrent: 2}]";
    let strategy = format!("{{minReadySeconds: 0, maxConcurrent: 100%, waves: {waves}}}");
    world.add_set("fix", &spec("OffBand", "{}", &strategy), &[("6.1", "m")]);
    for _ in 0..10 {
        if world.granted("fix").is_empty() {
            world.step();
        }
    }
    // All but the first one take long.
    let first = world.granted("fix");
    for name in ["a", "b", "c"].into_iter().filter(|name| !first.contains(*name)) {
        world.answers.insert(name.into(), Answer::Loads(100));
    }
    world.steps(4);
    assert_eq!(world.set("fix").status.counts.in_flight, 2);
    for (bears, again) in [(1, 1), (2, 2)] {
        world.set("fix").spec.rollout.waves[0].max_concurrent = Some(IntOrPercent::Int(bears));
        lead(&mut world, &format!("lease/{}", bears + 1));
        let given = world
            .look()
            .node_changes
            .iter()
            .map(|change| change.new_grants)
            .sum::<usize>();
        assert_eq!(given, again);
    }
}
