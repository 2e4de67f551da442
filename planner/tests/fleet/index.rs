//! What is kept from one decision to the next: with it the decision is the same as without. [`World::look`] compares them.

use crate::stories::DIGEST;
use crate::world::{Answer, World, node};
use jiff::SignedDuration;
use livepatch_crds::rollout::ControlState;
use livepatch_planner::fleet::snapshot::{BundleView, Leave};
use proptest::prelude::*;

const KERNELS: [&str; 2] = ["6.1", "6.12"];
const POOLS: [&str; 3] = ["canary", "edge", "web"];
const SETS: [&str; 3] = ["base", "rival", "hot"];

/// Something that happens between two looks. Nodes, sets and the rest by number.
#[derive(Clone, Debug)]
enum Change {
    Join(usize, usize, usize),
    Leave(usize),
    Pool(usize, usize),
    Zone(usize, usize),
    Skip(usize, bool),
    Ready(usize, bool),
    Boot(usize),
    Kernel(usize, usize),
    Answer(usize, Answer),
    Deleting(usize),
    Control(usize, ControlState),
    Promote(usize),
    Attempt(usize),
    Exclude(usize, usize),
    Revise(usize),
    MaxConcurrent(usize, i32),
    MinReady(usize, i32),
    Percent(usize, i32),
    Selector(usize, usize),
    Unreadable(usize),
    Remove(usize),
    Freeze(bool),
    Cap(Option<usize>),
    Epoch(usize),
    Withhold,
    TakeOver,
    Wait(i64),
    Steps(usize),
}

impl Change {
    /// The set to which it happens, if it happens to one.
    fn set(&self) -> Option<usize> {
        match *self {
            Self::Control(index, _)
            | Self::Promote(index)
            | Self::Attempt(index)
            | Self::Exclude(index, _)
            | Self::Revise(index)
            | Self::MaxConcurrent(index, _)
            | Self::MinReady(index, _)
            | Self::Percent(index, _)
            | Self::Selector(index, _)
            | Self::Unreadable(index)
            | Self::Remove(index) => Some(index),
            _ => None,
        }
    }
}

fn change() -> impl Strategy<Value = Change> {
    let (node, set) = (0usize..9, 0usize..SETS.len());
    let nodes = prop_oneof![
        (node.clone(), 0usize..3, 0usize..2).prop_map(|(n, pool, kernel)| Change::Join(n, pool, kernel)),
        node.clone().prop_map(Change::Leave),
        (node.clone(), 0usize..3).prop_map(|(n, pool)| Change::Pool(n, pool)),
        (node.clone(), 0usize..3).prop_map(|(n, zone)| Change::Zone(n, zone)),
        (node.clone(), any::<bool>()).prop_map(|(n, skip)| Change::Skip(n, skip)),
        (node.clone(), any::<bool>()).prop_map(|(n, ready)| Change::Ready(n, ready)),
        node.clone().prop_map(Change::Boot),
        (node.clone(), 0usize..2).prop_map(|(n, kernel)| Change::Kernel(n, kernel)),
        (node.clone(), answer()).prop_map(|(n, answer)| Change::Answer(n, answer)),
        node.clone().prop_map(Change::Deleting),
    ];
    let sets = prop_oneof![
        (set.clone(), state()).prop_map(|(set, state)| Change::Control(set, state)),
        set.clone().prop_map(Change::Promote),
        set.clone().prop_map(Change::Attempt),
        (set.clone(), node).prop_map(|(set, n)| Change::Exclude(set, n)),
        set.clone().prop_map(Change::Revise),
        (set.clone(), 1i32..5).prop_map(|(set, number)| Change::MaxConcurrent(set, number)),
        (set.clone(), 0i32..4).prop_map(|(set, seconds)| Change::MinReady(set, seconds)),
        (set.clone(), 1i32..100).prop_map(|(set, percent)| Change::Percent(set, percent)),
        (set.clone(), 0usize..4).prop_map(|(set, pool)| Change::Selector(set, pool)),
        set.clone().prop_map(Change::Unreadable),
        set.prop_map(Change::Remove),
    ];
    let all = prop_oneof![
        any::<bool>().prop_map(Change::Freeze),
        prop::option::of(1usize..4).prop_map(Change::Cap),
        (1usize..4).prop_map(Change::Epoch),
        Just(Change::Withhold),
        Just(Change::TakeOver),
        (-5i64..60).prop_map(Change::Wait),
    ];
    prop_oneof![
        6 => nodes,
        3 => sets,
        2 => all,
        10 => (1usize..6).prop_map(Change::Steps),
    ]
}

