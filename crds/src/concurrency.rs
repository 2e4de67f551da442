//! A number of nodes, or a share of them.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// An integer of at least 1, or a percentage from `1%` to `100%`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum IntOrPercent {
    /// So many nodes.
    Int(i32),
    /// A share of the nodes, such as `10%`.
    Percent(String),
}

impl IntOrPercent {
    /// The number of nodes this allows out of `total`; a percentage is rounded up, and the result is at least 1.
    ///
    /// What the schema would have refused counts as 1: the most careful reading of a value that should not exist.
    pub fn of(&self, total: usize) -> usize {
        match self {
            Self::Int(n) => usize::try_from(*n).unwrap_or(1).max(1),
            Self::Percent(text) => text
                .strip_suffix('%')
                .and_then(|digits| digits.parse::<usize>().ok())
                .filter(|percent| *percent <= 100)
                .map_or(1, |percent| percent_of(percent, total).max(1)),
        }
    }
}

/// `percent` of `total`, rounded up.
pub fn percent_of(percent: usize, total: usize) -> usize {
    (total.saturating_mul(percent)).div_ceil(100)
}

// schemars drops pattern and range on an int-or-string, so the schema is written out; the API server bounds the cost of
// the rule by maxLength.
impl JsonSchema for IntOrPercent {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "IntOrPercent".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "x-kubernetes-int-or-string": true,
            // Said, or kube makes it nullable wherever it is not required; a stored null is none of the two variants.
            "nullable": false,
            "maxLength": 4,
            "x-kubernetes-validations": [{
                "rule": "type(self) == int ? self >= 1 : self.matches('^(100|[1-9][0-9]?)%$')",
                "message": "must be an integer of at least 1, or a percentage from 1% to 100%",
            }],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::IntOrPercent::{Int, Percent};
    use proptest::prelude::*;

    #[test]
    fn percentages_are_rounded_up_and_never_zero() {
        assert_eq!(Percent("10%".into()).of(11), 2);
        assert_eq!(Percent("1%".into()).of(3), 1);
        assert_eq!(Percent("10%".into()).of(0), 1);
        assert_eq!(Percent("100%".into()).of(7), 7);
    }

    #[test]
    fn what_the_schema_refuses_counts_as_one() {
        for odd in ["", "%", "x%", "-5%", "101%", "10"] {
            assert_eq!(Percent(odd.into()).of(1000), 1, "{odd}");
        }
        assert_eq!(Int(0).of(10), 1);
        assert_eq!(Int(-3).of(10), 1);
    }

    proptest! {
        #[test]
        fn a_percentage_never_allows_more_than_all(percent in 1usize..=100, total in 1usize..100_000) {
            let n = Percent(format!("{percent}%")).of(total);
            prop_assert!((1..=total).contains(&n));
            prop_assert!(n * 100 >= percent * total);
        }
    }
}
