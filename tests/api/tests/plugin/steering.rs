//! Rollouts, followed and steered by a person.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use kube::Api;
use livepatch_crds::LivepatchRollout;
use livepatch_crds::rollout::{Control, ControlState};
use serde_json::{Value, json};

use crate::artefacts::Artefacts;
use crate::cluster::Cluster;
use crate::fleet::{Conduct, Fleet};
use crate::person::Person;

async fn three_nodes(cluster: &Cluster, fleet: &Fleet, canary: Conduct) {
    cluster.node("canary", json!({"pool": "canary"})).await;
    fleet.agent("canary", 0, canary).await;
    for name in ["a", "b"] {
        cluster.node(name, json!({"pool": "rest"})).await;
        fleet.agent(name, 1, Conduct::Obeys).await;
    }
}

fn promoted_canary() -> Value {
    let canary =
        json!({"name": "canary", "nodeSelector": {"matchLabels": {"pool": "canary"}}, "then": "AwaitPromotion"});
    json!({"rollout": {"waves": [canary]}})
}

async fn control(cluster: &Cluster) -> Control {
    let name = cluster.get_set("hot").await.status.unwrap().rollout.unwrap();
    let rollouts: Api<LivepatchRollout> = Api::all(cluster.admin.clone());
    rollouts.get(&name).await.unwrap().spec.control
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_is_paused_resumed_promoted_and_followed_to_its_end() {
    let cluster = Cluster::start("steered").await;
    let artefacts = Artefacts::default();
    let fleet = Fleet::start(&cluster.admin);
    three_nodes(&cluster, &fleet, Conduct::Obeys).await;
    let me = Person::with_role(&cluster, "livepatch-promote");
    assert_eq!(me.expects(0, &["list"]).await, "No LivepatchSets found\n");
    assert!(
        me.expects(5, &["status", "hot"])
            .await
            .contains("there is no LivepatchSet hot")
    );
    assert_eq!(
        me.says(&["status"]).await.code,
        5,
        "a wrong command line is not a state of a rollout"
    );

    cluster.set("hot", &artefacts.push("fix"), promoted_canary()).await;
    let operator = cluster.operator("one", &artefacts).await;
    let told = me.expects(2, &["status", "hot", "--timeout", "4m"]).await;
    assert!(told.contains("AwaitingPromotion"), "{told}");
    let tree = me.expects(0, &["get", "lps/hot"]).await;
    assert!(tree.contains("◐ wave canary") && tree.contains("1/1"), "{tree}");

    // A dry run is checked by the API server and stores nothing.
    let tried = me.expects(0, &["promote", "hot", "--dry-run=server"]).await;
    assert!(tried.ends_with("(server dry run)\n"), "{tried}");
    let tried = me.expects(0, &["pause", "hot", "--dry-run=server", "-o", "json"]).await;
    assert_eq!(
        serde_json::from_str::<Value>(&tried).unwrap()["spec"]["control"]["state"],
        "Paused"
    );
    assert_eq!(control(&cluster).await, Control::default());

    // Each change says what it did; what changes nothing is refused with what to do instead.
    let told = me.expects(0, &["pause", "hot"]).await;
    assert!(told.contains("paused: no node gets a grant"), "{told}");
    assert!(
        me.expects(3, &["pause", "hot"])
            .await
            .contains("kubectl livepatch resume hot")
    );
    assert!(me.expects(2, &["status", "hot"]).await.contains("Paused"));
    me.expects(0, &["resume", "hot"]).await;
    let mut told = me.expects(3, &["retry", "hot"]).await;
    while told.contains("try again in a moment") {
        told = me.expects(3, &["retry", "hot"]).await;
    }
    assert!(told.contains("nothing to try again"), "{told}");
    assert!(
        me.expects(3, &["promote", "hot", "--wave", "moon"])
            .await
            .contains("canary, rest")
    );

    let mut watched = me.command(&["get", "hot", "--watch"]);
    let mut watched = watched.stdout(Stdio::piped()).spawn().unwrap();
    let told = me.expects(0, &["promote", "hot"]).await;
    assert!(
        told.contains("promoted through wave canary: wave rest with 2 nodes begins"),
        "{told}"
    );
    assert_eq!(control(&cluster).await.promoted_through.as_deref(), Some("canary"));
    let told = me.expects(0, &["status", "hot", "--timeout=4m"]).await;
    assert!(told.contains("Complete"), "{told}");
    let mut drawn = BufReader::new(watched.stdout.take().unwrap())
        .lines()
        .map_while(Result::ok);
    let last = drawn.find(|line| line.starts_with("✔ LivepatchSet hot"));
    assert!(last.is_some_and(|line| line.contains("3/3")));
    watched.kill().unwrap();
    watched.wait().unwrap();

    for (arguments, told) in [
        (["promote", "hot"], "is complete"),
        (["abort", "hot"], "is complete"),
        (["retry", "hot"], "nothing to try again"),
    ] {
        let said = me.expects(3, &arguments).await;
        assert!(said.contains(told), "{said}");
    }
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_failed_is_explained_left_out_and_aborted() {
    let cluster = Cluster::start("failing").await;
    let artefacts = Artefacts::default();
    let fleet = Fleet::start(&cluster.admin);
    let message = "finit_module: ENOEXEC\u{1b}[2J \u{9b}31m";
    let fails = Conduct::Fails {
        reason: "LoadFailed",
        message,
    };
    three_nodes(&cluster, &fleet, fails).await;
    let me = Person::with_role(&cluster, "livepatch-promote");
    let first = artefacts.push("fix");
    cluster.set("hot", &first, promoted_canary()).await;
    let operator = cluster.operator("one", &artefacts).await;

    let told = me.expects(1, &["status", "hot", "--timeout", "4m"]).await;
    assert!(told.contains("Halted") && told.contains("LoadFailed"), "{told}");
    let tree = me.expects(0, &["get", "hot"]).await;
    assert!(tree.contains("✖ canary") && tree.contains("LoadFailed"), "{tree}");
    let told = me.expects(0, &["explain", "canary"]).await;
    assert!(told.contains("failed: LoadFailed: finit_module: ENOEXEC"), "{told}");
    let told = me.expects(0, &["explain", "node/a"]).await;
    assert!(
        told.contains("whether it selects this node is not known"),
        "without the right to read nodes: {told}"
    );
    assert!(
        me.expects(3, &["promote", "hot", "--full"])
            .await
            .contains("kubectl livepatch retry hot")
    );

    let told = me.expects(0, &["retry", "hot"]).await;
    assert!(
        told.contains("begins attempt 2: 1 failed node is tried again"),
        "{told}"
    );
    let told = me.expects(1, &["status", "hot", "--timeout", "4m"]).await;
    assert!(told.contains("Halted"), "{told}");
    let told = me.expects(0, &["exclude", "hot", "canary"]).await;
    assert!(told.contains("leaves out canary"), "{told}");
    assert_eq!(control(&cluster).await.exclude_nodes, ["canary"]);
    assert!(me.expects(3, &["exclude", "hot", "canary"]).await.contains("already"));
    let told = me.expects(0, &["exclude", "hot", "canary", "--undo"]).await;
    assert!(told.contains("takes canary back in"), "{told}");

    let told = me.expects(0, &["abort", "hot"]).await;
    assert!(told.contains("aborted"), "{told}");
    assert_eq!(control(&cluster).await.state, ControlState::Aborted);
    let told = me.expects(1, &["status", "hot", "--timeout", "4m"]).await;
    assert!(told.contains("Aborted"), "{told}");
    for verb in ["promote", "pause", "resume", "abort"] {
        let said = me.expects(3, &[verb, "hot"]).await;
        assert!(
            said.contains("aborted") && said.contains("spec.template"),
            "{verb}: {said}"
        );
    }

    // Another revision goes on, and the former one is history.
    let former = cluster.get_set("hot").await.status.unwrap().update_revision.unwrap();
    fleet.agent("canary", 0, Conduct::Obeys).await;
    cluster.set("hot", &artefacts.push("better"), promoted_canary()).await;
    let told = me.expects(4, &["status", "hot", "--revision", &former]).await;
    assert!(told.contains("is superseded"), "{told}");
    me.expects(2, &["status", "hot", "--timeout", "4m"]).await;
    let revisions = me.expects(0, &["history", "hot"]).await;
    assert!(
        revisions.contains(&first) && revisions.contains("Superseded"),
        "{revisions}"
    );
    let one = me
        .expects(0, &["history", "hot", "--revision", &former[..6], "-o", "name"])
        .await;
    assert_eq!(one, format!("livepatchrollout.livepatch.dev/hot-{former}\n"));
    let difference = me.expects(1, &["diff", "hot"]).await;
    assert!(
        difference.contains(&format!("-    reference: {first}\n")),
        "{difference}"
    );
    assert_eq!(
        me.expects(0, &["diff", "hot", "--from", &former, "--to", &former])
            .await,
        ""
    );

    // Names that only the cluster knows.
    assert_eq!(
        me.expects(0, &["__complete", "promote", "h"]).await,
        "hot\tAwaitingPromotion\n:4\n"
    );
    let waves = me.expects(0, &["__complete", "promote", "hot", "--wave="]).await;
    assert!(
        waves.starts_with("--wave=canary\tAwaitingPromotion\n--wave=rest\t"),
        "{waves}"
    );
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_only_look_changes_nothing() {
    let cluster = Cluster::start("looking").await;
    let artefacts = Artefacts::default();
    let fleet = Fleet::start(&cluster.admin);
    three_nodes(&cluster, &fleet, Conduct::Obeys).await;
    let me = Person::with_role(&cluster, "livepatch-view");
    cluster.set("hot", &artefacts.push("fix"), promoted_canary()).await;
    let operator = cluster.operator("one", &artefacts).await;
    me.expects(2, &["status", "hot", "--timeout", "4m"]).await;
    let refused = me.expects(1, &["promote", "hot"]).await;
    assert!(refused.contains("a right is missing for spec.control"), "{refused}");
    assert_eq!(control(&cluster).await, Control::default());
    let elsewhere = me.kubeconfig().to_str().unwrap();
    me.expects(0, &["list", "--kubeconfig", elsewhere]).await;
    let refused = me.expects(1, &["list", "--context", "nowhere"]).await;
    assert!(refused.contains("nowhere"), "{refused}");
    operator.stop().await;
}
