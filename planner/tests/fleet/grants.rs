//! What a grant holds, where it stands among the others of its node, and what keeps one from being given.

use crate::stories::{DIGEST, spec};
use crate::world::{Answer, World, module, node};
use livepatch_crds::node::{DesiredState, MAX_LIVEPATCHES};
use livepatch_planner::fleet::snapshot::{BundleView, NodeObject};
use livepatch_planner::fleet::standing::is_unresolved;
use std::sync::Arc;

const QUICK: &str = "{minReadySeconds: 0, maxConcurrent: 100%}";

fn object(world: &mut World) -> &mut NodeObject {
    world.snapshot.nodes.get_mut("a").unwrap().object.as_mut().unwrap()
}

fn revise(world: &mut World, name: &str) {
    let set = world.set("fix");
    set.spec.template.source.oci.reference = format!("registry.example.com/{name}@sha256:{DIGEST}");
    set.bundle = BundleView::Read(Arc::new(vec![module("6.1", name), module("6.12", name)]));
}

fn open_grants(world: &World) -> usize {
    let objects = world.snapshot.nodes.values().filter_map(|node| node.object.as_ref());
    objects
        .filter(|object| object.spec.livepatches.iter().any(|grant| is_unresolved(object, grant)))
        .count()
}

#[test]
fn the_cumulative_livepatch_comes_first_whoever_was_granted_first() {
    let mut world = World::new(&[("a", &[], "6.1")]);
    world.add_set("hot", &spec("OffBand", "{}", QUICK), &[("6.1", "hot")]);
    world.steps(6);
    world.add_set("base", &spec("Cumulative", "{}", QUICK), &[("6.1", "base")]);
    world.steps(6);
    world.add_set("late", &spec("OffBand", "{}", QUICK), &[("6.1", "late")]);
    world.steps(6);
    let entries = &object(&mut world).spec.livepatches;
    let names: Vec<&str> = entries.iter().map(|grant| &*grant.set.name).collect();
    assert_eq!(names, ["base", "hot", "late"]);
    for set in ["base", "hot", "late"] {
        assert_eq!(world.ready_reason(set), "Complete");
    }
}

#[test]
fn a_node_has_no_more_grants_than_its_object_holds() {
    let mut world = World::new(&[("a", &[], "6.1")]);
    for number in 0..=MAX_LIVEPATCHES {
        let name = format!("s{number:02}");
        world.add_set(&name, &spec("OffBand", "{}", QUICK), &[("6.1", &name)]);
    }
    let mut given = 0;
    for _ in 0..8 {
        let decision = world.step();
        given += decision
            .node_changes
            .iter()
            .map(|change| change.new_grants)
            .sum::<usize>();
    }
    assert_eq!(object(&mut world).spec.livepatches.len(), MAX_LIVEPATCHES);
    assert_eq!(given, MAX_LIVEPATCHES);
}

/// What the grant of the next revision names as what was there before, on a node that runs `m` and was changed so.
fn before_the_next(change: fn(&mut NodeObject)) -> Option<String> {
    let mut world = World::new(&[("a", &[], "6.1")]);
    world.add_set("fix", &spec("Cumulative", "{}", QUICK), &[("6.1", "m")]);
    world.steps(8);
    assert_eq!(world.ready_reason("fix"), "Complete");
    let entry = &mut object(&mut world).spec.livepatches[0];
    let mut older = entry.module.clone();
    (older.name, older.sha256) = ("older".into(), "older".into());
    entry.previous = Some(older);
    revise(&mut world, "n");
    world.steps(2);
    change(object(&mut world));
    let written = world.look().node_changes.remove(0).spec.livepatches.remove(0);
    assert_eq!(written.module.name, "n");
    written.previous.map(|previous| previous.name)
}

#[test]
fn what_was_there_before_is_what_the_former_grant_put_there_or_else_found() {
    let older = Some("older".to_owned());
    assert_eq!(before_the_next(|_| ()), Some("m".into()));
    assert_eq!(before_the_next(|object| object.status.loaded.clear()), older);
    assert_eq!(
        before_the_next(|object| object.spec.livepatches[0].failed = Some("NodeLost".into())),
        older
    );
    assert_eq!(
        before_the_next(|object| object.spec.livepatches[0].module.sha256 = "n-6.1".into()),
        older,
        "it is this very one that was there"
    );
    let kernel: fn(&mut NodeObject) = |object| {
        object.status.kernel.build_id = "id-another".into();
        object.status.loaded.clear();
    };
    assert_eq!(before_the_next(kernel), None, "that was for another kernel");
    let same: fn(&mut NodeObject) = |object| {
        object.status.loaded.clear();
        object.spec.livepatches[0].previous.as_mut().unwrap().sha256 = "n-6.1".into();
    };
    assert_eq!(before_the_next(same), None);
    let absent: fn(&mut NodeObject) = |object| {
        object.spec.livepatches[0].state = DesiredState::Absent;
        object.spec.livepatches[0].back = true;
    };
    assert_eq!(before_the_next(absent), older, "that one was to go");
}

#[test]
fn grants_of_a_former_revision_hold_their_slots_until_they_are_handed_on() {
    for waves in ["[]", "[{name: most, percent: 70, maxConcurrent: 2}]"] {
        let mut world = World::new(&[]);
        for n in 0..10 {
            let name = format!("n{n}");
            world.snapshot.nodes.insert(name.clone(), node(&name, &[], "6.1"));
        }
        let strategy = format!("{{minReadySeconds: 0, maxConcurrent: 3, waves: {waves}}}");
        world.add_set("fix", &spec("Cumulative", "{}", &strategy), &[("6.1", "m")]);
        for _ in 0..20 {
            if world.set("fix").status.counts.settled == 0 {
                world.step();
            }
        }
        for n in 0..10 {
            world.answers.insert(format!("n{n}"), Answer::Loads(8));
        }
        world.steps(3);
        let limit = open_grants(&world);
        assert_eq!(limit, if waves == "[]" { 3 } else { 2 });
        revise(&mut world, "n");
        for _ in 0..8 {
            world.step();
            assert!(open_grants(&world) <= limit);
        }
        let next = |world: &World| {
            let objects = world.snapshot.nodes.values().filter_map(|node| node.object.as_ref());
            let entries = objects.flat_map(|object| &object.spec.livepatches);
            entries.filter(|grant| grant.module.name == "n").count()
        };
        assert!(next(&world) > 0, "they are handed on");
        for _ in 0..150 {
            world.step();
            assert!(open_grants(&world) <= 3);
        }
        assert_eq!((world.ready_reason("fix").as_str(), next(&world)), ("Complete", 10));
    }
}

#[test]
fn a_set_that_holds_the_cap_itself_does_not_lay_it_on_others() {
    let mut world = World::new(&[("a", &[], "6.1"), ("b", &[], "6.1"), ("c", &[], "6.1")]);
    world.add_set("fix", &spec("OffBand", "{}", QUICK), &[("6.1", "m")]);
    world.snapshot.limits.max_in_flight = Some(1);
    for name in ["a", "b", "c"] {
        world.answers.insert(name.into(), Answer::Loads(4));
    }
    for _ in 0..40 {
        world.step();
        assert!(open_grants(&world) <= 1);
        let blocked_by = world.set("fix").status.blocked_by.clone().unwrap_or_default();
        assert!(!blocked_by.contains("over all sets"), "{blocked_by}");
    }
    assert_eq!(world.ready_reason("fix"), "Complete");
}