fn answer() -> impl Strategy<Value = Answer> {
    prop_oneof![
        6 => (1u32..4).prop_map(Answer::Loads),
        1 => Just(Answer::Refuses),
        1 => Just(Answer::Stalls),
        1 => Just(Answer::Vanishes),
        1 => Just(Answer::Reboots),
        1 => Just(Answer::Warns),
    ]
}

fn state() -> impl Strategy<Value = ControlState> {
    prop_oneof![
        3 => Just(ControlState::Run),
        1 => Just(ControlState::Paused),
        1 => Just(ControlState::Aborted),
        1 => Just(ControlState::RolledBack),
    ]
}

fn spec(kind: &str, selector: &str, waves: &str, rest: &str) -> String {
    format!(
        "{{type: {kind}, nodeSelector: {selector}, rollout: {{minReadySeconds: 1, maxConcurrent: 3, maxFailed: 2, \
         waves: {waves}}}, {rest} template: {{source: {{oci: {{reference: \
         'registry.example.com/livepatches@sha256:{DIGEST}'}}}}}}}}"
    )
}

fn world() -> World {
    let mut world = World::new(&[]);
    for number in 0..7 {
        join(&mut world, number, number % 3, number % 2);
    }
    let modules = |name| KERNELS.map(|kernel| (kernel, name));
    let shares =
        "[{name: canary, nodeSelector: {matchLabels: {pool: canary}}}, {name: third, percent: 34, maxConcurrent: 2}]";
    world.add_set("base", &spec("Cumulative", "{}", shares, ""), &modules("m1"));
    let edge = "{matchLabels: {pool: edge}}";
    world.add_set("rival", &spec("Cumulative", edge, "[]", ""), &modules("m2"));
    let by_labels = "[{name: one, nodeSelector: {matchLabels: {zone: z0}}, minSucceeded: 0}]";
    let removed = "removalPolicy: Unload,";
    world.add_set("hot", &spec("OffBand", edge, by_labels, removed), &modules("m3"));
    world.removes = true;
    world
}

fn join(world: &mut World, number: usize, pool: usize, kernel: usize) {
    let name = format!("n{number}");
    let zone = format!("z{}", number % 3);
    let labels = [("pool", POOLS[pool]), ("zone", zone.as_str()), (ZONE, zone.as_str())];
    let joined = node(&name, &labels, KERNELS[kernel]);
    world.snapshot.nodes.insert(name, joined);
}

const ZONE: &str = "topology.kubernetes.io/zone";

fn happen(world: &mut World, number: usize, change: &Change) {
    if happened_to_node(world, number, change) || happened_to_set(world, change) {
        return;
    }
    match *change {
        Change::Freeze(frozen) => world.snapshot.limits.frozen = frozen.then(|| "a freeze".to_owned()),
        Change::Cap(cap) => world.snapshot.limits.max_in_flight = cap,
        Change::Epoch(epoch) => {
            world.snapshot.leave = Leave::Granted {
                epoch: format!("lease/{epoch}"),
            }
        }
        Change::Withhold => world.snapshot.leave = Leave::default(),
        Change::TakeOver => world.take_over(),
        Change::Wait(seconds) => world.now += SignedDuration::from_secs(seconds),
        Change::Steps(steps) => (0..steps).for_each(|_| _ = world.pass()),
        _ => {}
    }
}

