//! Each rule broken alone, and what is said then.

use super::*;
use crate::inspection::{Architecture, Callback, Format, Function, Inspection, Object, Replace, ReplaceValue, State};

pub(super) fn module(name: &str, functions: &[(&str, u64)]) -> Inspection {
    let functions = functions.iter().map(|&(name, position)| Function {
        name: name.to_owned(),
        position,
    });
    Inspection {
        name: name.to_owned(),
        format: Format::Static,
        kernel_release: "6.1.0".to_owned(),
        vermagic: "6.1.0 SMP ".to_owned(),
        architecture: Architecture::Amd64,
        build_id: None,
        sha256: format!("{name:a>64}"),
        size: 4096,
        replace: Replace {
            value: ReplaceValue::False,
            evidence: "byte".to_owned(),
        },
        objects: vec![Object {
            name: "vmlinux".to_owned(),
            functions: functions.collect(),
            callbacks: vec![],
        }],
        states: vec![],
        shadow_variables: false,
        depends: vec![],
        signature: None,
        license: None,
    }
}

fn with_states(mut it: Inspection, states: &[(u64, u32)]) -> Inspection {
    it.states = states.iter().map(|&(id, version)| State { id, version }).collect();
    it
}

fn replacing(mut it: Inspection, value: ReplaceValue) -> Inspection {
    it.replace.value = value;
    it
}

fn off_band(set: &str) -> Owner {
    Owner::Set {
        name: set.to_owned(),
        kind: SetKind::OffBand,
    }
}

fn cumulative(set: &str) -> Owner {
    Owner::Set {
        name: set.to_owned(),
        kind: SetKind::Cumulative,
    }
}

pub(super) fn want<'a>(set: &'a str, kind: SetKind, inspection: &'a Inspection) -> Wanted<'a> {
    Wanted {
        set,
        kind,
        inspection,
        supersedes: &[],
        replace_foreign: false,
    }
}

fn reasons(refusals: &[Refusal]) -> Vec<&'static str> {
    refusals.iter().map(Refusal::reason).collect()
}

#[test]
fn disjoint_livepatches_live_together() {
    let there = LoadedView::of(&module("a", &[("f", 1), ("g", 1)]), off_band("a"));
    let new = module("b", &[("f", 2), ("h", 1)]);
    let verdict = verdict(&[there], &want("b", SetKind::OffBand, &new));
    assert!(verdict.allowed(), "{verdict:?}");
    assert!(verdict.swept.is_empty());
}

#[test]
fn shared_function_names_both_and_the_function() {
    let there = LoadedView::of(&module("lp_a", &[("f", 1), ("g", 1)]), cumulative("base"));
    let new = module("lp_b", &[("g", 1)]);
    let refusals = coexistence(&[there], &want("hotfix", SetKind::OffBand, &new));
    assert_eq!(reasons(&refusals), ["SharedFunction"]);
    assert_eq!(
        refusals[0].to_string(),
        "cumulative set base (lp_a) and off-band set hotfix (lp_b) both patch vmlinux/g,1: only a rebuilt livepatch can \
         hold both fixes"
    );
}

#[test]
fn position_zero_is_position_one() {
    let mut there = LoadedView::of(&module("a", &[]), Owner::Foreign);
    there.functions = Some(vec![FunctionRef::new("vmlinux", "f", 0)]);
    let new = module("b", &[("f", 1)]);
    assert_eq!(
        reasons(&coexistence(&[there], &want("b", SetKind::OffBand, &new))),
        ["SharedFunction"]
    );
}

#[test]
fn what_is_not_known_is_not_independent() {
    let mut there = LoadedView::of(&module("a", &[]), Owner::Foreign);
    let new = with_states(module("b", &[("f", 2)]), &[(7, 1)]);
    there.functions = Some(vec![FunctionRef {
        position: None,
        ..FunctionRef::new("vmlinux", "f", 1)
    }]);
    assert_eq!(
        reasons(&coexistence(
            std::slice::from_ref(&there),
            &want("b", SetKind::OffBand, &new)
        )),
        ["PositionUnknown"]
    );
    there.functions = None;
    there.states = None;
    let refusals = coexistence(&[there], &want("b", SetKind::OffBand, &new));
    assert_eq!(reasons(&refusals), ["FunctionsUnknown", "StatesUnknown"]);
}

#[test]
fn states_are_shared_by_no_two_sets() {
    let there = LoadedView::of(&with_states(module("a", &[("f", 1)]), &[(7, 1), (9, 1)]), off_band("a"));
    let new = with_states(module("b", &[("g", 1)]), &[(7, 2)]);
    let refusals = coexistence(&[there], &want("b", SetKind::OffBand, &new));
    assert_eq!(reasons(&refusals), ["SharedState"]);
    assert!(
        refusals[0].to_string().ends_with("both use klp_state 7"),
        "{}",
        refusals[0]
    );
}

