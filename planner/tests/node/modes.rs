//! Which way is chosen, and what the plan says of it.

use livepatch_crds::node::DesiredState;
use livepatch_crds::policy::{SupersededSet, Upgrade};
use livepatch_module::ReplaceValue::{False, True, Unknown};
use livepatch_module::{Callback, State};
use livepatch_planner::node::{Answer, Leftover, Mode};

use crate::scene::{Scene, key, steps, wish};

/// A cumulative livepatch and two off-band ones beside it.
fn beside() -> Scene {
    let mut scene = Scene::default();
    scene.runs("cumulative", "cum_1", &["f"], True);
    scene.runs("off-a", "a_1", &["a"], False);
    scene.runs("off-b", "b_1", &["b"], False);
    scene
}

#[test]
fn what_runs_is_adopted() {
    let plan = beside().plan(&wish("off-a", "a_1"));
    assert_eq!((plan.mode, plan.steps.len(), plan.commit), (Mode::Adopt, 0, None));
}

#[test]
fn what_is_not_known_is_asked_for() {
    let Answer::Needs(keys) = beside().answer(&wish("off-c", "c_1")) else {
        unreachable!()
    };
    assert_eq!(keys, [key("off-c", "c_1")]);
}

#[test]
fn an_atomic_replace_says_what_it_takes_out_for_how_long_and_what_must_be_at_hand() {
    let mut scene = beside();
    scene.runs("off-c", "c_1", &["c"], False).states = vec![State { id: 1, version: 1 }];
    scene.knows("cum_2", &["f", "g"], Unknown);
    let plan = scene.plan(&wish("cumulative", "cum_2"));
    assert_eq!(plan.mode, Mode::Atomic);
    assert!(plan.because[0].starts_with("nothing proves its replace flag clear"));
    assert_eq!(
        steps(&plan),
        [
            "Disable c_1 LoadAgain",
            "Load cum_2 TakeBack",
            "Unload cum_1 Forward",
            "Load a_1 Forward",
            "Load b_1 Forward",
            "Load c_1 Forward"
        ]
    );
    assert_eq!(plan.commit.unwrap().step, 1);
    let gaps: Vec<_> = plan
        .gaps
        .iter()
        .map(|gap| (gap.module.as_str(), gap.from, gap.to))
        .collect();
    assert_eq!(gaps, [("a_1", 1, 3), ("b_1", 1, 4), ("c_1", 0, 5)]);
    let mut files: Vec<&str> = plan.verified.iter().map(|key| key.sha256.as_str()).collect();
    files.sort_unstable();
    assert_eq!(files.len(), 5, "{files:?}");
}

#[test]
fn an_atomic_replace_waits_until_what_it_takes_out_can_be_brought_back() {
    let mut scene = beside();
    scene.knows("cum_2", &["f"], True);
    scene.known.remove(&key("off-a", "a_1").sha256);
    let Answer::Needs(keys) = scene.answer(&wish("cumulative", "cum_2")) else {
        unreachable!()
    };
    assert_eq!(keys, [key("off-a", "a_1")]);
}

#[test]
fn without_the_flag_it_is_stacked_and_nobody_has_a_gap() {
    let mut scene = Scene::default();
    scene.runs("cumulative", "cum_1", &["f"], False);
    scene.runs("off-a", "a_1", &["a"], False);
    scene.knows("cum_2", &["f", "g"], False);
    let plan = scene.plan(&wish("cumulative", "cum_2"));
    assert_eq!((plan.mode, plan.gaps.len()), (Mode::Stacked, 0));
    assert_eq!(
        steps(&plan),
        ["Load cum_2 TakeBack", "Disable cum_1 Forward", "Unload cum_1 Forward"]
    );
}

#[test]
fn load_first_where_it_is_safe_and_unload_first_where_a_person_says_so() {
    let mut scene = beside();
    scene.knows("a_2", &["a", "a2"], False);
    assert_eq!(scene.plan(&wish("off-a", "a_2")).mode, Mode::LoadFirst);
    scene.knows("a_3", &["a2"], False);
    let mut asked = wish("off-a", "a_3");
    assert_eq!(scene.refusal(&asked).reason, "StackingFunctionsDropped");
    asked.policy.off_band.upgrade = Upgrade::UnloadFirst;
    let plan = scene.plan(&asked);
    assert_eq!(
        steps(&plan),
        ["Disable a_1 LoadAgain", "Load a_3 TakeBack", "Unload a_1 Forward"]
    );
    assert_eq!(
        (plan.commit.unwrap().step, plan.gaps[0].from, plan.gaps[0].to),
        (1, 0, 1)
    );
}