/// Whether it was something that happens to a node.
fn happened_to_node(world: &mut World, number: usize, change: &Change) -> bool {
    let index = match change {
        Change::Join(index, pool, kernel) => {
            join(world, *index, *pool, *kernel);
            return true;
        }
        Change::Leave(index) => {
            world.snapshot.nodes.remove(&format!("n{index}"));
            return true;
        }
        Change::Answer(index, answer) => {
            world.answers.insert(format!("n{index}"), *answer);
            return true;
        }
        Change::Pool(index, _)
        | Change::Zone(index, _)
        | Change::Skip(index, _)
        | Change::Ready(index, _)
        | Change::Boot(index)
        | Change::Kernel(index, _)
        | Change::Deleting(index) => index,
        _ => return false,
    };
    let Some(node) = world.snapshot.nodes.get_mut(&format!("n{index}")) else {
        return true;
    };
    match change {
        Change::Pool(_, pool) => _ = node.labels.insert("pool".into(), POOLS[*pool].into()),
        Change::Zone(_, zone) => _ = node.labels.insert(ZONE.into(), format!("z{zone}")),
        Change::Skip(_, skip) => _ = node.labels.insert("livepatch.dev/skip".into(), skip.to_string()),
        Change::Ready(_, ready) => node.ready = *ready,
        Change::Boot(_) => node.boot_id = format!("boot {number}"),
        Change::Kernel(_, kernel) => {
            node.labels.insert("kernel".into(), KERNELS[*kernel].into());
            node.boot_id = format!("boot {number}");
        }
        Change::Deleting(_) => {
            if let Some(object) = &mut node.object {
                object.deleting = !object.deleting;
            }
        }
        _ => {}
    }
    true
}

/// Whether it was something that happens to a set.
fn happened_to_set(world: &mut World, change: &Change) -> bool {
    let Some(index) = change.set() else { return false };
    let sets = &mut world.snapshot.sets;
    let Some(place) = sets.iter().position(|set| set.name == SETS[index]) else {
        return true;
    };
    if let Change::Remove(_) = change {
        sets.remove(place);
        return true;
    }
    let set = &mut sets[place];
    let spec = &mut set.spec;
    match change {
        Change::Revise(_) => {
            let reference = &mut spec.template.source.oci.reference;
            // There and back: a revision can be started again.
            let digit = if reference.ends_with('0') { '1' } else { '0' };
            reference.pop();
            reference.push(digit);
        }
        Change::MaxConcurrent(_, number) => {
            spec.rollout.max_concurrent = serde_saphyr::from_str(&number.to_string()).unwrap();
        }
        Change::MinReady(_, seconds) => spec.rollout.min_ready_seconds = *seconds,
        Change::Percent(_, percent) => {
            let mut shares = spec.rollout.waves.iter_mut().filter_map(|wave| wave.percent.as_mut());
            if let Some(share) = shares.next() {
                *share = *percent;
            }
        }
        Change::Selector(_, pool) => {
            let selector = POOLS
                .get(*pool)
                .map(|pool| format!("{{matchLabels: {{pool: {pool}}}}}"));
            spec.node_selector = serde_saphyr::from_str(selector.as_deref().unwrap_or("{}")).unwrap();
        }
        Change::Unreadable(_) => {
            set.bundle = match &set.bundle {
                BundleView::Read(_) => BundleView::Unread,
                other => other.clone(),
            };
        }
        _ => {}
    }
    let Some(rollout) = set.rollouts.last_mut() else {
        return true;
    };
    match change {
        Change::Control(_, state) => rollout.control.state = *state,
        Change::Promote(_) => rollout.control.promoted_through = Some("rest".to_owned()),
        Change::Attempt(_) => rollout.control.attempt += 1,
        Change::Exclude(_, node) => rollout.control.exclude_nodes.push(format!("n{node}")),
        _ => {}
    }
    true
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn what_is_kept_changes_no_decision(changes in prop::collection::vec(change(), 1..60)) {
        let mut world = world();
        (0..2).for_each(|_| _ = world.pass());
        for (number, change) in changes.iter().enumerate() {
            happen(&mut world, number, change);
            // The comparison is in the look. It is not carried out: not every state that is made up here can be.
            world.look();
        }
    }
}

#[test]
fn a_clock_that_goes_back_makes_undone_what_was_done() {
    let mut world = World::new(&[("a", &[], "6.1")]);
    let slow = crate::stories::spec("OffBand", "{}", "{minReadySeconds: 20}");
    world.add_set("fix", &slow, &[("6.1", "m")]);
    for _ in 0..60 {
        if world.set("fix").status.counts.settled == 0 {
            world.pass();
        }
    }
    // Until nothing else is written: what all nodes are judged by stays as it is.
    (0..3).for_each(|_| _ = world.pass());
    assert_eq!(world.set("fix").status.counts.settled, 1);
    world.now -= SignedDuration::from_secs(15);
    // It is in flight again. The look compares it with what an index that is new tells.
    let (_, status) = world.look().set_statuses.pop().unwrap();
    assert_eq!((status.counts.settled, status.counts.in_flight), (0, 1));
}
