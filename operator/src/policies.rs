//! The admission policies that grants rely on. Does IO: reads six objects.
//!
//! Without them a stolen agent token could write any node's status, and anybody with write access could forge a grant. So
//! there are no grants before they are there, and bound.

use crate::api_error::words;
use k8s_openapi::api::admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding};
use kube::{Api, Client};
use std::time::{Duration, Instant};
use tokio::time::timeout;

/// Names of the policies and of their bindings.
pub const POLICIES: [&str; 3] = [
    "livepatch-node-status",
    "livepatch-node-spec",
    "livepatch-rollout-control",
];
/// Policies that were there are looked at again after this time, if there are grants to give.
const TRUSTED_FOR: Duration = Duration::from_mins(5);
/// Policies that were not there are looked at again after this time.
const MISSING_FOR: Duration = Duration::from_secs(5);
/// All of them are read within this time.
const READING: Duration = Duration::from_secs(10);

/// What is known of the policies.
#[derive(Clone, Debug, Default)]
pub struct Policies {
    looked: Option<(Instant, Result<(), PoliciesError>)>,
}

/// Why no grant may be given.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PoliciesError {
    /// Some are missing, or do not deny.
    #[error("no grants are given: {}; install the chart's admission policies", .0.join(", "))]
    Missing(Vec<String>),
    /// They could not be read.
    #[error("no grants are given: the admission policies could not be read: {0}")]
    Unreadable(String),
}

impl PoliciesError {
    /// Reason code.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Missing(_) => "AdmissionPoliciesMissing",
            Self::Unreadable(_) => "AdmissionPoliciesUnreadable",
        }
    }
}

impl Policies {
    /// Whether grants may be given as far as the last look told; before the first look it is not known and taken for yes,
    /// since nothing is granted without a look (see [`Policies::is_due`]).
    pub fn verdict(&self) -> Result<(), PoliciesError> {
        self.looked.as_ref().map_or(Ok(()), |(_, verdict)| verdict.clone())
    }

    /// Whether the last look is too old to give a grant.
    pub fn is_due(&self) -> bool {
        self.due_in().is_zero()
    }

    /// How long the last look is good for.
    pub fn due_in(&self) -> Duration {
        self.looked.as_ref().map_or(Duration::ZERO, |(at, verdict)| {
            let good = if verdict.is_ok() { TRUSTED_FOR } else { MISSING_FOR };
            good.saturating_sub(at.elapsed())
        })
    }

    /// Looks.
    pub async fn look(&mut self, client: &Client) {
        let verdict = timeout(READING, read(client)).await;
        let verdict = verdict.unwrap_or_else(|_| Err(PoliciesError::Unreadable("no answer in time".to_owned())));
        let before = self.looked.as_ref().map(|(_, verdict)| verdict);
        if before != Some(&verdict) {
            match &verdict {
                Ok(()) => tracing::info!("the admission policies are there and bound"),
                Err(error) => tracing::warn!(reason = error.reason(), "{error}"),
            }
        }
        self.looked = Some((Instant::now(), verdict));
    }
}

async fn read(client: &Client) -> Result<(), PoliciesError> {
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(client.clone());
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(client.clone());
    let looks = POLICIES.map(|name| {
        let (policies, bindings) = (&policies, &bindings);
        async move { futures::try_join!(policies.get_opt(name), bindings.get_opt(name)).map(|found| (name, found)) }
    });
    let found = futures::future::try_join_all(looks)
        .await
        .map_err(|error| PoliciesError::Unreadable(words(&error)))?;
    let missing: Vec<String> = found
        .iter()
        .filter_map(|(name, (policy, binding))| defect(name, policy.as_ref(), binding.as_ref()))
        .collect();
    if missing.is_empty() {
        Ok(())
    } else {
        Err(PoliciesError::Missing(missing))
    }
}

/// What is wrong with a policy and its binding.
fn defect(
    name: &str,
    policy: Option<&ValidatingAdmissionPolicy>,
    binding: Option<&ValidatingAdmissionPolicyBinding>,
) -> Option<String> {
    let Some(policy) = policy.and_then(|policy| policy.spec.as_ref()) else {
        return Some(format!("ValidatingAdmissionPolicy {name} is missing"));
    };
    if policy.validations.as_ref().is_none_or(Vec::is_empty) {
        return Some(format!("ValidatingAdmissionPolicy {name} validates nothing"));
    }
    if policy.failure_policy.as_deref().unwrap_or("Fail") != "Fail" {
        return Some(format!("ValidatingAdmissionPolicy {name} does not fail closed"));
    }
    let Some(binding) = binding.and_then(|binding| binding.spec.as_ref()) else {
        return Some(format!("ValidatingAdmissionPolicyBinding {name} is missing"));
    };
    if binding.policy_name.as_deref() != Some(name) {
        return Some(format!("ValidatingAdmissionPolicyBinding {name} binds another policy"));
    }
    let denies = binding
        .validation_actions
        .iter()
        .flatten()
        .any(|action| action == "Deny");
    if !denies {
        return Some(format!("ValidatingAdmissionPolicyBinding {name} does not deny"));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn judge(policy: Value, binding: Value) -> Option<String> {
        let (policy, binding) = (
            serde_json::from_value(policy).unwrap(),
            serde_json::from_value(binding).unwrap(),
        );
        defect("p", Some(&policy), Some(&binding))
    }

    fn policy() -> Value {
        json!({"metadata": {"name": "p"}, "spec": {"validations": [{"expression": "false"}]}})
    }

    fn binding() -> Value {
        json!({"metadata": {"name": "p"}, "spec": {"policyName": "p", "validationActions": ["Deny"]}})
    }

    #[test]
    fn a_policy_counts_if_it_denies() {
        assert_eq!(judge(policy(), binding()), None);
        let mut warns = binding();
        warns["spec"]["validationActions"] = json!(["Warn", "Audit"]);
        assert!(judge(policy(), warns).unwrap().contains("does not deny"));
        let mut ignores = policy();
        ignores["spec"]["failurePolicy"] = json!("Ignore");
        assert!(judge(ignores, binding()).unwrap().contains("fail closed"));
        let mut other = binding();
        other["spec"]["policyName"] = json!("q");
        assert!(judge(policy(), other).is_some());
        let mut empty = policy();
        empty["spec"]["validations"] = json!([]);
        assert!(judge(empty, binding()).is_some());
        assert!(defect("p", None, None).unwrap().contains("is missing"));
    }

    #[test]
    fn nothing_is_granted_without_a_look() {
        assert!(Policies::default().is_due());
    }
}