#[test]
fn kernel_refuses_lower_and_missing_states() {
    let there = LoadedView::of(
        &with_states(module("a", &[("f", 1)]), &[(7, 2), (9, 1)]),
        cumulative("base"),
    );
    let new = replacing(with_states(module("b", &[("f", 1)]), &[(7, 1)]), ReplaceValue::True);
    let refusals = admission(std::slice::from_ref(&there), &want("base", SetKind::Cumulative, &new));
    assert_eq!(reasons(&refusals), ["StateVersionDown", "StateMissing"]);
    let keeping = replacing(new, ReplaceValue::False);
    assert_eq!(
        reasons(&admission(&[there], &want("base", SetKind::Cumulative, &keeping))),
        ["StateVersionDown"]
    );
}

#[test]
fn name_is_loaded_once() {
    let there = LoadedView::of(&module("a", &[("f", 1)]), off_band("a"));
    let new = module("a", &[("g", 1)]);
    assert_eq!(
        reasons(&verdict(std::slice::from_ref(&there), &want("b", SetKind::OffBand, &new)).refusals),
        ["NameTaken"]
    );
    assert_eq!(
        reasons(&verdict(&[there], &want("a", SetKind::OffBand, &new)).refusals),
        ["NameTaken"]
    );
}

#[test]
fn own_predecessor_is_no_conflict() {
    let there = LoadedView::of(&module("a_v1", &[("f", 1)]), off_band("a"));
    let new = module("a_v2", &[("f", 1)]);
    assert!(verdict(&[there], &want("a", SetKind::OffBand, &new)).allowed());
}

#[test]
fn off_band_must_not_replace() {
    for value in [ReplaceValue::True, ReplaceValue::Dynamic, ReplaceValue::Unknown] {
        let new = replacing(module("b", &[("g", 1)]), value);
        let refusals = coexistence(&[], &want("b", SetKind::OffBand, &new));
        assert_eq!(reasons(&refusals), ["ReplaceNotExcluded"]);
        assert_eq!(refusals[0].incumbent(), None);
        assert!(coexistence(&[], &want("b", SetKind::Cumulative, &new)).is_empty());
    }
}

#[test]
fn one_cumulative_set_per_node() {
    let there = LoadedView::of(&module("a", &[("f", 1)]), cumulative("base"));
    let new = replacing(module("b", &[("g", 1)]), ReplaceValue::True);
    let refusals = coexistence(&[there], &want("other", SetKind::Cumulative, &new));
    assert_eq!(reasons(&refusals), ["SecondCumulative"]);
}

#[test]
fn retained_cumulative_makes_way_for_the_next() {
    let kept = |kind| LoadedView::of(&module("a", &[("f", 1)]), Owner::Retained { kind });
    let new = replacing(module("b", &[("f", 1)]), ReplaceValue::True);
    let wanted = want("base", SetKind::Cumulative, &new);
    let allowed = verdict(&[kept(SetKind::Cumulative)], &wanted);
    assert!(allowed.allowed(), "{allowed:?}");
    assert_eq!(allowed.swept.len(), 1);
    assert_eq!(
        reasons(&verdict(&[kept(SetKind::OffBand)], &wanted).refusals),
        ["SharedFunction"]
    );
    let stacked = replacing(new, ReplaceValue::False);
    let wanted = want("base", SetKind::Cumulative, &stacked);
    assert_eq!(
        reasons(&verdict(&[kept(SetKind::Cumulative)], &wanted).refusals),
        ["SharedFunction"]
    );
}

#[test]
fn foreign_livepatch_is_replaced_only_when_told() {
    let there = LoadedView::of(&module("kpatch_x", &[("f", 1)]), Owner::Foreign);
    let new = replacing(module("b", &[("f", 1)]), ReplaceValue::Unknown);
    let mut wanted = want("base", SetKind::Cumulative, &new);
    let refused = verdict(std::slice::from_ref(&there), &wanted);
    assert_eq!(reasons(&refused.refusals), ["ForeignReplaced"]);
    wanted.replace_foreign = true;
    let allowed = verdict(&[there], &wanted);
    assert!(allowed.allowed(), "{allowed:?}");
    assert_eq!(
        allowed
            .swept
            .iter()
            .map(|party| party.module.as_str())
            .collect::<Vec<_>>(),
        ["kpatch_x"]
    );
}

