//! Rules that hold after every step of every rollout, whatever the nodes do.

use crate::world::{Answer, NodeSketch, World};
use livepatch_crds::rollout::{LivepatchRolloutStatus, WaveState};
use livepatch_planner::fleet::decide;
use livepatch_planner::fleet::standing::is_unresolved;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const DIGEST: &str = "0000000000000000000000000000000000000000000000000000000000000000";
const KERNELS: [&str; 3] = ["6.1", "6.12", "7.2"];

#[derive(Clone, Debug)]
struct Plan {
    nodes: Vec<(bool, usize, Answer)>,
    max_concurrent: usize,
    wave_concurrent: usize,
    min_ready: i32,
    take_over_every: usize,
    max_failed: i32,
    changes: Vec<(usize, usize, Change)>,
}

/// What befalls a node in the middle of a rollout.
#[derive(Clone, Copy, Debug)]
enum Change {
    Deselected,
    Selected,
    Canary,
    Kernel(usize),
    LeftOut,
    Gone,
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        3 => Just(Change::Deselected),
        2 => Just(Change::Selected),
        1 => Just(Change::Canary),
        2 => (0usize..3).prop_map(Change::Kernel),
        1 => Just(Change::LeftOut),
        1 => Just(Change::Gone),
    ]
}

fn befall(world: &mut World, index: usize, change: Change) {
    let name = format!("n{}", index % world.snapshot.nodes.len().max(1));
    if let Change::LeftOut = change {
        if let Some(rollout) = world.set("fix").rollouts.first_mut() {
            rollout.control.exclude_nodes.push(name);
        }
        return;
    }
    if let Change::Gone = change {
        world.snapshot.nodes.remove(&name);
        return;
    }
    let Some(node) = world.snapshot.nodes.get_mut(&name) else {
        return;
    };
    match change {
        Change::Deselected => _ = node.labels.insert("out".into(), "true".into()),
        Change::Selected => _ = node.labels.remove("out"),
        Change::Canary => _ = node.labels.insert("pool".into(), "canary".into()),
        Change::Kernel(kernel) => {
            node.labels.insert("kernel".into(), KERNELS[kernel].into());
            node.boot_id.push_str("-again");
        }
        Change::LeftOut | Change::Gone => {}
    }
}

fn answer() -> impl Strategy<Value = Answer> {
    prop_oneof![
        20 => (1u32..6).prop_map(Answer::Loads),
        1 => Just(Answer::Refuses),
        1 => Just(Answer::Stalls),
        1 => Just(Answer::Vanishes),
        1 => Just(Answer::Reboots),
        1 => Just(Answer::Warns),
    ]
}

fn plan() -> impl Strategy<Value = Plan> {
    (
        proptest::collection::vec((any::<bool>(), 0usize..3, answer()), 1..14),
        1usize..5,
        1usize..4,
        0i32..4,
        8usize..40,
        0i32..3,
        proptest::collection::vec((0usize..100, 0usize..14, change()), 0..6),
    )
        .prop_map(
            |(nodes, max_concurrent, wave_concurrent, min_ready, take_over_every, max_failed, changes)| Plan {
                nodes,
                max_concurrent,
                wave_concurrent,
                min_ready,
                take_over_every,
                max_failed,
                changes,
            },
        )
}

fn world(plan: &Plan) -> World {
    let named: Vec<(String, bool, usize, Answer)> = plan
        .nodes
        .iter()
        .enumerate()
        .map(|(n, (canary, kernel, answer))| (format!("n{n}"), *canary, *kernel, *answer))
        .collect();
    let nodes: Vec<NodeSketch<'_>> = named
        .iter()
        .map(|(name, canary, kernel, _)| {
            let labels: &[(&str, &str)] = if *canary { &[("pool", "canary")] } else { &[] };
            (name.as_str(), labels, KERNELS[*kernel])
        })
        .collect();
    let mut world = World::new(&nodes);
    for (name, _, _, answer) in &named {
        world.answers.insert(name.clone(), *answer);
    }
    let spec = format!(
        "{{type: Cumulative, nodeSelector: {{matchExpressions: [{{key: out, operator: DoesNotExist}}]}}, \
         rollout: {{minReadySeconds: {}, maxConcurrent: {}, maxFailed: {}, maxStalled: {}, waves: [{{name: canary, \
         nodeSelector: {{matchLabels: {{pool: canary}}}}, maxConcurrent: {}}}]}}, \
         template: {{source: {{oci: {{reference: 'registry.example.com/a@sha256:{DIGEST}'}}}}}}}}",
        plan.min_ready, plan.max_concurrent, plan.max_failed, plan.max_failed, plan.wave_concurrent
    );
    world.add_set("fix", &spec, &KERNELS.map(|kernel| (kernel, "m")));
    world
}

