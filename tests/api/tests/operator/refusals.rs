//! What the operator does not do, and how it says so.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicyBinding;
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use livepatch_artifact::{AllowedRepositories, Puller, RegistryConfig};
use livepatch_crds::conditions;
use livepatch_operator::bundles::registry::Registry;
use serde_json::json;
use tokio::time::sleep;

use crate::artefacts::Artefacts;
use crate::cluster::{Cluster, eventually};
use crate::fleet::{Conduct, Fleet};

async fn one_node(cluster: &Cluster) -> Fleet {
    let fleet = Fleet::start(&cluster.admin);
    cluster.node("a", json!({})).await;
    fleet.agent("a", 0, Conduct::Obeys).await;
    fleet
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_digest_stalls_its_own_set_only() {
    let cluster = Cluster::start("digest").await;
    let artefacts = Artefacts::default();
    let fleet = one_node(&cluster).await;
    let unknown = format!("registry.example.com/livepatches/other@sha256:{}", "f".repeat(64));
    cluster.set("broken", &unknown, json!({})).await;
    cluster.set("hot", &artefacts.push("fix"), json!({})).await;
    let operator = cluster.operator("one", &artefacts).await;

    cluster.wait_complete("hot").await;
    let broken = cluster
        .wait("broken", conditions::ACCEPTED, "False", Some("DigestUnknown"))
        .await;
    let status = broken.status.unwrap();
    assert!(conditions::is_true(&status.conditions, conditions::STALLED));
    assert!(
        conditions::find(&status.conditions, conditions::READY)
            .unwrap()
            .message
            .contains(&unknown)
    );
    assert!(fleet.ever_granted("broken").is_empty());
    let rollouts = cluster.rollouts().await;
    assert_eq!(
        rollouts.len(),
        1,
        "a set that is not accepted has no rollout: {rollouts:?}"
    );
    let text = operator.metrics().text().unwrap();
    assert!(
        text.contains(r#"livepatch_bundle_failures_total{reason="DigestUnknown"} 1"#),
        "{text}"
    );
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_that_is_not_allowed_is_not_asked() {
    let cluster = Cluster::start("allowed").await;
    let _fleet = one_node(&cluster).await;
    let allowed = AllowedRepositories::new(["registry.example.com/livepatches".parse().unwrap()]);
    // Its name does not exist: a request would fail with another reason.
    let puller = Puller::new(RegistryConfig::default(), allowed).unwrap();
    let operator = cluster.operator_with("one", Arc::new(Registry::new(puller))).await;
    let reference = format!("registry.invalid/livepatches/fix@sha256:{}", "a".repeat(64));
    cluster.set("hot", &reference, json!({})).await;
    cluster
        .wait("hot", conditions::ACCEPTED, "False", Some("RepositoryNotAllowed"))
        .await;
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_is_down_is_waited_for() {
    let cluster = Cluster::start("registry").await;
    let artefacts = Artefacts::default();
    let _fleet = one_node(&cluster).await;
    artefacts.set_down(true);
    let operator = cluster.operator("one", &artefacts).await;
    cluster.set("hot", &artefacts.push("fix"), json!({})).await;
    let waiting = cluster
        .wait("hot", conditions::ACCEPTED, "Unknown", Some("RegistryUnavailable"))
        .await;
    let status = waiting.status.unwrap();
    assert!(
        !conditions::is_true(&status.conditions, conditions::STALLED),
        "it is retried: nobody has to act"
    );
    assert!(status.blocked_by.unwrap().contains("connection refused"));
    artefacts.set_down(false);
    cluster.wait_complete("hot").await;
    let attempts = artefacts.attempts();
    sleep(Duration::from_secs(3)).await;
    assert_eq!(artefacts.attempts(), attempts, "an artefact is read once");
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_cumulative_sets_the_incumbent_goes_on() {
    let cluster = Cluster::start("cumulative").await;
    let artefacts = Artefacts::default();
    let fleet = one_node(&cluster).await;
    let operator = cluster.operator("one", &artefacts).await;
    cluster
        .set("first", &artefacts.push("one"), json!({"type": "Cumulative"}))
        .await;
    cluster.wait_complete("first").await;
    cluster
        .set("second", &artefacts.push("two"), json!({"type": "Cumulative"}))
        .await;
    let refused = cluster
        .wait("second", conditions::ACCEPTED, "False", Some("SetConflict"))
        .await;
    let message = refused.status.unwrap().blocked_by.unwrap();
    assert!(message.contains("first") && message.contains("second"), "{message}");
    assert!(fleet.ever_granted("second").is_empty());
    // The incumbent is as it was, and may go on to another revision.
    cluster.wait_complete("first").await;
    cluster
        .set("first", &artefacts.push("three"), json!({"type": "Cumulative"}))
        .await;
    eventually("the second revision of the first set", async || {
        let grants = cluster.node_object("a").await.unwrap().spec.livepatches;
        grants.len() == 1 && grants[0].module.name == "three"
    })
    .await;
    cluster.wait_complete("first").await;
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_admission_policies_nothing_is_granted() {
    let cluster = Cluster::start("policies").await;
    let artefacts = Artefacts::default();
    let fleet = one_node(&cluster).await;
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(cluster.admin.clone());
    let mut binding = bindings.get("livepatch-node-status").await.unwrap();
    bindings
        .delete("livepatch-node-status", &DeleteParams::default())
        .await
        .unwrap();
    cluster.set("hot", &artefacts.push("fix"), json!({})).await;
    let operator = cluster.operator("one", &artefacts).await;
    let withheld = cluster
        .wait("hot", conditions::READY, "False", Some("AdmissionPoliciesMissing"))
        .await;
    assert!(
        withheld
            .status
            .unwrap()
            .blocked_by
            .unwrap()
            .contains("livepatch-node-status")
    );
    sleep(Duration::from_secs(2)).await;
    assert!(fleet.ever_granted("hot").is_empty());
    binding.metadata.resource_version = None;
    binding.metadata.uid = None;
    bindings.create(&PostParams::default(), &binding).await.unwrap();
    cluster.wait_complete("hot").await;
    operator.stop().await;
}
