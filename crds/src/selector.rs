//! Which nodes are meant: a bounded label selector.

use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
use kube::KubeSchema;
use kube::core::{ParseExpressionError, Selector};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A Kubernetes label selector over nodes. Empty selects every node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeSelector {
    /// Labels which a node must carry with exactly these values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16))]
    pub match_labels: BTreeMap<String, LabelValue>,
    /// Requirements which a node must meet, all of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub match_expressions: Vec<Requirement>,
}

/// The value of a label.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(inline)]
pub struct LabelValue(#[schemars(length(max = 63))] pub String);

/// One requirement of a selector.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "self.operator in ['In', 'NotIn'] ? (has(self.values) && size(self.values) > 0) : (!has(self.values) || size(self.values) == 0)"
).message("values belong to the operators In and NotIn, and only to these"))]
pub struct Requirement {
    /// Key of the label.
    #[schemars(length(min = 1, max = 317))]
    pub key: String,
    /// How the label relates to the values.
    pub operator: Operator,
    /// The values of `In` and `NotIn`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub values: Vec<LabelValue>,
}

/// How a label relates to a requirement's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[expect(missing_docs, reason = "the operators of a Kubernetes label selector, named alike")]
pub enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
}

impl NodeSelector {
    /// The selector in the form that can be matched against labels.
    ///
    /// # Errors
    /// A requirement which is no valid Kubernetes label selector.
    pub fn compile(&self) -> Result<Selector, ParseExpressionError> {
        let labels = self
            .match_labels
            .iter()
            .map(|(key, value)| (key.clone(), value.0.clone()))
            .collect();
        let expressions = self
            .match_expressions
            .iter()
            .map(|requirement| meta::LabelSelectorRequirement {
                key: requirement.key.clone(),
                operator: match requirement.operator {
                    Operator::In => "In",
                    Operator::NotIn => "NotIn",
                    Operator::Exists => "Exists",
                    Operator::DoesNotExist => "DoesNotExist",
                }
                .to_owned(),
                values: (!requirement.values.is_empty())
                    .then(|| requirement.values.iter().map(|value| value.0.clone()).collect()),
            });
        Selector::try_from(meta::LabelSelector {
            match_labels: Some(labels),
            match_expressions: Some(expressions.collect()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::core::SelectorExt;

    fn selector(yaml: &str) -> NodeSelector {
        serde_saphyr::from_str(yaml).unwrap()
    }

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn an_empty_selector_selects_every_node() {
        let all = selector("{}").compile().unwrap();
        assert!(all.matches(&labels(&[])));
        assert!(all.matches(&labels(&[("pool", "canary")])));
    }

    #[test]
    fn labels_and_expressions_must_all_hold() {
        let s = selector("{matchLabels: {pool: edge}, matchExpressions: [{key: zone, operator: NotIn, values: [b]}]}");
        let s = s.compile().unwrap();
        assert!(s.matches(&labels(&[("pool", "edge"), ("zone", "a")])));
        assert!(!s.matches(&labels(&[("pool", "edge"), ("zone", "b")])));
        assert!(!s.matches(&labels(&[("zone", "a")])));
    }
}
