//! Laws of the rules, over arbitrary livepatches.

use proptest::prelude::*;

use super::functions::{missing, overlap};
use super::tests::{module, want};
use super::*;
use crate::inspection::{Inspection, ReplaceValue, State};

/// Few names and positions, so that overlaps are common.
fn function() -> impl Strategy<Value = FunctionRef> {
    (
        prop::sample::select(vec!["vmlinux", "xfs"]),
        prop::sample::select(vec!["f", "g", "h"]),
        prop::option::of(0..4u64),
    )
        .prop_map(|(object, name, position)| FunctionRef {
            object: object.to_owned(),
            name: name.to_owned(),
            position,
        })
}

fn functions() -> impl Strategy<Value = Vec<FunctionRef>> {
    prop::collection::vec(function(), 0..6)
}

fn inspection() -> impl Strategy<Value = Inspection> {
    let replace = prop::sample::select(vec![ReplaceValue::True, ReplaceValue::False, ReplaceValue::Unknown]);
    let function = (prop::sample::select(vec!["f", "g", "h"]), 1..3u64);
    (
        prop::sample::select(vec!["m1", "m2", "m3"]),
        prop::collection::btree_set(function, 0..4),
        prop::collection::btree_map(1..4u64, 1..3u32, 0..3),
        replace,
        any::<bool>(),
    )
        .prop_map(|(name, functions, states, value, shadow)| {
            let mut it = module(name, &functions.into_iter().collect::<Vec<_>>());
            it.states = states.into_iter().map(|(id, version)| State { id, version }).collect();
            it.replace.value = value;
            it.shadow_variables = shadow;
            it
        })
}

fn owner() -> impl Strategy<Value = Owner> {
    let kind = prop::sample::select(vec![SetKind::Cumulative, SetKind::OffBand]);
    prop_oneof![
        (prop::sample::select(vec!["s1", "s2", "s3"]), kind.clone()).prop_map(|(name, kind)| Owner::Set {
            name: name.to_owned(),
            kind
        }),
        kind.clone().prop_map(|kind| Owner::Retained { kind }),
        Just(Owner::Foreign),
    ]
}

fn loaded() -> impl Strategy<Value = LoadedView> {
    (inspection(), owner(), any::<[bool; 2]>()).prop_map(|(it, owner, [functions, states])| {
        let mut view = LoadedView::of(&it, owner);
        view.functions = view.functions.filter(|_| functions);
        view.states = view.states.filter(|_| states);
        view
    })
}

proptest! {
    #[test]
    fn overlap_is_symmetric(left in functions(), right in functions()) {
        prop_assert_eq!(overlap(&left, &right), overlap(&right, &left));
    }

    #[test]
    fn overlap_only_grows(left in functions(), right in functions(), more in function()) {
        let before = overlap(&left, &right);
        let mut larger = left;
        larger.push(more);
        let after = overlap(&larger, &right);
        prop_assert!(before.shared.iter().all(|function| after.shared.contains(function)));
        prop_assert!(before.undecided.iter().all(|function| after.undecided.contains(function)));
    }

    #[test]
    fn nothing_is_missing_from_itself_but_unknown_positions(all in functions()) {
        let unknown: std::collections::BTreeSet<_> = all.iter().filter(|f| f.position.is_none()).cloned().collect();
        prop_assert_eq!(missing(&all, &all), unknown.into_iter().collect::<Vec<_>>());
    }

    #[test]
    fn disjointness_is_symmetric(a in inspection(), b in inspection()) {
        let off_band = |set: &str| Owner::Set { name: set.to_owned(), kind: SetKind::OffBand };
        let shared = |refusals: Vec<Refusal>| {
            let pairwise = |refusal: &Refusal| refusal.incumbent().is_some();
            refusals.iter().filter(|refusal| pairwise(refusal)).map(Refusal::reason).collect::<Vec<_>>()
        };
        let forth = coexistence(&[LoadedView::of(&a, off_band("a"))], &want("b", SetKind::OffBand, &b));
        let back = coexistence(&[LoadedView::of(&b, off_band("b"))], &want("a", SetKind::OffBand, &a));
        prop_assert_eq!(shared(forth), shared(back));
    }

    #[test]
    fn more_livepatches_refuse_no_less(
        mut there in prop::collection::vec(loaded(), 0..4),
        more in loaded(),
        new in inspection(),
        cumulative in any::<bool>(),
    ) {
        let kind = if cumulative { SetKind::Cumulative } else { SetKind::OffBand };
        let wanted = want("s1", kind, &new);
        let before = verdict(&there, &wanted);
        there.push(more);
        let after = verdict(&there, &wanted);
        prop_assert!(before.refusals.iter().all(|refusal| after.refusals.contains(refusal)));
        prop_assert!(before.swept.iter().all(|party| after.swept.contains(party)));
    }

    #[test]
    fn knowing_less_allows_no_more(view in loaded(), new in inspection(), cumulative in any::<bool>()) {
        let kind = if cumulative { SetKind::Cumulative } else { SetKind::OffBand };
        let wanted = want("s1", kind, &new);
        let blurred = LoadedView { functions: None, states: None, ..view.clone() };
        if !coexistence(&[view], &wanted).is_empty() {
            prop_assert!(!coexistence(&[blurred], &wanted).is_empty());
        }
    }

    #[test]
    fn stackable_livepatches_lose_nothing(old in loaded(), new in inspection(), third in loaded()) {
        let wanted = want("s1", SetKind::OffBand, &new);
        let calm = Boot { forced: Some(false) };
        if stacking(&old, &wanted, &[], calm).is_empty() {
            let old_functions = old.functions.clone().unwrap_or_default();
            prop_assert!(missing(&FunctionRef::all_of(&new), &old_functions).is_empty());
            prop_assert_eq!(old.replace, Some(false));
        }
        let alone = stacking(&old, &wanted, &[], calm).len();
        prop_assert!(stacking(&old, &wanted, &[third], calm).len() >= alone);
    }

    #[test]
    fn sentences_stay_short(there in prop::collection::vec(loaded(), 0..4), new in inspection()) {
        let verdict = verdict(&there, &want("s1", SetKind::OffBand, &new));
        for refusal in verdict.refusals {
            prop_assert!(refusal.to_string().len() < 1024);
            prop_assert!(!refusal.reason().is_empty());
        }
    }
}