/// Grants that came to no end: what the kernel of their node runs is not settled by anything but time.
fn in_flight(world: &World) -> BTreeMap<String, String> {
    world
        .snapshot
        .nodes
        .iter()
        .filter_map(|(name, node)| {
            let object = node.object.as_ref()?;
            let grant = object.spec.livepatches.first()?;
            (grant.failed.is_none() && is_unresolved(object, grant)).then(|| (name.clone(), grant.wave.clone()))
        })
        .collect()
}

/// More failed than is borne.
fn is_halted(status: &LivepatchRolloutStatus, max_failed: i32) -> bool {
    status.failed.refused + status.failed.lost > max_failed || status.failed.stalled > max_failed
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn budgets_waves_halts_and_canaries_hold(plan in plan()) {
        let mut world = world(&plan);
        let has_canary = plan.nodes.iter().any(|(canary, _, _)| *canary);
        let mut halted_with: Option<BTreeSet<String>> = None;
        let mut canaries_ever: BTreeSet<String> = BTreeSet::new();
        for step in 0..220 {
            if step % plan.take_over_every == 0 {
                world.take_over();
            }
            for (_, node, change) in plan.changes.iter().filter(|(at, _, _)| *at == step) {
                befall(&mut world, *node, *change);
            }
            let canaries = world.snapshot.nodes.iter().filter(|(_, node)| node.labels.contains_key("pool"));
            canaries_ever.extend(canaries.map(|(name, _)| name.clone()));
            // A grant rests on what was written before it, not on what is written with it.
            let written = world.set("fix").rollouts.first().map(|rollout| rollout.status.clone()).unwrap_or_default();
            let canary_passed = written.waves.first().is_some_and(|wave| wave.state == WaveState::Passed);
            world.step();
            let flying = in_flight(&world);
            prop_assert!(flying.len() <= plan.max_concurrent, "{flying:?}");
            let canaries = flying.values().filter(|wave| *wave == "canary").count();
            prop_assert!(canaries <= plan.wave_concurrent, "{flying:?}");
            let granted = world.granted("fix");
            let status = world.set("fix").rollouts.first().map(|rollout| rollout.status.clone()).unwrap_or_default();
            for name in &granted {
                prop_assert!(canaries_ever.contains(name) || canary_passed, "{name} was granted before the canary wave passed");
            }
            if let Some(then) = &halted_with {
                prop_assert!(granted.is_subset(then), "a grant was given after the halt");
            } else if is_halted(&status, plan.max_failed) {
                halted_with = Some(granted);
            }
            let counts = status.counts;
            let parts = counts.pending + counts.in_flight + counts.settled + counts.failed + counts.not_applicable
                + counts.unreachable + counts.held + counts.unknown + counts.excluded + counts.rolled_back;
            prop_assert_eq!(parts, counts.selected);
        }
        let all_well = plan.nodes.iter().all(|(_, _, answer)| matches!(answer, Answer::Loads(_)));
        if !plan.changes.is_empty() {
            // Whether a canary is left, nobody can tell here.
        } else if all_well && has_canary {
            prop_assert_eq!(world.ready_reason("fix"), "Complete");
            prop_assert_eq!(decide(&world.snapshot, world.now), livepatch_planner::fleet::Decision::default());
        } else if plan.max_failed == 0 && !all_well {
            prop_assert_ne!(world.ready_reason("fix"), "Complete");
        }
    }

    #[test]
    fn no_second_node_of_a_kernel_build_before_the_first_has_settled(plan in plan()) {
        let mut world = world(&plan);
        let mut settled: BTreeSet<String> = BTreeSet::new();
        for _ in 0..240 {
            world.step();
            if let Some(rollout) = world.set("fix").rollouts.first() {
                let builds = rollout.status.kernels.iter().filter(|kernel| kernel.settled > 0);
                settled.extend(builds.map(|kernel| kernel.release.clone()));
            }
            let mut granted: BTreeMap<String, usize> = BTreeMap::new();
            for node in world.snapshot.nodes.values() {
                let grants = node.object.iter().flat_map(|object| &object.spec.livepatches);
                // One that failed proves nothing, and the next one is the canary.
                if grants.into_iter().any(|grant| grant.failed.is_none()) {
                    *granted.entry(node.labels["kernel"].clone()).or_default() += 1;
                }
            }
            for (kernel, number) in granted {
                prop_assert!(number <= 1 || settled.contains(&kernel), "{number} nodes of {kernel}");
            }
        }
    }
}
