//! A set on its way: canary, then the rest, then complete; and what people do on the way.

use std::time::Duration;

use k8s_openapi::api::events::v1::Event;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use livepatch_crds::conditions;
use serde_json::json;
use tokio::time::sleep;

use crate::artefacts::{Artefacts, KERNELS};
use crate::cluster::{Cluster, eventually};
use crate::fleet::{Conduct, Fleet};

/// A canary of its own kernel, and four others of which one has the canary's kernel.
async fn five_nodes(cluster: &Cluster, fleet: &Fleet, canary: Conduct) {
    cluster.node("canary", json!({"pool": "canary"})).await;
    for name in ["a", "b", "c", "d"] {
        cluster.node(name, json!({"pool": "rest"})).await;
    }
    fleet.agent("canary", 0, canary).await;
    for (name, kernel) in [("a", 0), ("b", 1), ("c", 1), ("d", 1)] {
        fleet.agent(name, kernel, Conduct::Obeys).await;
    }
}

fn canary_first() -> serde_json::Value {
    json!({"rollout": {"waves": [{"name": "canary", "nodeSelector": {"matchLabels": {"pool": "canary"}}}]}})
}

#[tokio::test(flavor = "multi_thread")]
async fn canary_then_rest_then_complete() {
    let cluster = Cluster::start("canary").await;
    let artefacts = Artefacts::default();
    let fleet = Fleet::start(&cluster.admin);
    five_nodes(&cluster, &fleet, Conduct::Begins).await;
    let reference = artefacts.push("fix");
    let set = cluster.set("hot", &reference, canary_first()).await;
    let operator = cluster.operator("one", &artefacts).await;

    eventually("a grant for the canary", async || {
        cluster.granted("hot").await == ["canary"]
    })
    .await;
    // It has not settled: nobody else is granted, whatever happens.
    sleep(Duration::from_secs(3)).await;
    assert_eq!(fleet.ever_granted("hot"), ["canary"]);
    let waiting = cluster.get_set("hot").await.status.unwrap();
    assert_eq!(waiting.wave.as_deref(), Some("canary"));
    assert_eq!(
        (
            waiting.counts.selected,
            waiting.counts.in_flight,
            waiting.counts.pending
        ),
        (5, 1, 4)
    );
    assert!(!conditions::is_true(&waiting.conditions, conditions::COMPLETE));

    fleet.agent("canary", 0, Conduct::Obeys).await;
    let done = cluster.wait_complete("hot").await.status.unwrap();
    assert_eq!(done.counts.settled, 5);
    assert_eq!(done.current_revision, done.update_revision);
    assert!(conditions::is_true(&done.conditions, conditions::READY));
    fleet.assert_budget("hot", 2);
    assert_eq!(fleet.ever_granted("hot")[0], "canary");

    let rollouts = cluster.rollouts().await;
    let [rollout] = rollouts.as_slice() else {
        panic!("one revision, one rollout: {rollouts:?}");
    };
    assert_eq!(Some(rollout.name_any()), done.rollout);
    assert_eq!(rollout.labels()["livepatch.dev/set"], "hot");
    assert_eq!(rollout.owner_references()[0].uid, set.uid().unwrap());
    for object in cluster.node_objects().await {
        assert_eq!(object.owner_references()[0].uid, object.spec.node_uid);
        assert_eq!(object.owner_references()[0].kind, "Node");
    }
    assert_eq!(fleet.epochs().len(), 1, "one leadership, one epoch");

    // When all is done nothing more is written.
    let quiet = async || {
        let versions = cluster
            .node_objects()
            .await
            .into_iter()
            .map(|object| object.resource_version());
        let versions: Vec<_> = versions
            .chain([cluster.get_set("hot").await.resource_version()])
            .collect();
        versions
    };
    sleep(Duration::from_secs(2)).await;
    let before = quiet().await;
    sleep(Duration::from_secs(5)).await;
    assert_eq!(quiet().await, before);

    // One event for each step of a wave, none for a node that succeeded.
    let events: Api<Event> = Api::namespaced(cluster.admin.clone(), "default");
    let events = events.list(&ListParams::default()).await.unwrap().items;
    let ours: Vec<String> = events
        .iter()
        .filter(|event| event.reporting_controller.as_deref() == Some("livepatch-operator"))
        .map(|event| format!("{} {}", event.reason.clone().unwrap(), event.note.clone().unwrap()))
        .collect();
    assert!(ours.iter().any(|event| event.starts_with("Complete")), "{ours:#?}");
    assert!(ours.len() <= 8, "{ours:#?}");
    let text = operator.metrics().text().unwrap();
    for line in [
        r#"livepatch_nodes{set="hot",state="settled"} 5"#,
        "livepatch_grants_total 5",
        "livepatch_leader 1",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
    }
    assert!(operator.health().is_ready() && operator.health().is_alive());
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_canary_halts_and_another_attempt_goes_on() {
    let cluster = Cluster::start("failed").await;
    let artefacts = Artefacts::default();
    let fleet = Fleet::start(&cluster.admin);
    let fails = Conduct::Fails {
        reason: "SymbolNotFound",
        message: "finit_module: ENOENT: symbol nft_no_such_function not found",
    };
    five_nodes(&cluster, &fleet, fails).await;
    cluster.set("hot", &artefacts.push("fix"), canary_first()).await;
    let operator = cluster.operator("one", &artefacts).await;

    let halted = cluster.wait("hot", conditions::STALLED, "True", Some("Halted")).await;
    let status = halted.status.unwrap();
    assert_eq!(status.counts.failed, 1);
    let blocked_by = status.blocked_by.unwrap();
    for part in ["canary", "SymbolNotFound", "ENOENT"] {
        assert!(blocked_by.contains(part), "{part} in {blocked_by}");
    }
    sleep(Duration::from_secs(3)).await;
    assert_eq!(
        fleet.ever_granted("hot"),
        ["canary"],
        "after a failure nobody is touched"
    );
    let events: Api<Event> = Api::namespaced(cluster.admin.clone(), "default");
    eventually("an event that names node, errno and why", async || {
        let events = events.list(&ListParams::default()).await.unwrap().items;
        events.iter().any(|event| {
            let note = event.note.clone().unwrap_or_default();
            event.type_.as_deref() == Some("Warning") && note.contains("canary") && note.contains("ENOENT")
        })
    })
    .await;
    let text = operator.metrics().text().unwrap();
    assert!(
        text.contains(r#"livepatch_failures{set="hot",reason="SymbolNotFound"} 1"#),
        "{text}"
    );

    fleet.agent("canary", 0, Conduct::Obeys).await;
    cluster.control("hot", json!({"attempt": 2})).await;
    cluster.wait_complete("hot").await;
    fleet.assert_budget("hot", 2);
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_has_twenty_events_whatever_fails_in_it() {
    let cluster = Cluster::start("events").await;
    let artefacts = Artefacts::default();
    let fleet = Fleet::start(&cluster.admin);
    let fails = Conduct::Fails {
        reason: "SymbolNotFound",
        message: "finit_module: ENOENT: symbol nft_no_such_function not found",
    };
    let nodes = ["a", "b", "c", "d", "e", "f"];
    for name in nodes {
        cluster.node(name, json!({})).await;
        fleet.agent(name, 0, fails.clone()).await;
    }
    let bears_all = json!({"rollout": {"maxFailed": nodes.len()}});
    cluster.set("hot", &artefacts.push("fix"), bears_all).await;
    let operator = cluster.operator("one", &artefacts).await;
    for attempt in 1..=4 {
        if attempt > 1 {
            cluster.control("hot", json!({"attempt": attempt})).await;
        }
        eventually("every node fails", async || {
            let rollouts = cluster.rollouts().await;
            let status = rollouts.first().and_then(|rollout| rollout.status.as_ref());
            status.is_some_and(|status| (status.failed.attempt, status.failed.refused) == (attempt, 6))
        })
        .await;
    }
    sleep(Duration::from_secs(3)).await;
    let uid = cluster.rollouts().await[0].uid();
    let events: Api<Event> = Api::namespaced(cluster.admin.clone(), "default");
    let events = events.list(&ListParams::default()).await.unwrap().items;
    let of_rollout = events
        .iter()
        .filter(|event| event.regarding.as_ref().is_some_and(|regarding| regarding.uid == uid));
    // 24 failures and the beginning of a wave.
    assert_eq!(of_rollout.count(), 20);
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_canary_wave_waits_for_a_person() {
    let cluster = Cluster::start("empty").await;
    let artefacts = Artefacts::default();
    let fleet = Fleet::start(&cluster.admin);
    cluster.node("a", json!({})).await;
    fleet.agent("a", 0, Conduct::Obeys).await;
    cluster.set("hot", &artefacts.push("fix"), canary_first()).await;
    let operator = cluster.operator("one", &artefacts).await;

    cluster.wait("hot", conditions::READY, "False", Some("WaveEmpty")).await;
    sleep(Duration::from_secs(2)).await;
    assert!(fleet.ever_granted("hot").is_empty());
    cluster.control("hot", json!({"promotedThrough": "canary"})).await;
    cluster.wait_complete("hot").await;
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn paused_held_and_uncovered_nodes_are_left_alone() {
    let cluster = Cluster::start("held").await;
    let artefacts = Artefacts::default();
    let fleet = Fleet::start(&cluster.admin);
    for (name, kernel) in [("a", 0), ("held", 0), ("other", 1)] {
        cluster.node(name, json!({})).await;
        fleet.agent(name, kernel, Conduct::Obeys).await;
    }
    cluster.label_node("held", json!({"livepatch.dev/skip": "true"})).await;
    let operator = cluster.operator("one", &artefacts).await;
    cluster
        .set("hot", &artefacts.push_for("fix", &KERNELS[..1]), json!({}))
        .await;

    eventually("the nodes stand as they should", async || {
        let counts = cluster.get_set("hot").await.status.unwrap_or_default().counts;
        (counts.settled, counts.held, counts.not_applicable) == (1, 1, 1)
    })
    .await;
    assert_eq!(fleet.ever_granted("hot"), ["a"]);
    let hold = cluster.node_object("held").await.unwrap().spec.hold;
    assert!(hold.contains("livepatch.dev/skip"), "{hold}");

    cluster.control("hot", json!({"state": "Paused"})).await;
    sleep(Duration::from_secs(1)).await;
    cluster.label_node("held", json!({"livepatch.dev/skip": null})).await;
    sleep(Duration::from_secs(2)).await;
    assert_eq!(cluster.node_object("held").await.unwrap().spec.hold, "");
    assert_eq!(
        fleet.ever_granted("hot"),
        ["a"],
        "nothing is granted while a person pauses it"
    );
    cluster.control("hot", json!({"state": "Run"})).await;
    eventually("a grant for the freed node", async || {
        cluster.granted("hot").await == ["a", "held"]
    })
    .await;
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_made_anew_gets_a_new_object() {
    let cluster = Cluster::start("anew").await;
    let artefacts = Artefacts::default();
    let fleet = Fleet::start(&cluster.admin);
    cluster.node("a", json!({})).await;
    fleet.agent("a", 0, Conduct::Begins).await;
    cluster.set("hot", &artefacts.push("fix"), json!({})).await;
    let operator = cluster.operator("one", &artefacts).await;
    eventually("a grant", async || cluster.granted("hot").await == ["a"]).await;
    let old = cluster.node_object("a").await.unwrap();

    // There is no garbage collector here: the old object is still there when the new node comes.
    cluster.delete_node("a").await;
    sleep(Duration::from_secs(1)).await;
    fleet.agent("a", 0, Conduct::Obeys).await;
    cluster.node("a", json!({})).await;
    eventually("an object of the new node", async || {
        cluster
            .node_object("a")
            .await
            .is_some_and(|object| object.uid() != old.uid())
    })
    .await;
    cluster.wait_complete("hot").await;
    let new = cluster.node_object("a").await.unwrap();
    assert_ne!(new.spec.node_uid, old.spec.node_uid);
    operator.stop().await;
}
