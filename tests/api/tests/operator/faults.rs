//! Crashes, hand-overs and an API server that is away, in the middle of a wave.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use serde_json::json;
use tokio::time::sleep;

use crate::artefacts::Artefacts;
use crate::cluster::{Cluster, NAMESPACE, eventually};
use crate::fleet::{Conduct, Fleet};
use crate::way::{Fate, is_watch};

const NODES: usize = 8;

/// Nodes whose agents begin and do not end.
async fn busy_wave(cluster: &Cluster) -> Fleet {
    let fleet = Fleet::start(&cluster.admin);
    for n in 0..NODES {
        let name = format!("n{n}");
        cluster.node(&name, json!({})).await;
        fleet.agent(&name, 0, Conduct::Begins).await;
    }
    // One that has settled, so that its kernel build is proven and the budget is the limit.
    fleet.agent("n0", 0, Conduct::Obeys).await;
    fleet
}

async fn obey(fleet: &Fleet) {
    for n in 0..NODES {
        fleet.agent(&format!("n{n}"), 0, Conduct::Obeys).await;
    }
}

/// Waits until two are in flight.
async fn in_flight(cluster: &Cluster) {
    eventually("two nodes in flight", async || {
        let status = cluster.get_set("hot").await.status.unwrap_or_default();
        status.counts.in_flight == 2
    })
    .await;
}

/// Only `n0` may come first, so that it is the canary of the kernel build.
fn n0_first() -> serde_json::Value {
    json!({"rollout": {"waves": [{"name": "first", "nodeSelector": {"matchLabels": {"first": "yes"}}}]}})
}

async fn start(cluster: &Cluster, artefacts: &Artefacts) -> Fleet {
    let fleet = busy_wave(cluster).await;
    cluster.label_node("n0", json!({"first": "yes"})).await;
    cluster.set("hot", &artefacts.push("fix"), n0_first()).await;
    fleet
}

