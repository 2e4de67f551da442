//! What of the records and of the kernel is taken for the livepatch that is asked for, and what is not.

use livepatch_crds::node::DesiredState;
use livepatch_crds::policy::SupersededSet;
use livepatch_module::ReplaceValue::{False, True};
use livepatch_module::conflict::SetKind;
use livepatch_planner::node::{Answer, Mode, Record, Standing, Wish};

use crate::scene::{Scene, key, steps, wish};

fn contains(set: &str, module: &str) -> Vec<SupersededSet> {
    vec![SupersededSet {
        set: set.to_owned(),
        module_sha256: vec![key(set, module).sha256],
    }]
}

/// Whether an off-band livepatch is left to the cumulative one that contains it, after a change of what is remembered of
/// that one or of what is asked for.
fn is_superseded(change: fn(&mut Record, &mut Wish)) -> bool {
    let mut scene = Scene::default();
    scene.runs("cumulative", "cum_1", &["f"], True);
    scene.knows("off_1", &["f"], False);
    scene.records[0].policy.supersedes = contains("off", "off_1");
    let mut asked = wish("off", "off_1");
    change(&mut scene.records[0], &mut asked);
    match scene.answer(&asked) {
        Answer::Plan(plan) => plan.mode == Mode::Superseded,
        _ => false,
    }
}

#[test]
fn only_a_cumulative_livepatch_in_effect_that_contains_this_very_module_supersedes_it() {
    assert!(is_superseded(|_, _| ()));
    let others: [fn(&mut Record, &mut Wish); 8] = [
        |record, _| record.standing = Standing::Away,
        |record, _| record.standing = Standing::Retiring,
        |record, _| record.standing = Standing::Contained,
        |record, _| record.kind = SetKind::OffBand,
        |record, _| record.policy.supersedes = contains("other", "off_1"),
        |record, _| record.policy.supersedes = contains("off", "off_2"),
        |record, _| record.policy.supersedes.clear(),
        |_, asked| asked.kind = SetKind::Cumulative,
    ];
    for (number, other) in others.into_iter().enumerate() {
        assert!(!is_superseded(other), "change {number}");
    }
}

#[test]
fn a_module_of_another_build_or_another_name_is_another_livepatch() {
    let mut scene = Scene::default();
    scene.runs("off", "off_1", &["f"], False);
    assert_eq!(scene.plan(&wish("off", "off_1")).mode, Mode::Adopt);
    let mut absent = wish("off", "off_1");
    absent.state = DesiredState::Absent;
    assert_eq!(steps(&scene.plan(&absent)).len(), 2);
    let others: [fn(&mut Scene); 3] = [
        |scene| scene.running[0].build_id = Some("another".to_owned()),
        |scene| scene.running[0].build_id = None,
        |scene| scene.running[0].module = "another".to_owned(),
    ];
    for other in others {
        let mut scene = Scene::default();
        scene.runs("off", "off_1", &["f"], False);
        other(&mut scene);
        assert_eq!(scene.refusal(&wish("off", "off_1")).reason, "Conflict");
        let plan = scene.plan(&absent);
        assert_eq!((plan.mode, plan.steps.len()), (Mode::Remove, 0));
    }
}

#[test]
fn what_no_record_fits_is_nobodys_and_is_not_replaced() {
    let others: [fn(&mut Scene); 2] = [
        |scene| scene.records[0].build_id = "another".to_owned(),
        |scene| scene.records[0].module = "another".to_owned(),
    ];
    for other in others {
        let mut scene = Scene::default();
        scene.runs("cumulative", "cum_1", &["f"], True);
        scene.knows("cum_2", &["f"], True);
        assert_eq!(scene.plan(&wish("cumulative", "cum_2")).mode, Mode::Atomic);
        other(&mut scene);
        assert_eq!(scene.refusal(&wish("cumulative", "cum_2")).reason, "WouldRemoveOthers");
    }
}

#[test]
fn only_a_set_that_wants_this_module_keeps_it_from_being_taken_away() {
    let mut absent = wish("off", "off_1");
    absent.state = DesiredState::Absent;
    let removed: [fn(&mut Record); 3] = [
        |_| (),
        |record| (record.set, record.wanted) = ("other".to_owned(), false),
        |record| (record.set, record.module) = ("other".to_owned(), "another".to_owned()),
    ];
    for change in removed {
        let mut scene = Scene::default();
        scene.runs("off", "off_1", &["f"], False);
        change(&mut scene.records[0]);
        assert_eq!(
            steps(&scene.plan(&absent)),
            ["Disable off_1 TakeBack", "Unload off_1 Forward"]
        );
    }
    let mut scene = Scene::default();
    scene.runs("off", "off_1", &["f"], False);
    scene.records[0].set = "other".to_owned();
    assert_eq!(scene.refusal(&absent).reason, "WantedByOthers");
}

#[test]
fn a_set_stands_in_its_own_way_no_more_when_it_wants_its_former_livepatch_no_longer() {
    let mut scene = Scene::default();
    scene.runs("cumulative", "cum_1", &["f"], False);
    scene.knows("cum_2", &["f"], False);
    scene.records[0].wanted = false;
    let plan = scene.plan(&wish("cumulative", "cum_2"));
    assert_eq!(plan.mode, Mode::Stacked);
    assert_eq!(
        steps(&plan),
        ["Load cum_2 TakeBack", "Disable cum_1 Forward", "Unload cum_1 Forward"]
    );
}

#[test]
fn what_must_be_at_hand_is_named_once() {
    let mut scene = Scene::default();
    scene.runs("cumulative", "cum_1", &["f"], True);
    scene.runs("off", "off_1", &["o"], False);
    scene.knows("cum_2", &["f"], True);
    let mut asked = wish("cumulative", "cum_2");
    asked.previous = Some(key("cumulative", "cum_1"));
    let expected = [
        key("cumulative", "cum_2"),
        key("cumulative", "cum_1"),
        key("off", "off_1"),
    ];
    assert_eq!(scene.plan(&asked).verified, expected);
}

#[test]
fn an_update_goes_over_its_own_state_and_under_no_newer_one() {
    for (version, mode) in [(2, Some(Mode::Atomic)), (1, Some(Mode::Atomic)), (0, None)] {
        let mut scene = Scene::default();
        let state = |version| vec![livepatch_module::State { id: 7, version }];
        scene.runs("cumulative", "cum_1", &["f"], True).states = state(1);
        scene.knows("cum_2", &["f"], True);
        let sha256 = key("cumulative", "cum_2").sha256;
        scene.known.get_mut(&sha256).unwrap().states = state(version);
        let answer = scene.answer(&wish("cumulative", "cum_2"));
        let chosen = match answer {
            Answer::Plan(plan) => Some(plan.mode),
            _ => None,
        };
        assert_eq!(chosen, mode, "version {version} over 1");
    }
}
