//! Sets that meet on nodes and whose artefacts tell that they must not: one story each.

use crate::stories::{DIGEST, names, spec};
use crate::world::{Answer, World, module, node};
use livepatch_crds::LivepatchType;
use livepatch_crds::conditions::{ACCEPTED, find};
use livepatch_crds::policy::SupersededSet;
use livepatch_crds::set::CumulativeTemplate;
use livepatch_module::{Architecture, Format, Function, Inspection, Object, Replace, ReplaceValue, State};
use livepatch_planner::fleet::snapshot::{BundleView, Described, ModuleView};
use std::sync::Arc;

const QUICK: &str = "{minReadySeconds: 0, maxConcurrent: 100%}";

/// A module for `kernel` that patches `functions`, off-band unless it replaces.
pub fn described(kernel: &str, name: &str, functions: &[&str], replace: bool, states: &[(u64, u32)]) -> ModuleView {
    let functions = functions.iter().map(|function| Function {
        name: (*function).to_owned(),
        position: 1,
    });
    let plain = module(kernel, name);
    let inspection = Inspection {
        name: name.to_owned(),
        format: Format::Static,
        kernel_release: kernel.to_owned(),
        vermagic: format!("{kernel} SMP "),
        architecture: Architecture::Amd64,
        build_id: Some(plain.build_id.clone()),
        sha256: plain.sha256.clone(),
        size: 4096,
        replace: Replace {
            value: if replace {
                ReplaceValue::True
            } else {
                ReplaceValue::False
            },
            evidence: "byte".to_owned(),
        },
        objects: vec![Object {
            name: "vmlinux".to_owned(),
            functions: functions.collect(),
            callbacks: Vec::new(),
        }],
        states: states.iter().map(|&(id, version)| State { id, version }).collect(),
        shadow_variables: false,
        depends: Vec::new(),
        signature: None,
        license: None,
    };
    ModuleView {
        described: Some(Arc::new(Described::new(inspection))),
        ..plain
    }
}

fn holds(modules: Vec<ModuleView>) -> BundleView {
    BundleView::Read(Arc::new(modules))
}

/// Two nodes, and two off-band sets for both of them.
fn two_sets(first: &[&str], second: &[&str]) -> World {
    let mut world = World::new(&[("a", &[], "6.1"), ("b", &[("pool", "b")], "6.12")]);
    for (name, functions) in [("first", first), ("second", second)] {
        world.add_set(name, &spec("OffBand", "{}", QUICK), &[]);
        let reference = format!("registry.example.com/{name}@sha256:{DIGEST}");
        world.set(name).spec.template.source.oci.reference = reference;
        world.set(name).bundle = holds(vec![
            described("6.1", name, functions, false, &[]),
            described("6.12", name, functions, false, &[]),
        ]);
    }
    world
}

fn accepted(world: &mut World, set: &str) -> (String, String) {
    let conditions = &world.set(set).status.conditions;
    let accepted = find(conditions, ACCEPTED).unwrap();
    (accepted.reason.clone(), accepted.message.clone())
}

#[test]
fn sets_that_patch_one_function_are_told_before_a_node_is_touched() {
    let mut world = two_sets(
        &["nft_do_chain", "nf_tables_newrule"],
        &["tcp_input", "nf_tables_newrule"],
    );
    world.steps(30);
    assert_eq!(world.ready_reason("first"), "Complete");
    assert!(world.granted("second").is_empty());
    let (reason, message) = accepted(&mut world, "second");
    assert_eq!(reason, "SharedFunction");
    for part in ["first", "second", "vmlinux/nf_tables_newrule,1", "node a"] {
        assert!(message.contains(part), "{part} is not in: {message}");
    }
    world.snapshot.sets.retain(|set| set.name != "first");
    for node in world.snapshot.nodes.values_mut() {
        node.object.as_mut().unwrap().status.loaded.clear();
    }
    world.steps(30);
    assert_eq!(
        world.ready_reason("second"),
        "Complete",
        "with the other set gone it goes on"
    );
    assert_told!(world);
}

#[test]
fn sets_that_have_nothing_in_common_go_their_ways() {
    let mut world = two_sets(&["nft_do_chain"], &["tcp_input"]);
    world.steps(30);
    assert_eq!(
        (world.ready_reason("first"), world.ready_reason("second")),
        ("Complete".into(), "Complete".into())
    );
    assert_told!(world);
}

