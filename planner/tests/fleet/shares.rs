//! Waves that are a share of the nodes, when nodes come, go and change: [`World::look`] compares what is kept with what is
//! shared out anew.

use crate::stories::{DIGEST, spec};
use crate::world::{Answer, World, node};
use livepatch_planner::fleet::standing::is_unresolved;

const ZONE: &str = "topology.kubernetes.io/zone";
const WAVES: [&str; 2] = [
    "[{name: part, percent: 40}, {name: half, percent: 30}]",
    "[{name: east, nodeSelector: {matchLabels: {pool: p0}}}, {name: west, nodeSelector: {matchLabels: {pool: p1}}}]",
];

fn join(world: &mut World, number: usize) {
    let name = format!("n{number:02}");
    let (zone, pool) = (format!("z{}", number % 3), format!("p{}", number % 3));
    let labels = [("workload", "edge"), (ZONE, zone.as_str()), ("pool", pool.as_str())];
    let joined = node(&name, &labels, "6.1");
    world.snapshot.nodes.insert(name.clone(), joined);
    world.answers.insert(name, Answer::Loads(6));
}

fn fleet(waves: &str) -> World {
    let mut world = World::new(&[]);
    (0..9).for_each(|number| join(&mut world, number));
    let strategy = format!("{{minReadySeconds: 0, maxConcurrent: 2, waves: {waves}}}");
    let spec = spec("OffBand", "{matchLabels: {workload: edge}}", &strategy);
    world.add_set("fix", &spec, &[("6.1", "m")]);
    for _ in 0..40 {
        if world.set("fix").status.counts.settled < 2 || in_flight(&world).is_empty() {
            world.pass();
        }
    }
    world
}

fn label(world: &mut World, name: &str, key: &str, value: &str) {
    let node = world.snapshot.nodes.get_mut(name).unwrap();
    node.labels.insert(key.into(), value.into());
}

fn in_flight(world: &World) -> Vec<String> {
    let open = world.snapshot.nodes.iter().filter(|(_, node)| {
        let object = node.object.as_ref();
        object.is_some_and(|object| object.spec.livepatches.iter().any(|grant| is_unresolved(object, grant)))
    });
    open.map(|(name, _)| name.clone()).collect()
}

#[test]
fn each_node_that_comes_or_goes_is_in_the_wave_that_it_would_be_in_at_first() {
    for waves in WAVES {
        let mut world = fleet(waves);
        for number in 9..24 {
            join(&mut world, number);
            world.look();
        }
        for number in (0..24).step_by(5) {
            world.snapshot.nodes.remove(&format!("n{number:02}"));
            world.look();
        }
        let selected: i32 = world.look().rollout_statuses[0]
            .1
            .waves
            .iter()
            .map(|wave| wave.selected)
            .sum();
        assert_eq!(selected, 19);
    }
}

#[test]
fn each_node_that_changes_is_in_the_wave_that_it_would_be_in_at_first() {
    for waves in WAVES {
        let mut world = fleet(waves);
        for number in 0..9 {
            let name = format!("n{number:02}");
            label(&mut world, &name, ZONE, "z9");
            world.look();
            label(&mut world, &name, "pool", "p1");
            world.look();
            label(&mut world, &name, "workload", "none");
            world.look();
            label(&mut world, &name, "workload", "edge");
            world.look();
            world.snapshot.nodes.get_mut(&name).unwrap().uid = format!("another-{number}");
            world.look();
            world.pass();
        }
    }
}

#[test]
fn a_node_that_leaves_in_mid_flight_takes_no_share_any_more() {
    for waves in WAVES {
        for revised in [false, true] {
            let mut world = fleet(waves);
            if revised {
                let template = &mut world.set("fix").spec.template;
                template.source.oci.reference = format!("registry.example.com/next@sha256:{DIGEST}");
                // Its rollout is there and has given no grant yet.
                world.pass();
                world.pass();
            }
            let leaving = in_flight(&world);
            assert!(!leaving.is_empty());
            for name in &leaving {
                label(&mut world, name, "workload", "none");
                world.look();
                world.snapshot.nodes.get_mut(name).unwrap().ready = false;
                world.look();
            }
            for _ in 0..4 {
                world.pass();
            }
            for name in &leaving {
                label(&mut world, name, "workload", "edge");
                world.look();
            }
        }
    }
}

#[test]
fn a_node_that_leaves_with_a_grant_of_a_former_revision_is_counted_with_the_rest() {
    let mut world = fleet(WAVES[1]);
    let template = &mut world.set("fix").spec.template;
    template.source.oci.reference = format!("registry.example.com/next@sha256:{DIGEST}");
    world.pass();
    world.pass();
    let leaving = in_flight(&world);
    for name in &leaving {
        label(&mut world, name, "workload", "none");
    }
    let nodes = world.snapshot.nodes.iter();
    let of_the_rest = nodes.filter(|(name, node)| node.labels["pool"] == "p2" && !leaving.contains(name));
    let expected = of_the_rest.count() + leaving.len();
    let (_, status) = world.look().rollout_statuses.pop().unwrap();
    assert_eq!(usize::try_from(status.waves[2].selected), Ok(expected));
}