#[test]
fn a_rollout_that_is_taken_back_goes_back_with_a_gap_where_there_is_no_other_way() {
    let mut scene = Scene::default();
    scene.runs("off-a", "a_2", &["a", "a2"], False);
    scene.knows("a_1", &["a"], False);
    let mut asked = wish("off-a", "a_1");
    assert_eq!(scene.refusal(&asked).reason, "StackingFunctionsDropped");
    asked.back = true;
    let plan = scene.plan(&asked);
    assert_eq!((plan.mode, plan.gaps.len()), (Mode::UnloadFirst, 1));
    assert!(plan.because[0].contains("a2"), "{:?}", plan.because);
}

#[test]
fn two_fixes_of_one_function_are_refused_by_name_of_both_and_the_function() {
    let mut scene = beside();
    scene.knows("c_1", &["a"], False);
    let refusal = scene.refusal(&wish("off-c", "c_1"));
    assert_eq!(refusal.reason, "Conflict");
    for part in ["off-a", "off-c", "vmlinux/a,1"] {
        assert!(refusal.message.contains(part), "{}", refusal.message);
    }
}

#[test]
fn a_cumulative_that_contains_an_off_band_one_says_so_or_is_refused() {
    let mut scene = beside();
    scene.knows("cum_2", &["f", "a"], True);
    let mut asked = wish("cumulative", "cum_2");
    assert_eq!(scene.refusal(&asked).reason, "Conflict");
    asked.policy.supersedes = vec![SupersededSet {
        set: "off-a".to_owned(),
        module_sha256: vec![key("off-a", "a_1").sha256],
    }];
    let plan = scene.plan(&asked);
    assert_eq!(plan.gaps.len(), 1, "only off-b is out for a while");
    assert!(
        plan.verified.contains(&key("off-a", "a_1")),
        "it comes back with a rollback"
    );
}

#[test]
fn absence_is_refused_to_one_set_while_another_wants_the_livepatch() {
    let mut scene = beside();
    let mut asked = wish("off-a", "a_1");
    asked.state = DesiredState::Absent;
    assert_eq!(
        steps(&scene.plan(&asked)),
        ["Disable a_1 TakeBack", "Unload a_1 Forward"]
    );
    scene.records[1].set = "off-z".to_owned();
    assert_eq!(scene.refusal(&asked).reason, "WantedByOthers");
}

#[test]
fn after_a_forced_transition_nothing_is_done() {
    let mut scene = beside();
    scene.knows("a_2", &["a"], False);
    scene.leftovers.push(Leftover {
        module: "forced_out".to_owned(),
        pinned: true,
    });
    assert_eq!(scene.refusal(&wish("off-a", "a_2")).reason, "RebootRequired");
}

#[test]
fn what_keeps_state_is_not_stacked() {
    let mut scene = beside();
    scene.knows("a_2", &["a"], False);
    let sha256 = key("off-a", "a_2").sha256;
    scene.known.get_mut(&sha256).unwrap().objects[0].callbacks = vec![Callback::PrePatch];
    assert_eq!(scene.refusal(&wish("off-a", "a_2")).reason, "StackingCallbacks");
}

#[test]
fn what_returns_is_not_kept_out_by_doubt_about_our_own_but_by_doubt_about_others() {
    let mut scene = Scene::default();
    scene.runs("off-a", "a_1", &["a"], False);
    scene.running[0].functions = None;
    scene.known.clear();
    scene.knows("b_1", &["b"], False);
    let sha256 = key("off-b", "b_1").sha256;
    scene.known.get_mut(&sha256).unwrap().states = vec![State { id: 7, version: 1 }];
    let mut asked = wish("off-b", "b_1");
    assert_eq!(scene.answer(&asked), Answer::Needs(vec![key("off-a", "a_1")]));
    asked.returning = true;
    assert_eq!(scene.plan(&asked).mode, Mode::Load);
    scene.running[0].functions = Some(Vec::new());
    assert_eq!(scene.plan(&asked).mode, Mode::Load, "its states are not known either");

    scene.records.clear();
    assert_eq!(scene.refusal(&asked).reason, "Conflict", "whose it is, nobody knows");
    scene.running[0].functions = None;
    let refusal = scene.refusal(&asked);
    assert!(refusal.message.contains("which functions"), "{}", refusal.message);
}