#[test]
fn sets_that_share_a_function_and_no_node_go_their_ways() {
    let mut world = two_sets(&["nft_do_chain"], &["nft_do_chain"]);
    world.set("first").spec.node_selector = serde_saphyr::from_str("{matchLabels: {pool: b}}").unwrap();
    world.set("second").spec.node_selector =
        serde_saphyr::from_str("{matchExpressions: [{key: pool, operator: DoesNotExist}]}").unwrap();
    world.steps(30);
    assert_eq!(
        (world.ready_reason("first"), world.ready_reason("second")),
        ("Complete".into(), "Complete".into())
    );
    assert_told!(world);
}

#[test]
fn what_is_there_stays_and_the_new_revision_of_the_older_set_is_the_newcomer() {
    let mut world = two_sets(&["nft_do_chain"], &["tcp_input"]);
    world.steps(30);
    let set = world.set("first");
    set.spec.template.source.oci.reference = format!("registry.example.com/next@sha256:{DIGEST}");
    set.bundle = holds(vec![
        described("6.1", "next", &["nft_do_chain", "tcp_input"], false, &[]),
        described("6.12", "next", &["nft_do_chain", "tcp_input"], false, &[]),
    ]);
    world.steps(10);
    assert_eq!(accepted(&mut world, "first").0, "SharedFunction");
    assert_eq!(world.ready_reason("second"), "Complete");
    for name in ["a", "b"] {
        let object = world.snapshot.nodes[name].object.as_ref().unwrap();
        assert_eq!(
            object.spec.livepatches[0].module.name, "first",
            "the former revision stays granted"
        );
    }
    assert_told!(world);
}

#[test]
fn only_a_kernel_build_on_which_they_meet_counts() {
    let mut world = two_sets(&["nft_do_chain"], &["tcp_input"]);
    world.set("second").bundle = holds(vec![
        described("6.1", "second", &["tcp_input"], false, &[]),
        described("7.2", "second", &["nft_do_chain"], false, &[]),
    ]);
    world.steps(30);
    assert_eq!(world.ready_reason("second"), "Complete");
    world.snapshot.nodes.insert("c".into(), node("c", &[], "7.2"));
    world.steps(10);
    assert_eq!(
        world.ready_reason("second"),
        "Complete",
        "the other set has nothing for that kernel"
    );
    assert_eq!(world.granted("second"), names(&["a", "c"]));
    assert_told!(world);
}

#[test]
fn an_off_band_livepatch_that_may_replace_is_refused_before_a_node_is_touched() {
    let mut world = two_sets(&["nft_do_chain"], &["tcp_input"]);
    world.set("second").bundle = holds(vec![described("6.1", "second", &["tcp_input"], true, &[])]);
    world.steps(10);
    assert_eq!(accepted(&mut world, "second").0, "ReplaceFlagUnproven");
    assert!(world.granted("second").is_empty());
    assert_told!(world);
}

#[test]
fn a_node_that_leaves_one_cumulative_set_gets_the_next_one_when_its_grant_has_ended() {
    let mut world = World::new(&[("a", &[("workload", "edge")], "6.1")]);
    world.add_set(
        "first",
        &spec("Cumulative", "{matchLabels: {workload: edge}}", QUICK),
        &[("6.1", "first")],
    );
    world.add_set("second", &spec("Cumulative", "{}", QUICK), &[("6.1", "second")]);
    world.answers.insert("a".into(), Answer::Loads(20));
    world.steps(6);
    assert_eq!(world.granted("first"), names(&["a"]));
    world.snapshot.nodes.get_mut("a").unwrap().labels.remove("workload");
    for _ in 0..40 {
        world.step();
        assert_ne!(
            world.ready_reason("second"),
            "SetConflict",
            "the other one selects it no longer"
        );
        let object = world.snapshot.nodes["a"].object.as_ref().unwrap();
        assert!(object.spec.livepatches.len() <= 1, "a node has one Cumulative set");
    }
    assert_eq!(world.granted("second"), names(&["a"]));
}

