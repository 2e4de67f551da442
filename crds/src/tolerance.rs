//! How many failures are borne: a number of nodes, or a share of them.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use std::fmt;

/// An integer of at least 0, or a percentage from `0%` to `100%`.
///
/// Other than a concurrency, which is rounded up so that work goes on, this is rounded down: 5 % of ten nodes bears none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Tolerance {
    /// So many nodes.
    Int(i32),
    /// A share of the nodes, such as `5%`.
    Percent(String),
}

impl Tolerance {
    /// The number of nodes this bears out of `total`; a percentage is rounded down.
    ///
    /// What the schema would have refused counts as 0: the most careful reading of a value that should not exist.
    pub fn of(&self, total: usize) -> usize {
        match self {
            Self::Int(n) => usize::try_from(*n).unwrap_or(0),
            Self::Percent(text) => text
                .strip_suffix('%')
                .and_then(|digits| digits.parse::<usize>().ok())
                .filter(|percent| *percent <= 100)
                .map_or(0, |percent| total.saturating_mul(percent) / 100),
        }
    }
}

impl fmt::Display for Tolerance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int(n) => write!(f, "{n}"),
            Self::Percent(text) => f.write_str(text),
        }
    }
}

// Written out for the same reasons as the schema of IntOrPercent.
impl JsonSchema for Tolerance {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Tolerance".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "x-kubernetes-int-or-string": true,
            "nullable": false,
            "maxLength": 4,
            "x-kubernetes-validations": [{
                "rule": "type(self) == int ? self >= 0 : self.matches('^(100|[1-9]?[0-9])%$')",
                "message": "must be an integer of at least 0, or a percentage from 0% to 100%",
            }],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Tolerance::{Int, Percent};

    #[test]
    fn percentages_are_rounded_down_and_what_the_schema_refuses_bears_nothing() {
        assert_eq!(Percent("5%".into()).of(19), 0);
        assert_eq!(Percent("5%".into()).of(20), 1);
        assert_eq!(Percent("100%".into()).of(7), 7);
        assert_eq!(Int(3).of(1), 3);
        for odd in ["", "%", "x%", "-5%", "101%", "10"] {
            assert_eq!(Percent(odd.into()).of(1000), 0, "{odd}");
        }
        assert_eq!(Int(-1).of(10), 0);
    }
}
