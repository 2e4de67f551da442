//! Which of a set's rollouts is the present one, which the former one, and which are history.

use crate::stories::{CANARY, DIGEST, spec, three_nodes};
use crate::world::{Answer, World, module};
use livepatch_crds::conditions::find;
use livepatch_crds::rollout::ControlState;
use livepatch_planner::fleet::Decision;
use livepatch_planner::fleet::rollback::former;
use livepatch_planner::fleet::snapshot::{BundleView, RolloutView};
use std::sync::Arc;

fn complete() -> World {
    let mut world = three_nodes();
    world.add_set("fix", &spec("Cumulative", "{}", CANARY), &[("6.1", "m"), ("6.12", "m")]);
    world.steps(20);
    assert_eq!(world.ready_reason("fix"), "Complete");
    world
}

fn revise(world: &mut World, name: &str) {
    let set = world.set("fix");
    set.generation += 1;
    set.spec.template.source.oci.reference = format!("registry.example.com/{name}@sha256:{DIGEST}");
    set.bundle = BundleView::Read(Arc::new(vec![module("6.1", name), module("6.12", name)]));
}

fn rollouts(world: &mut World) -> &mut Vec<RolloutView> {
    &mut world.set("fix").rollouts
}

#[test]
fn a_rollout_of_another_set_of_that_name_or_one_that_is_being_deleted_is_not_the_present_one() {
    let others: [fn(&mut RolloutView); 2] = [
        |rollout| rollout.set_uid = "uid-former".into(),
        |rollout| rollout.deleting = true,
    ];
    for other in others {
        let mut world = complete();
        let name = world.rollout("fix").name.clone();
        other(world.rollout("fix"));
        let decision = world.look();
        let (_, status) = &decision.set_statuses[0];
        assert_eq!(status.rollout, None);
        assert!(decision.rollout_statuses.iter().all(|(written, _)| *written != name));
        let made: Vec<&str> = decision.new_rollouts.iter().map(|new| &*new.name).collect();
        assert_eq!(made, [name.as_str()]);
    }
}

#[test]
fn no_rollout_is_made_for_a_set_that_is_not_accepted() {
    let mut world = three_nodes();
    world.add_set("fix", &spec("Cumulative", "{}", CANARY), &[("6.1", "m")]);
    world.set("fix").bundle = BundleView::Unread;
    assert!(world.look().new_rollouts.is_empty());
    world.set("fix").bundle = BundleView::Read(Arc::default());
    assert_eq!(world.look().new_rollouts.len(), 1);
    world.set("fix").deleting = true;
    assert!(world.look().new_rollouts.is_empty());
}

#[test]
fn the_former_rollout_is_the_one_that_was_completed_last_or_else_the_youngest_other() {
    let mut world = complete();
    let first = world.rollout("fix").name.clone();
    assert_eq!(
        former(world.set("fix")),
        None,
        "the present one is not its own former one"
    );
    revise(&mut world, "n");
    world.answers.insert("a".into(), Answer::Refuses);
    world.steps(8);
    let second = world.rollout("fix").name.clone();
    revise(&mut world, "o");
    world.steps(3);
    let name = |world: &mut World| former(world.set("fix")).map(|rollout| rollout.name.clone());
    assert_eq!(
        name(&mut world),
        Some(first.clone()),
        "the second never came to its end"
    );
    world.set("fix").status.current_revision = None;
    assert_eq!(name(&mut world), Some(second.clone()));
    for rollout in rollouts(&mut world).iter_mut() {
        rollout.deleting = rollout.name == second;
    }
    assert_eq!(name(&mut world), Some(first));
}

#[test]
fn what_is_history_says_so_once_and_says_nothing_of_waves_any_more() {
    let mut world = complete();
    world.rollout("fix").status.blocked_by = Some("something".into());
    world.rollout("fix").status.wave = Some("rest".into());
    world.rollout("fix").generation = 5;
    let before = world.rollout("fix").status.clone();
    assert_eq!(before.waves.len(), 2);
    revise(&mut world, "n");
    world.steps(2);
    let history = rollouts(&mut world)[0].status.clone();
    assert_eq!((history.waves.len(), history.wave, history.blocked_by), (0, None, None));
    assert_eq!(history.observed_generation, 5);
    assert_eq!((history.counts, history.failures), (before.counts, before.failures));
    for kind in ["Ready", "Reconciling", "Stalled", "Complete"] {
        let condition = find(&history.conditions, kind).unwrap();
        assert_eq!(
            (&*condition.reason, &*condition.status),
            ("Superseded", "False"),
            "{kind}"
        );
    }
    let name = rollouts(&mut world)[0].name.clone();
    let decision = world.look();
    assert!(decision.rollout_statuses.iter().all(|(written, _)| *written != name));
}

#[test]
fn what_is_being_deleted_is_neither_written_nor_counted_as_history() {
    let mut world = complete();
    world.set("fix").spec.revision_history_limit = 1;
    revise(&mut world, "n");
    world.steps(20);
    revise(&mut world, "o");
    rollouts(&mut world)[0].deleting = true;
    rollouts(&mut world)[0].status.conditions.clear();
    world.pass();
    let deleting = rollouts(&mut world)[0].name.clone();
    let decision = world.look();
    assert!(decision.expired_rollouts.is_empty());
    assert!(
        decision
            .rollout_statuses
            .iter()
            .all(|(written, _)| *written != deleting)
    );
    rollouts(&mut world)[0].deleting = false;
    assert_eq!(world.look().expired_rollouts, [deleting]);
}

#[test]
fn a_set_that_is_being_deleted_goes_neither_on_nor_back() {
    for state in [ControlState::Run, ControlState::RolledBack] {
        let mut world = complete();
        world.removes = true;
        world.steps(2);
        let node = crate::world::node("d", &[], "6.1");
        world.snapshot.nodes.insert("d".into(), node);
        world.rollout("fix").control.state = state;
        world.set("fix").deleting = true;
        for _ in 0..5 {
            let decision = world.pass();
            let grants: usize = decision.node_changes.iter().map(|change| change.new_grants).sum();
            assert_eq!(grants, 0, "{state:?}");
        }
        world.set("fix").deleting = false;
        world.steps(20);
        assert!(["Complete", "RolledBack"].contains(&&*world.ready_reason("fix")));
        assert_eq!(world.look(), Decision::default());
    }
}

#[test]
fn nothing_is_granted_before_set_and_rollout_both_say_that_this_start_is_on() {
    let grants =
        |world: &mut World| -> usize { world.look().node_changes.iter().map(|change| change.new_grants).sum() };
    let started = || {
        let mut world = three_nodes();
        world.add_set("fix", &spec("Cumulative", "{}", CANARY), &[("6.1", "m"), ("6.12", "m")]);
        world.steps(2);
        world
    };
    assert_eq!(grants(&mut started()), 1);
    let mut world = started();
    world.set("fix").status.start = None;
    assert_eq!(grants(&mut world), 0, "that write is lost");
    let mut world = started();
    world.rollout("fix").status.start = 0;
    assert_eq!(grants(&mut world), 0, "and so is that one");
}
