//! Failures that stay: a node that failed in an attempt is not touched again before a person raises the attempt.

use crate::stories::{DIGEST, names, spec, three_nodes};
use crate::world::{Answer, World, module};
use livepatch_planner::fleet::snapshot::BundleView;
use std::sync::Arc;

const BORNE: &str = "{minReadySeconds: 0, maxConcurrent: 1, maxFailed: 1}";

/// A set that rolled out to three nodes, of which `a` refused.
fn one_refused() -> World {
    let mut world = three_nodes();
    world.answers.insert("a".into(), Answer::Refuses);
    world.add_set("fix", &spec("Cumulative", "{}", BORNE), &[("6.1", "m"), ("6.12", "m")]);
    world.steps(20);
    assert_eq!(world.set("fix").status.counts.failed, 1);
    world
}

fn revise(world: &mut World, name: &str, digest: &str) {
    let set = world.set("fix");
    set.spec.template.source.oci.reference = format!("registry.example.com/livepatches@sha256:{digest}");
    set.bundle = BundleView::Read(Arc::new(vec![module("6.1", name), module("6.12", name)]));
}

#[test]
fn a_failure_stays_when_a_set_returns_to_a_revision() {
    let mut world = one_refused();
    world.answers.insert("a".into(), Answer::Loads(1));
    revise(&mut world, "n", &DIGEST.replace('0', "1"));
    world.steps(20);
    assert_eq!(
        world.granted("fix"),
        names(&["a", "b", "c"]),
        "another revision is another try"
    );

    revise(&mut world, "m", DIGEST);
    for _ in 0..20 {
        let decision = world.step();
        let given = decision.node_changes.iter().filter(|change| change.node == "a");
        let modules = given.flat_map(|change| change.spec.livepatches.iter().map(|grant| &*grant.module.name));
        assert_eq!(modules.filter(|module| *module == "m").count(), 0, "it failed there");
    }
    assert_eq!(world.set("fix").status.counts.failed, 1);
    assert_eq!(world.set("fix").status.counts.settled, 2);

    world.set("fix").rollouts[0].control.attempt = 2;
    world.steps(20);
    assert_eq!(world.ready_reason("fix"), "Complete");
}
