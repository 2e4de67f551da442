//! Since when grants have been effective: looking at what changed finds what looking at everything finds.

use crate::world::node;
use jiff::{SignedDuration, Timestamp};
use livepatch_crds::LivepatchType;
use livepatch_crds::node::{DesiredState, Grant, LoadedLivepatch, ModuleReference, Owner, SetReference};
use livepatch_crds::rollout::{LivepatchRolloutStatus, WaveState, WaveStatus};
use livepatch_planner::fleet::Observations;
use livepatch_planner::fleet::observations::Looked;
use livepatch_planner::fleet::snapshot::{GrantKey, NodeObject, NodeView, RolloutView, SetView, Snapshot};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const NODES: [&str; 4] = ["a", "b", "c", "d"];
const SETS: [&str; 3] = ["x", "y", "z"];

/// Something that happens. Nodes and sets by their places above.
#[derive(Clone, Debug)]
enum Change {
    /// A node joins, or another one of its name takes its place.
    Join(usize),
    Leave(usize),
    Ready(usize, bool),
    Boot(usize),
    /// The agent tells of the present boot.
    Report(usize),
    Grant {
        node: usize,
        set: usize,
        attempt: i32,
        absent: bool,
    },
    Withdraw(usize, usize),
    Load(usize, usize),
    Unload(usize, usize),
    MakeSet(usize),
    DeleteSet(usize),
    PassWave(usize),
    /// The operator looks, so many seconds later.
    Look(i64),
}

fn change() -> impl Strategy<Value = Change> {
    let (node, set) = (0..NODES.len(), 0..SETS.len());
    let pair = (node.clone(), set.clone());
    prop_oneof![
        1 => node.clone().prop_map(Change::Join),
        1 => node.clone().prop_map(Change::Leave),
        3 => (node.clone(), any::<bool>()).prop_map(|(node, ready)| Change::Ready(node, ready)),
        1 => node.clone().prop_map(Change::Boot),
        2 => node.prop_map(Change::Report),
        4 => (pair.clone(), 1..3, prop::bool::weighted(0.1)).prop_map(|((node, set), attempt, absent)| Change::Grant {
            node,
            set,
            attempt,
            absent,
        }),
        1 => pair.clone().prop_map(|(node, set)| Change::Withdraw(node, set)),
        4 => pair.clone().prop_map(|(node, set)| Change::Load(node, set)),
        1 => pair.prop_map(|(node, set)| Change::Unload(node, set)),
        1 => set.clone().prop_map(Change::MakeSet),
        1 => set.clone().prop_map(Change::DeleteSet),
        1 => set.prop_map(Change::PassWave),
        6 => (0i64..30).prop_map(Change::Look),
    ]
}

fn set(name: &str) -> SetView {
    let spec = crate::stories::spec("OffBand", "{}", "{}");
    SetView {
        name: name.to_owned(),
        uid: format!("uid-{name}"),
        generation: 1,
        created: Timestamp::UNIX_EPOCH,
        deleting: false,
        spec: serde_saphyr::from_str(&spec).unwrap(),
        status: livepatch_crds::set::LivepatchSetStatus::default(),
        bundle: livepatch_planner::fleet::snapshot::BundleView::default(),
        former: None,
        rollouts: Vec::new(),
    }
}

fn rollout(set: &SetView) -> RolloutView {
    RolloutView {
        name: format!("{}-1", set.name),
        set_uid: set.uid.clone(),
        generation: 1,
        created: Timestamp::UNIX_EPOCH,
        deleting: false,
        template: set.spec.template.clone(),
        control: livepatch_crds::rollout::Control::default(),
        status: LivepatchRolloutStatus {
            waves: vec![WaveStatus {
                name: "rest".to_owned(),
                state: WaveState::Passed,
                selected: 1,
                settled: 1,
                settled_at: None,
            }],
            ..LivepatchRolloutStatus::default()
        },
    }
}