async fn holder(cluster: &Cluster) -> Option<String> {
    let leases: Api<Lease> = Api::namespaced(cluster.admin.clone(), NAMESPACE);
    let lease = leases.get_opt("livepatch-operator").await.ok()??;
    lease.spec?.holder_identity
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_killed_in_mid_wave_is_replaced() {
    let cluster = Cluster::start("killed").await;
    let artefacts = Artefacts::default();
    let fleet = start(&cluster, &artefacts).await;
    let first = cluster.operator("first", &artefacts).await;
    in_flight(&cluster).await;
    first.kill();
    let granted = cluster.granted("hot").await;
    assert_eq!(granted.len(), 3);
    // While nobody leads, agents get on and nobody is granted.
    fleet
        .agent(granted.iter().find(|name| *name != "n0").unwrap(), 0, Conduct::Obeys)
        .await;

    let second = cluster.operator("second", &artefacts).await;
    eventually("another leader", async || {
        holder(&cluster).await.as_deref() == Some("second")
    })
    .await;
    obey(&fleet).await;
    let done = cluster.wait_complete("hot").await;
    assert_eq!(usize::try_from(done.status.unwrap().counts.settled), Ok(NODES));
    fleet.assert_budget("hot", 2);
    assert_eq!(fleet.epochs().len(), 2, "each leadership has an epoch of its own");
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_takes_over_at_once_from_one_that_stops() {
    let cluster = Cluster::start("handover").await;
    let artefacts = Artefacts::default();
    let fleet = start(&cluster, &artefacts).await;
    let first = cluster.operator("first", &artefacts).await;
    in_flight(&cluster).await;
    let second = cluster.operator("second", &artefacts).await;
    eventually("a warm standby", async || second.health().is_ready()).await;
    assert_eq!(holder(&cluster).await.as_deref(), Some("first"));
    let text = second.metrics().text().unwrap();
    assert!(text.contains("livepatch_leader 0"), "{text}");
    assert!(
        !text.contains("livepatch_api_requests_total{"),
        "a standby writes nothing: {text}"
    );

    first.stop().await;
    assert_ne!(
        holder(&cluster).await.as_deref(),
        Some("first"),
        "the lease is given up, not waited out"
    );
    eventually("another leader", async || {
        holder(&cluster).await.as_deref() == Some("second")
    })
    .await;
    obey(&fleet).await;
    cluster.wait_complete("hot").await;
    fleet.assert_budget("hot", 2);
    second.stop().await;
    assert_eq!(holder(&cluster).await.as_deref(), Some(""));
}

/// The standby's watch is silently dead: what it knows is from before the first grant.
#[tokio::test(flavor = "multi_thread")]
async fn a_standby_that_knows_nothing_reads_everything_before_it_grants() {
    let cluster = Cluster::start("stale").await;
    let artefacts = Artefacts::default();
    let fleet = busy_wave(&cluster).await;
    cluster.label_node("n0", json!({"first": "yes"})).await;
    let first = cluster.operator("first", &artefacts).await;
    eventually("a leader", async || holder(&cluster).await.as_deref() == Some("first")).await;
    eventually("an object for every node", async || {
        cluster.node_objects().await.len() == NODES
    })
    .await;
    let dead = Arc::new(AtomicBool::new(true));
    let is_dead = Arc::clone(&dead);
    let second = cluster
        .operator_on("second", &artefacts, move |_, uri| {
            if is_dead.load(Ordering::Relaxed) && is_watch(uri, "/nodelivepatches") {
                Fate::Hangs
            } else {
                Fate::Passes
            }
        })
        .await;
    eventually("a standby", async || second.health().is_ready()).await;
    cluster.set("hot", &artefacts.push("fix"), n0_first()).await;
    in_flight(&cluster).await;
    dead.store(false, Ordering::Relaxed);
    first.stop().await;
    eventually("another leader", async || {
        holder(&cluster).await.as_deref() == Some("second")
    })
    .await;
    sleep(Duration::from_secs(2)).await;
    assert_eq!(
        cluster.granted("hot").await.len(),
        3,
        "one that has settled and two in flight"
    );
    obey(&fleet).await;
    cluster.wait_complete("hot").await;
    fleet.assert_budget("hot", 2);
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_is_away_for_30_s_is_waited_for() {
    let cluster = Cluster::start("away").await;
    let artefacts = Artefacts::default();
    let fleet = start(&cluster, &artefacts).await;
    let operator = cluster.operator("one", &artefacts).await;
    in_flight(&cluster).await;
    cluster.plane().stop_apiserver(Duration::from_secs(5)).unwrap();
    sleep(Duration::from_secs(30)).await;
    assert!(operator.health().is_alive());
    cluster.plane().start_apiserver().unwrap();
    obey(&fleet).await;
    cluster.wait_complete("hot").await;
    fleet.assert_budget("hot", 2);
    operator.stop().await;
}

/// The API server hangs while grants are on their way: they are carried out when it goes on, after everybody who waited
/// has given up.
#[tokio::test(flavor = "multi_thread")]
async fn grants_whose_answer_never_came_are_counted() {
    let cluster = Cluster::start("hangs").await;
    let artefacts = Artefacts::default();
    let fleet = start(&cluster, &artefacts).await;
    let operator = cluster.operator("one", &artefacts).await;
    in_flight(&cluster).await;
    for round in 0..3 {
        // Slots become free at the very moment at which the API server begins to hang.
        for name in cluster.granted("hot").await {
            fleet.agent(&name, 0, Conduct::Obeys).await;
        }
        sleep(Duration::from_millis(5 + 20 * round)).await;
        cluster.plane().pause_apiserver().unwrap();
        sleep(Duration::from_secs(12)).await;
        cluster.plane().resume_apiserver().unwrap();
        sleep(Duration::from_secs(4)).await;
    }
    obey(&fleet).await;
    cluster.wait_complete("hot").await;
    fleet.assert_budget("hot", 2);
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_before_its_custom_resources_waits_for_them() {
    let cluster = Cluster::bare("before").await;
    let artefacts = Artefacts::default();
    let early = cluster.operator_as_admin("early", &artefacts).await;
    sleep(Duration::from_secs(3)).await;
    assert!(early.health().is_alive() && !early.health().is_ready());
    cluster.install();
    eventually("an operator that is ready", async || early.health().is_ready()).await;
    early.stop().await;
}