/// An off-band set on its nodes, and a younger cumulative one that patches its function, and says that it contains
/// `module` of `set`. What is said of the younger one.
fn containing(set: &str, module: &str, functions: &[&str]) -> String {
    let mut world = two_sets(&["nft_do_chain"], &["tcp_input"]);
    world.snapshot.sets.pop();
    world.steps(20);
    assert_eq!(world.ready_reason("first"), "Complete");
    world.add_set("base", &spec("Cumulative", "{}", QUICK), &[]);
    let base = world.set("base");
    base.spec.template.cumulative = Some(CumulativeTemplate {
        supersedes: vec![SupersededSet {
            set: set.to_owned(),
            module_sha256: vec![format!("{module}-6.1"), format!("{module}-6.12")],
        }],
    });
    base.bundle = holds(vec![
        described("6.1", "base", functions, true, &[]),
        described("6.12", "base", functions, true, &[]),
    ]);
    world.steps(3);
    accepted(&mut world, "base").0
}

#[test]
fn a_cumulative_set_goes_over_an_off_band_one_only_if_it_says_and_shows_that_it_contains_it() {
    let all = ["tcp_input", "nft_do_chain"];
    assert_eq!(containing("first", "first", &all), "Accepted");
    assert_eq!(containing("other", "first", &all), "SharedFunction");
    assert_eq!(containing("first", "former", &all), "SharedFunction");
    assert_eq!(containing("first", "first", &["tcp_input"]), "NotCovered");
}

#[test]
fn an_off_band_set_that_is_contained_already_is_accepted_beside_its_cumulative_one() {
    for (contained, said) in [("second", "Accepted"), ("other", "SharedFunction")] {
        let mut world = two_sets(&["nft_do_chain"], &["nft_do_chain"]);
        let first = world.set("first");
        first.spec.livepatch_type = LivepatchType::Cumulative;
        first.spec.template.cumulative = Some(CumulativeTemplate {
            supersedes: vec![SupersededSet {
                set: contained.to_owned(),
                module_sha256: vec!["second-6.1".into(), "second-6.12".into()],
            }],
        });
        world.steps(4);
        assert_eq!(accepted(&mut world, "second").0, said);
    }
}

#[test]
fn a_set_that_is_being_deleted_is_in_nobodys_way() {
    let mut world = two_sets(&["nft_do_chain"], &["nft_do_chain"]);
    world.set("first").deleting = true;
    world.steps(6);
    assert_eq!(accepted(&mut world, "second").0, "Accepted");
}

#[test]
fn what_a_set_still_loads_on_a_node_that_it_left_is_in_the_way() {
    let mut world = two_sets(&["nft_do_chain"], &["nft_do_chain"]);
    world.set("first").spec.node_selector = serde_saphyr::from_str("{matchLabels: {pool: b}}").unwrap();
    world.set("second").spec.node_selector =
        serde_saphyr::from_str("{matchExpressions: [{key: pool, operator: DoesNotExist}]}").unwrap();
    world.answers.insert("b".into(), Answer::Loads(12));
    world.steps(5);
    assert_eq!(world.granted("first"), names(&["b"]));
    assert_eq!(accepted(&mut world, "second").0, "Accepted");
    world.snapshot.nodes.get_mut("b").unwrap().labels.remove("pool");
    world.steps(3);
    assert_eq!(accepted(&mut world, "second").0, "SharedFunction");
    world.steps(20);
    assert!(!world.granted("first").contains("b"), "its grant has ended");
    assert_eq!(accepted(&mut world, "second").0, "Accepted");
}

#[test]
fn what_the_older_set_will_have_on_a_node_is_in_the_way_whatever_it_has_there_now() {
    let mut world = two_sets(&["nft_do_chain"], &["tcp_input"]);
    let second = world.snapshot.sets.pop().unwrap();
    world.steps(20);
    assert_eq!(world.ready_reason("first"), "Complete");
    let set = world.set("first");
    set.spec.template.source.oci.reference = format!("registry.example.com/next@sha256:{DIGEST}");
    set.bundle = holds(vec![
        described("6.1", "next", &["tcp_input"], false, &[]),
        described("6.12", "next", &["tcp_input"], false, &[]),
    ]);
    world.snapshot.sets.push(second);
    world.pass();
    assert_eq!(accepted(&mut world, "first").0, "Accepted");
    assert_eq!(accepted(&mut world, "second").0, "SharedFunction");
}
