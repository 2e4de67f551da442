//! The JSON merge patch (RFC 7386) that makes one object out of another. Pure.
//!
//! Optional fields are left out when they are empty, so a patch that is the new object alone would leave the old values
//! standing: what went away has to be said as null.

use serde::Serialize;
use serde_json::{Map, Value};

/// The patch that turns `old` into `new`; `None` if they are the same.
///
/// # Errors
/// A type which cannot be written as JSON.
pub fn merge_diff<T: Serialize>(old: &T, new: &T) -> Result<Option<Value>, serde_json::Error> {
    Ok(diff(&serde_json::to_value(old)?, serde_json::to_value(new)?))
}

fn diff(old: &Value, new: Value) -> Option<Value> {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            let mut patch: Map<String, Value> = old
                .keys()
                .filter(|key| !new.contains_key(*key))
                .map(|key| (key.clone(), Value::Null))
                .collect();
            for (key, value) in new {
                let change = match old.get(&key) {
                    Some(before) => diff(before, value),
                    None => Some(value),
                };
                if let Some(change) = change {
                    patch.insert(key, change);
                }
            }
            (!patch.is_empty()).then_some(Value::Object(patch))
        }
        (old, new) => (*old != new).then_some(new),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    /// RFC 7386, section 2.
    fn merge(target: &mut Value, patch: &Value) {
        let Value::Object(patch) = patch else {
            *target = patch.clone();
            return;
        };
        if !target.is_object() {
            *target = json!({});
        }
        let target = target.as_object_mut().unwrap();
        for (key, value) in patch {
            if value.is_null() {
                target.remove(key);
            } else {
                merge(target.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
    }

    /// Values without null: the API types leave empty fields out.
    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<bool>().prop_map(Value::from),
            (0i64..4).prop_map(Value::from),
            "[ab]{0,2}".prop_map(Value::from)
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                proptest::collection::btree_map("[abc]", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    fn object() -> impl Strategy<Value = Value> {
        proptest::collection::btree_map("[abc]", value(), 0..4).prop_map(|map| Value::Object(map.into_iter().collect()))
    }

    proptest! {
        #[test]
        fn a_patch_makes_the_new_object_of_the_old(old in object(), new in object()) {
            let mut patched = old.clone();
            if let Some(patch) = diff(&old, new.clone()) {
                merge(&mut patched, &patch);
            }
            prop_assert_eq!(patched, new);
        }
    }

    #[test]
    fn what_stays_is_not_sent() {
        let (old, new) = (
            json!({"a": 1, "b": {"c": 1, "d": 2}, "e": 1}),
            json!({"a": 1, "b": {"c": 1, "d": 3}}),
        );
        assert_eq!(diff(&old, new), Some(json!({"b": {"d": 3}, "e": null})));
    }
}