fn grant(node: &NodeView, set: &str, attempt: i32, absent: bool) -> Grant {
    Grant {
        set: SetReference {
            name: set.to_owned(),
            uid: format!("uid-{set}"),
        },
        rollout: format!("{set}-1"),
        wave: "rest".to_owned(),
        epoch: "lease/1".to_owned(),
        attempt,
        state: if absent {
            DesiredState::Absent
        } else {
            DesiredState::Loaded
        },
        livepatch_type: LivepatchType::OffBand,
        module: ModuleReference {
            name: set.to_owned(),
            repository: String::new(),
            digest: String::new(),
            sha256: set.to_owned(),
            build_id: set.to_owned(),
            kernel_build_id: String::new(),
        },
        previous: None,
        policy: livepatch_crds::policy::GrantPolicy::default(),
        boot_id: node.boot_id.clone(),
        kernel_taints: String::new(),
        transition_timeout_seconds: 60,
        start: 1,
        failed: None,
        back: false,
    }
}

/// Carries out a change; the nodes that look other than before are put among the changed ones.
fn carry_out(change: &Change, number: usize, snapshot: &mut Snapshot, changed: &mut BTreeSet<String>) {
    let mut with = |index: usize, act: &dyn Fn(&mut NodeView)| {
        if let Some(node) = snapshot.nodes.get_mut(NODES[index]) {
            act(node);
            changed.insert(NODES[index].to_owned());
        }
    };
    let with_object = |node: &mut NodeView, act: &dyn Fn(&mut NodeObject)| {
        if let Some(object) = &mut node.object {
            act(object);
        }
    };
    match *change {
        Change::Join(index) => {
            let mut joined = node(NODES[index], &[], "6.1");
            joined.uid = format!("{}-{number}", joined.uid);
            let mut object = NodeObject::default();
            object.spec.node_uid.clone_from(&joined.uid);
            object.status.boot_id.clone_from(&joined.boot_id);
            joined.object = Some(object);
            snapshot.nodes.insert(NODES[index].to_owned(), joined);
            changed.insert(NODES[index].to_owned());
        }
        Change::Leave(index) => {
            snapshot.nodes.remove(NODES[index]);
            changed.insert(NODES[index].to_owned());
        }
        Change::Ready(index, ready) => with(index, &|node| node.ready = ready),
        Change::Boot(index) => with(index, &|node| node.boot_id = format!("boot {number}")),
        Change::Report(index) => with(index, &|node| {
            let boot_id = node.boot_id.clone();
            with_object(node, &|object| object.status.boot_id.clone_from(&boot_id));
        }),
        Change::Grant {
            node,
            set,
            attempt,
            absent,
        } => with(node, &|node| {
            let grant = grant(node, SETS[set], attempt, absent);
            with_object(node, &|object| {
                object.spec.livepatches.retain(|one| one.set != grant.set);
                object.spec.livepatches.push(grant.clone());
            });
        }),
        Change::Withdraw(node, set) => with(node, &|node| {
            with_object(node, &|object| {
                object.spec.livepatches.retain(|one| one.set.name != SETS[set]);
            });
        }),
        Change::Load(node, set) => with(node, &|node| {
            let loaded = LoadedLivepatch {
                module: SETS[set].to_owned(),
                build_id: SETS[set].to_owned(),
                owner: Owner::Set,
                set: None,
                enabled: true,
                transition: false,
                function_count: None,
            };
            with_object(node, &|object| object.status.loaded.push(loaded.clone()));
        }),
        Change::Unload(node, set) => with(node, &|node| {
            with_object(node, &|object| {
                object.status.loaded.retain(|loaded| loaded.module != SETS[set]);
            });
        }),
        Change::MakeSet(index) => {
            if snapshot.sets.iter().all(|set| set.name != SETS[index]) {
                snapshot.sets.push(set(SETS[index]));
            }
        }
        Change::DeleteSet(index) => snapshot.sets.retain(|set| set.name != SETS[index]),
        Change::PassWave(index) => {
            if let Some(set) = snapshot.sets.iter_mut().find(|set| set.name == SETS[index]) {
                set.rollouts = vec![rollout(set)];
            }
        }
        Change::Look(_) => {}
    }
}

fn told(nodes: &BTreeMap<String, NodeView>) -> BTreeMap<&str, &BTreeMap<GrantKey, Timestamp>> {
    let told = nodes.iter().map(|(name, node)| (name.as_str(), &node.effective_since));
    told.collect()
}