#[test]
fn superseded_module_must_be_contained() {
    let hotfix = module("hotfix", &[("f", 1), ("g", 1)]);
    let there = LoadedView::of(&hotfix, off_band("hotfix"));
    let listed = [Supersedes {
        set: "hotfix".to_owned(),
        module_sha256: vec![hotfix.sha256.clone()],
    }];
    let full = replacing(module("b", &[("f", 1), ("g", 1), ("h", 1)]), ReplaceValue::True);
    let partial = replacing(module("b", &[("g", 1)]), ReplaceValue::True);
    let wanted = Wanted {
        supersedes: &listed,
        ..want("base", SetKind::Cumulative, &full)
    };
    assert!(coexistence(std::slice::from_ref(&there), &wanted).is_empty());
    let refusals = coexistence(
        std::slice::from_ref(&there),
        &Wanted {
            inspection: &partial,
            ..wanted
        },
    );
    assert_eq!(reasons(&refusals), ["NotCovered"]);
    assert!(
        refusals[0].to_string().contains("does not patch vmlinux/f,1"),
        "{}",
        refusals[0]
    );
    // Another module of that set is not superseded.
    let other = [Supersedes {
        set: "hotfix".to_owned(),
        module_sha256: vec!["0".repeat(64)],
    }];
    let refusals = coexistence(
        &[there],
        &Wanted {
            supersedes: &other,
            ..wanted
        },
    );
    assert_eq!(reasons(&refusals), ["SharedFunction"]);
}

#[test]
fn stacking_names_each_broken_condition() {
    let calm = Boot { forced: Some(false) };
    let old = LoadedView::of(&module("a_v1", &[("f", 1)]), off_band("a"));
    let new = module("a_v2", &[("f", 1), ("g", 1)]);
    let wanted = want("a", SetKind::OffBand, &new);
    assert_eq!(stacking(&old, &wanted, &[], calm), []);

    let third = LoadedView::of(&module("c", &[("g", 1)]), Owner::Foreign);
    assert_eq!(
        reasons(&stacking(&old, &wanted, &[third], calm)),
        ["StackingThirdParty"]
    );
    assert_eq!(
        reasons(&stacking(&old, &wanted, &[], Boot { forced: Some(true) })),
        ["StackingForced"]
    );
    assert_eq!(
        reasons(&stacking(&old, &wanted, &[], Boot { forced: None })),
        ["StackingForcedUnknown"]
    );

    let smaller = module("a_v2", &[("g", 1)]);
    assert_eq!(
        reasons(&stacking(
            &old,
            &Wanted {
                inspection: &smaller,
                ..wanted
            },
            &[],
            calm
        )),
        ["StackingFunctionsDropped"]
    );
    let same = module("a_v1", &[("f", 1)]);
    assert_eq!(
        reasons(&stacking(
            &old,
            &Wanted {
                inspection: &same,
                ..wanted
            },
            &[],
            calm
        )),
        ["StackingSameName"]
    );

    let mut heavy = with_states(replacing(new.clone(), ReplaceValue::Dynamic), &[(1, 1)]);
    heavy.objects[0].callbacks = vec![Callback::PrePatch];
    heavy.shadow_variables = true;
    assert_eq!(
        reasons(&stacking(
            &old,
            &Wanted {
                inspection: &heavy,
                ..wanted
            },
            &[],
            calm
        )),
        [
            "StackingReplaceFlag",
            "StackingCallbacks",
            "StackingStates",
            "StackingShadowVariables"
        ]
    );

    let mut blurred = old;
    (blurred.functions, blurred.states, blurred.callbacks) = (None, None, None);
    (blurred.replace, blurred.shadow_variables) = (None, None);
    assert_eq!(
        reasons(&stacking(&blurred, &wanted, &[], calm)),
        [
            "StackingReplaceFlag",
            "StackingCallbacks",
            "StackingStates",
            "StackingShadowVariables",
            "StackingFunctionsUnknown"
        ]
    );
}

#[test]
fn long_lists_are_cut_in_sentences_only() {
    let names: Vec<String> = (0..9).map(|n| format!("f{n}")).collect();
    let functions: Vec<(&str, u64)> = names.iter().map(|name| (name.as_str(), 1)).collect();
    let there = LoadedView::of(&module("a", &functions), off_band("a"));
    let new = module("b", &functions);
    let refusals = coexistence(&[there], &want("b", SetKind::OffBand, &new));
    assert!(
        refusals[0].to_string().contains("vmlinux/f4,1 and 4 more"),
        "{}",
        refusals[0]
    );
    assert!(matches!(&refusals[0], Refusal::SharedFunction { functions, .. } if functions.len() == 9));
}

#[test]
fn own_copy_of_a_patched_function_is_told() {
    let own = ["helper.isra.0".to_owned(), "mine".to_owned()];
    let patched = FunctionRef::all_of(&module("b", &[("helper", 1), ("other", 1)]));
    assert_eq!(stale_copies(&own, &patched), [FunctionRef::new("vmlinux", "helper", 1)]);
}
