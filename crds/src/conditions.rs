//! Conditions after the Kubernetes API conventions: one place for their types, and for how a new one meets the old.

use crate::bounded::{MAX_MESSAGE, bounded};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;

/// The operator accepts the object as it is written.
pub const ACCEPTED: &str = "Accepted";
/// Everything asked for is in place (kstatus).
pub const READY: &str = "Ready";
/// The operator is at work on the object (kstatus).
pub const RECONCILING: &str = "Reconciling";
/// Nothing moves until a person acts (kstatus).
pub const STALLED: &str = "Stalled";
/// Every selected node that can be reached and has a module runs the current revision and has settled.
pub const COMPLETE: &str = "Complete";
/// Something is wrong on at least one node.
pub const DEGRADED: &str = "Degraded";

/// What a condition says now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saying {
    /// One of the constants of this module.
    pub kind: &'static str,
    /// `Some(true)` is True, `Some(false)` is False, `None` is Unknown.
    pub status: Option<bool>,
    /// A reason code, CamelCase, from a bounded set.
    pub reason: &'static str,
    /// One or two sentences for people.
    pub message: String,
}

/// The conditions that say `now`, keeping the time of the last transition where the status did not change.
pub fn merge(old: &[Condition], sayings: &[Saying], generation: i64, now: Timestamp) -> Vec<Condition> {
    sayings
        .iter()
        .map(|saying| {
            let status = match saying.status {
                Some(true) => "True",
                Some(false) => "False",
                None => "Unknown",
            };
            let before = old.iter().find(|c| c.type_ == saying.kind && c.status == status);
            Condition {
                type_: saying.kind.to_owned(),
                status: status.to_owned(),
                reason: saying.reason.to_owned(),
                message: bounded(&saying.message, MAX_MESSAGE),
                observed_generation: Some(generation),
                last_transition_time: before.map_or(Time(now), |c| c.last_transition_time.clone()),
            }
        })
        .collect()
}

/// The condition of that type, if there.
pub fn find<'a>(conditions: &'a [Condition], kind: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == kind)
}

/// Whether the condition of that type is there and True.
pub fn is_true(conditions: &[Condition], kind: &str) -> bool {
    find(conditions, kind).is_some_and(|condition| condition.status == "True")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn ready(status: Option<bool>, message: &str) -> [Saying; 1] {
        [Saying {
            kind: READY,
            status,
            reason: "Why",
            message: message.to_owned(),
        }]
    }

    #[test]
    fn a_new_message_keeps_the_time_and_a_new_status_does_not() {
        let first = merge(&[], &ready(Some(false), "one"), 1, at(10));
        let second = merge(&first, &ready(Some(false), "two"), 2, at(20));
        assert_eq!(second[0].last_transition_time, Time(at(10)));
        assert_eq!(second[0].message, "two");
        assert_eq!(second[0].observed_generation, Some(2));
        let third = merge(&second, &ready(None, "three"), 2, at(30));
        assert_eq!(third[0].last_transition_time, Time(at(30)));
        assert!(!is_true(&third, READY));
    }
}