/// As a view of the nodes takes in those which changed: the others keep what was told of them.
fn take_in(known: &mut BTreeMap<String, NodeView>, now: &Snapshot, changed: &BTreeSet<String>) {
    for name in changed {
        let before = known.remove(name);
        if let Some(node) = now.nodes.get(name) {
            let mut node = node.clone();
            if let Some(before) = before.filter(|before| before.uid == node.uid) {
                node.effective_since = before.effective_since;
            }
            known.insert(name.clone(), node);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn observing_what_changed_is_observing_everything(changes in prop::collection::vec(change(), 1..120)) {
        let mut snapshot = Snapshot { sets: vec![set("x"), set("y")], ..Snapshot::default() };
        let mut changed = BTreeSet::new();
        for index in 0..NODES.len() {
            carry_out(&Change::Join(index), 0, &mut snapshot, &mut changed);
        }
        let (mut by_parts, mut by_all) = (BTreeMap::new(), BTreeMap::new());
        let (mut parts, mut all) = (Observations::default(), Observations::default());
        let mut now = Timestamp::UNIX_EPOCH;
        for (number, change) in changes.iter().enumerate() {
            carry_out(change, number + 1, &mut snapshot, &mut changed);
            let Change::Look(seconds) = change else { continue };
            now += SignedDuration::from_secs(*seconds);
            take_in(&mut by_parts, &snapshot, &changed);
            take_in(&mut by_all, &snapshot, &changed);
            let names: Vec<String> = std::mem::take(&mut changed).into_iter().collect();
            parts.observe_changed(&mut by_parts, &names, &snapshot.sets, now);
            all.observe(&mut by_all, &snapshot.sets, now);
            prop_assert_eq!(told(&by_parts), told(&by_all));
        }
    }
}

#[test]
fn all_nodes_are_looked_at_only_if_the_sets_that_there_are_changed() {
    let mut nodes = BTreeMap::from([("a".to_owned(), node("a", &[], "6.1"))]);
    let mut observations = Observations::default();
    let mut looked = |sets: &[SetView]| observations.observe_changed(&mut nodes, &[], sets, Timestamp::UNIX_EPOCH);
    assert_eq!(looked(&[set("x"), set("y")]), Looked::AtAll, "at first");
    assert_eq!(looked(&[set("y"), set("x")]), Looked::AtChanged);
    assert_eq!(looked(&[set("x")]), Looked::AtAll, "one is gone");
    assert_eq!(looked(&[set("x")]), Looked::AtChanged);
    assert_eq!(looked(&[set("z")]), Looked::AtAll, "another one took its place");
    assert_eq!(looked(&[set("z")]), Looked::AtChanged);
}

#[test]
fn who_has_seen_no_node_has_not_looked() {
    let mut nodes = BTreeMap::new();
    let mut observations = Observations::default();
    for _ in 0..2 {
        let looked = observations.observe_changed(&mut nodes, &[], &[set("x")], Timestamp::UNIX_EPOCH);
        assert_eq!(looked, Looked::AtAll);
    }
}

#[test]
fn an_operator_that_takes_over_starts_no_clock_anew_in_a_wave_that_has_passed() {
    let mut world = crate::stories::three_nodes();
    let strategy = crate::stories::CANARY.replace("minReadySeconds: 2", "minReadySeconds: 15");
    let spec = crate::stories::spec("Cumulative", "{}", &strategy);
    world.add_set("fix", &spec, &[("6.1", "m"), ("6.12", "m")]);
    world.steps(12);
    world.take_over();
    world.steps(10);
    assert_eq!(world.set("fix").status.counts.settled, 0, "the canary is watched anew");
    world.steps(8);
    assert_eq!(world.set("fix").status.counts.settled, 1);
    world.take_over();
    world.step();
    assert_eq!(world.set("fix").status.counts.settled, 1, "its wave has passed");
    world.steps(60);
    assert_eq!(world.ready_reason("fix"), "Complete");
    world.take_over();
    world.step();
    assert_eq!(world.ready_reason("fix"), "Complete");
}
