//! Every answer to every wish that can be made up from a few traits of a node: a table, compared with the one beside it.

use livepatch_crds::node::DesiredState;
use livepatch_crds::policy::{ForeignPolicy, OnAtomicReplace, SupersededSet, Upgrade};
use livepatch_module::ReplaceValue::{self, Dynamic, False, True};
use livepatch_module::State;
use livepatch_planner::node::{Answer, Gap, Key, Leftover, Plan, Standing, Wish};
use std::fmt::Write;

use crate::scene::{Scene, key, steps, wish};

/// A trait, by its name.
type Trait<F> = (&'static str, F);

/// Puts something of a set, with that replace flag, into a scene.
type Place = fn(&mut Scene, &str, ReplaceValue);

/// What there is of the set that asks.
const OWN: [Trait<Place>; 8] = [
    ("nothing", |_, _, _| {}),
    ("its former module", |scene, set, replace| {
        scene.runs(set, "own_1", &["f"], replace);
    }),
    ("its former module, not at hand", |scene, set, replace| {
        scene.runs(set, "own_1", &["f"], replace);
        scene.known.remove(&key(set, "own_1").sha256);
    }),
    ("its former module, with a function more", |scene, set, replace| {
        scene.runs(set, "own_1", &["f", "more"], replace);
    }),
    ("its former module, retiring", |scene, set, replace| {
        scene.runs(set, "own_1", &["f"], replace);
        last(scene).standing = Standing::Retiring;
    }),
    ("its former module, on its way out", |scene, set, replace| {
        scene.runs(set, "own_1", &["f"], replace);
        scene.running.last_mut().unwrap().enabled = false;
    }),
    ("the very module", |scene, set, replace| {
        scene.runs(set, "own_2", &["f"], replace);
    }),
    ("the very module, in transition", |scene, set, replace| {
        scene.runs(set, "own_2", &["f"], replace);
        scene.running.last_mut().unwrap().transition = true;
    }),
];

/// What stands beside it.
const BESIDE: [Trait<fn(&mut Scene)>; 15] = [
    ("nothing", |_| {}),
    ("an off-band one", |scene| {
        scene.runs("off-z", "z_1", &["z"], False);
    }),
    ("an off-band one, not at hand", |scene| {
        scene.runs("off-z", "z_1", &["z"], False);
        scene.known.remove(&key("off-z", "z_1").sha256);
    }),
    ("an off-band one with state", |scene| {
        scene.runs("off-z", "z_1", &["z"], False).states = vec![State { id: 1, version: 1 }];
    }),
    ("an off-band one that blocks", |scene| {
        scene.runs("off-z", "z_1", &["z"], False);
        last(scene).policy.off_band.on_atomic_replace = OnAtomicReplace::Block;
    }),
    ("an off-band one of the same function", |scene| {
        scene.runs("off-z", "z_1", &["f"], False);
    }),
    ("an off-band one that is wanted no longer", |scene| {
        scene.runs("off-z", "z_1", &["f"], False);
        last(scene).wanted = false;
    }),
    ("an off-band one that is retiring", |scene| {
        scene.runs("off-z", "z_1", &["z"], False);
        last(scene).standing = Standing::Retiring;
    }),
    ("an off-band one that is away", |scene| {
        scene.runs("off-z", "z_1", &["z"], False);
        last(scene).standing = Standing::Away;
        scene.running.pop();
    }),
    ("an off-band one of the same function that is away", |scene| {
        scene.runs("off-z", "z_1", &["f"], False);
        last(scene).standing = Standing::Away;
        scene.running.pop();
    }),
    ("an off-band one that is contained", |scene| {
        scene.runs("off-z", "z_1", &["z"], False);
        last(scene).standing = Standing::Contained;
        scene.running.pop();
    }),
    ("a cumulative one", |scene| {
        scene.runs("cumulative-z", "z_1", &["z"], True);
    }),
    ("a cumulative one that is wanted no longer", |scene| {
        scene.runs("cumulative-z", "z_1", &["z"], True);
        last(scene).wanted = false;
    }),
    ("a cumulative one that contains it", |scene| {
        scene.runs("cumulative-z", "z_1", &["z"], True);
        last(scene).policy.supersedes = contained("off", "own_2");
    }),
    ("a foreign one", |scene| {
        scene.runs("off-z", "z_1", &["z"], False);
        scene.records.pop();
    }),
];

/// How it is asked for.
const ASKED: [Trait<fn(&mut Wish)>; 8] = [
    ("", |_| {}),
    (", returning", |wish| wish.returning = true),
    (", back", |wish| wish.back = true),
    (", UnloadFirst", |wish| {
        wish.policy.off_band.upgrade = Upgrade::UnloadFirst;
    }),
    (", superseding the other", |wish| {
        wish.policy.supersedes = contained("off-z", "z_1");
    }),
    (", replacing foreign ones", |wish| {
        wish.policy.foreign_policy = ForeignPolicy::Replace;
    }),
    (", with a former module to return to", |wish| {
        wish.previous = Some(key(&wish.set, "own_0"));
    }),
    (", absent", |wish| wish.state = DesiredState::Absent),
];

fn last(scene: &mut Scene) -> &mut livepatch_planner::node::Record {
    scene.records.last_mut().unwrap()
}

fn contained(set: &str, module: &str) -> Vec<SupersededSet> {
    vec![SupersededSet {
        set: set.to_owned(),
        module_sha256: vec![key(set, module).sha256],
    }]
}

fn told(answer: &Answer) -> String {
    match answer {
        Answer::Needs(keys) => format!("needs {}", files(keys)),
        Answer::Waits(refusal) => format!("waits, {}: {}", refusal.reason, refusal.message),
        Answer::Refused(refusal) => format!("refused, {}: {}", refusal.reason, refusal.message),
        Answer::Plan(plan) => whole(plan),
    }
}

fn whole(plan: &Plan) -> String {
    let mut told = format!("{}, {}", plan.mode, plan.because.join(", "));
    let _ = write!(told, " | {}", steps(plan).join(", "));
    if let Some(commit) = &plan.commit {
        let _ = write!(told, " | until {} {}", commit.step, commit.name);
    }
    let gap = |gap: &Gap| format!("{} of {} {}-{}", gap.module, gap.set, gap.from, gap.to);
    if !plan.gaps.is_empty() {
        let gaps: Vec<String> = plan.gaps.iter().map(gap).collect();
        let _ = write!(told, " | without {}", gaps.join(", "));
    }
    if !plan.verified.is_empty() {
        let _ = write!(told, " | has {}", files(&plan.verified));
    }
    told
}

fn files(keys: &[Key]) -> String {
    let files = keys.iter().map(|key| key.sha256.trim_start_matches("sha256-of-"));
    files.collect::<Vec<_>>().join(" ")
}

fn answers(set: &str, replace: ReplaceValue) -> String {
    let mut table = String::new();
    for (there, own) in OWN {
        for (other, beside) in BESIDE {
            let _ = writeln!(table, "{there}; beside it {other}");
            let mut plain = String::new();
            for (how, ask) in ASKED {
                let mut scene = Scene::default();
                own(&mut scene, set, replace);
                beside(&mut scene);
                scene.knows("own_2", &["f"], replace);
                scene.knows("own_0", &["f"], replace);
                let mut wish = wish(set, "own_2");
                ask(&mut wish);
                let answer = told(&scene.answer(&wish));
                if how.is_empty() {
                    plain.clone_from(&answer);
                } else if answer == plain {
                    continue;
                }
                let _ = writeln!(table, "    asked for{how}: {answer}");
            }
        }
    }
    table
}

#[test]
fn of_a_cumulative_one_that_replaces() {
    insta::assert_snapshot!(answers("cumulative", True));
}

#[test]
fn of_a_cumulative_one_that_is_stacked() {
    insta::assert_snapshot!(answers("cumulative", False));
}

#[test]
fn of_an_off_band_one() {
    insta::assert_snapshot!(answers("off", False));
}

#[test]
fn of_an_off_band_one_that_may_replace() {
    let mut scene = Scene::default();
    scene.knows("own_2", &["f"], Dynamic);
    insta::assert_snapshot!(told(&scene.answer(&wish("off", "own_2"))));
}

#[test]
fn on_a_kernel_where_nothing_is_done() {
    let mut scene = Scene::default();
    scene.knows("own_2", &["f"], False);
    scene.leftovers = vec![Leftover {
        module: "going".to_owned(),
        pinned: false,
    }];
    assert!(matches!(scene.answer(&wish("off", "own_2")), Answer::Plan(_)));
    scene.replace_set = true;
    insta::assert_snapshot!(told(&scene.answer(&wish("off", "own_2"))));
}

#[test]
fn where_a_transition_may_have_been_forced() {
    let mut table = String::new();
    for forced in [Some(false), Some(true), None] {
        let mut scene = Scene {
            forced,
            ..Scene::default()
        };
        scene.runs("off", "own_1", &["f"], False);
        scene.knows("own_2", &["f"], False);
        let _ = writeln!(table, "{forced:?}: {}", told(&scene.answer(&wish("off", "own_2"))));
    }
    insta::assert_snapshot!(table);
}
