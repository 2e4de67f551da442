//! Writes of which nobody knows whether they were carried out, and crashes right after each write.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use livepatch_crds::conditions;
use serde_json::json;
use tokio::time::sleep;

use crate::artefacts::Artefacts;
use crate::cluster::{Cluster, eventually};
use crate::fleet::{Conduct, Fleet};
use crate::way::{Fate, is_grant, is_write};

const NODES: usize = 6;

async fn obedient(cluster: &Cluster) -> Fleet {
    let fleet = Fleet::start(&cluster.admin);
    for n in 0..NODES {
        let name = format!("n{n}");
        cluster.node(&name, json!({})).await;
        fleet.agent(&name, 0, Conduct::Obeys).await;
    }
    fleet
}

/// Every grant meets `fate` at its first attempt and passes at the next ones.
async fn every_first_grant(test: &str, fate: Fate) {
    let cluster = Cluster::start(test).await;
    let artefacts = Artefacts::default();
    let fleet = obedient(&cluster).await;
    cluster
        .set("hot", &artefacts.push("fix"), json!({"rollout": {"maxConcurrent": 1}}))
        .await;
    let met = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&met);
    let mut seen = std::collections::BTreeMap::new();
    let operator = cluster
        .operator_on("one", &artefacts, move |method, uri| {
            if is_grant(method, uri) {
                let attempts: &mut usize = seen.entry(uri.path().to_owned()).or_default();
                *attempts += 1;
                if *attempts == 1 {
                    count.fetch_add(1, Ordering::Relaxed);
                    return fate;
                }
            }
            Fate::Passes
        })
        .await;
    let done = cluster.wait_complete("hot").await;
    assert_eq!(usize::try_from(done.status.unwrap().counts.settled), Ok(NODES));
    assert!(met.load(Ordering::Relaxed) >= NODES);
    fleet.assert_budget("hot", 1);
    // A grant that was written once is not written again.
    for object in cluster.node_objects().await {
        assert_eq!(object.metadata.generation, Some(2), "{object:?}");
    }
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_whose_answer_is_lost_is_counted() {
    every_first_grant("answer", Fate::LosesItsAnswer).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_that_comes_late_does_nothing_more() {
    every_first_grant("late", Fate::IsLate(Duration::from_millis(700))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_that_never_arrives_is_sent_again() {
    every_first_grant("lost", Fate::IsLost).await;
}

/// While a grant may still arrive another node must not take its slot, even if the first node is lost meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_grant_that_may_still_arrive_keeps_its_slot() {
    let cluster = Cluster::start("slot").await;
    let artefacts = Artefacts::default();
    let fleet = Fleet::start(&cluster.admin);
    for name in ["a", "b"] {
        cluster.node(name, json!({})).await;
        fleet.agent(name, 0, Conduct::Begins).await;
    }
    let one_at_a_time = json!({"rollout": {"maxConcurrent": 1}});
    cluster.set("hot", &artefacts.push("fix"), one_at_a_time).await;
    let late = Arc::new(AtomicBool::new(true));
    let chosen = Arc::new(Mutex::new(None));
    let (is_late, choose) = (Arc::clone(&late), Arc::clone(&chosen));
    let operator = cluster
        .operator_on("one", &artefacts, move |method, uri| {
            if !is_grant(method, uri) {
                return Fate::Passes;
            }
            let node = uri.path().rsplit('/').next().unwrap().to_owned();
            choose.lock().unwrap().get_or_insert(node);
            if is_late.load(Ordering::Relaxed) {
                Fate::IsLate(Duration::from_secs(4))
            } else {
                Fate::Passes
            }
        })
        .await;
    eventually("a status that tells of the unknown outcome", async || {
        let status = cluster.get_set("hot").await.status.unwrap_or_default();
        status.blocked_by.is_some_and(|why| why.contains("outcome"))
    })
    .await;
    let first = chosen.lock().unwrap().clone().unwrap();
    cluster.set_node(&first, "boot-1", false).await;
    sleep(Duration::from_secs(1)).await;
    late.store(false, Ordering::Relaxed);
    cluster.wait("hot", conditions::STALLED, "True", Some("Halted")).await;
    sleep(Duration::from_secs(4)).await;
    assert_eq!(fleet.ever_granted("hot"), [first]);
    fleet.assert_budget("hot", 1);
    operator.stop().await;
}

/// Operators that die right after a write, each after one, until the work is done. Whatever a crash leaves behind, the next
/// one goes on from there, within the budget, and without doing anything twice.
#[tokio::test(flavor = "multi_thread")]
async fn an_operator_may_die_after_any_write() {
    let cluster = Cluster::start("dies").await;
    let artefacts = Artefacts::default();
    let fleet = obedient(&cluster).await;
    cluster.set("hot", &artefacts.push("fix"), json!({})).await;
    let mut lives = 0;
    loop {
        let dead = Arc::new(AtomicBool::new(false));
        let dying = Arc::clone(&dead);
        let operator = cluster
            .operator_on(&format!("life-{lives}"), &artefacts, move |method, uri| {
                if is_write(method) && !uri.path().contains("/events") {
                    if dying.swap(true, Ordering::Relaxed) {
                        return Fate::IsLost;
                    }
                    return Fate::LosesItsAnswer;
                }
                Fate::Passes
            })
            .await;
        let quiet = tokio::time::timeout(Duration::from_secs(12), async {
            while !dead.load(Ordering::Relaxed) {
                sleep(Duration::from_millis(20)).await;
            }
        });
        let done = quiet.await.is_err();
        operator.kill();
        cluster.delete_lease().await;
        if done {
            break;
        }
        lives += 1;
        assert!(lives < 100, "it does not come to an end");
    }
    let done = cluster.wait_complete("hot").await;
    assert_eq!(usize::try_from(done.status.unwrap().counts.settled), Ok(NODES));
    fleet.assert_budget("hot", 2);
    assert_eq!(cluster.rollouts().await.len(), 1);
    for object in cluster.node_objects().await {
        assert_eq!(object.metadata.generation, Some(2), "{object:?}");
    }
    assert!(lives > 2 * NODES, "each object and each grant is a write: {lives}");
}
