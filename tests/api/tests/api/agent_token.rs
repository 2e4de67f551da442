//! What a stolen token of an agent is good for: the status of its own node's object, and nothing else.

use std::time::Duration;

use livepatch_rig::http::Method;
use livepatch_rig::progress::{Waited, wait_for};
use serde_json::{Value, json};

use crate::installed::{GROUP, Installed, NAMESPACE, fresh, grant, node_livepatch, set};

const POLICY: &str = "livepatch-node-status";

fn status(path: &str) -> String {
    format!("nodelivepatches/{path}/status")
}

fn loaded(count: i32) -> Value {
    json!({"status": {"loadedCount": count}})
}

#[test]
fn an_agent_writes_the_status_of_its_own_node() {
    let cluster = Installed::shared();
    let node = fresh("own");
    cluster.node(&node);
    let agent = cluster.agent(&node);
    let told = agent.accepted(Method::PATCH, &status(&node), &loaded(1));
    assert_eq!(told["status"]["loadedCount"], 1);
    let mut whole = agent.get(&format!("nodelivepatches/{node}"));
    whole["status"]["loadedCount"] = json!(2);
    let told = agent.accepted(Method::PUT, &status(&node), &whole);
    assert_eq!(told["status"]["loadedCount"], 2);
    let applied = json!({
        "apiVersion": "livepatch.dev/v1alpha1", "kind": "NodeLivepatch", "metadata": {"name": node},
        "status": {"loadedCount": 3},
    });
    let told = agent.apply(&format!("{GROUP}/{}", status(&node)), &applied).unwrap();
    assert_eq!(told["status"]["loadedCount"], 3);
}

#[test]
fn an_agent_changes_nothing_beside_the_status() {
    let cluster = Installed::shared();
    let node = fresh("beside");
    cluster.node(&node);
    let (agent, path) = (cluster.agent(&node), format!("nodelivepatches/{node}"));
    let before = agent.get(&path);
    let smuggled = json!({
        "spec": {"livepatches": [grant()], "hold": "mine"},
        "metadata": {
            "labels": {"a": "b"}, "annotations": {"a": "b"}, "finalizers": ["example.com/never"],
            "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "gone", "uid": "gone"}],
        },
        "status": {"loadedCount": 1},
    });
    // Dropped by the server, or refused: either way nothing of it arrives.
    let _ = agent.send(Method::PATCH, &format!("{GROUP}/{}", status(&node)), &smuggled);
    let after = agent.get(&path);
    assert_eq!(after["spec"], before["spec"]);
    for field in ["labels", "annotations", "finalizers", "ownerReferences"] {
        assert_eq!(after["metadata"][field], before["metadata"][field], "{field}");
    }
    for (method, body) in [
        (Method::PATCH, json!({"spec": {"hold": "mine"}})),
        (
            Method::PATCH,
            json!({"metadata": {"finalizers": ["example.com/never"]}}),
        ),
        (Method::PUT, before),
        (Method::DELETE, Value::Null),
    ] {
        let refusal = agent.refused(method, &path, &body);
        assert_eq!(refusal.code, 403, "{refusal:?}");
    }
}

#[test]
fn an_agent_is_refused_the_status_of_another_node() {
    let cluster = Installed::shared();
    let (own, other) = (fresh("thief"), fresh("victim"));
    cluster.node(&own);
    cluster.node(&other);
    let agent = cluster.agent(&own);
    let message = format!("the agent of node {own} writes the status of that node only, not of {other}");
    agent.forbidden(Method::PATCH, &status(&other), &loaded(9), POLICY, &message);
    let mut whole = agent.get(&format!("nodelivepatches/{other}"));
    whole["status"] = json!({"loadedCount": 9});
    agent.forbidden(Method::PUT, &status(&other), &whole, POLICY, &message);
    // The name in the body does not count.
    let disguised = json!({
        "apiVersion": "livepatch.dev/v1alpha1", "kind": "NodeLivepatch", "metadata": {"name": own},
        "status": {"loadedCount": 9},
    });
    let refusal = agent.refused(Method::PATCH, &status(&other), &disguised);
    assert!([400, 403].contains(&refusal.code), "{refusal:?}");
    let refusal = agent
        .apply(&format!("{GROUP}/{}", status(&other)), &disguised)
        .unwrap_err();
    assert!([400, 403].contains(&refusal.code), "{refusal:?}");
    assert_eq!(agent.get(&format!("nodelivepatches/{other}"))["status"], Value::Null);
}

#[test]
fn a_token_without_a_pod_writes_nothing() {
    let cluster = Installed::shared();
    let node = fresh("unbound");
    cluster.node(&node);
    let unbound = cluster.account(NAMESPACE, "livepatch-agent", None);
    let message = "this token of an agent is not bound to a pod on a node";
    unbound.forbidden(Method::PATCH, &status(&node), &loaded(9), POLICY, message);
}

#[test]
fn a_token_of_a_node_that_was_made_anew_writes_nothing() {
    let cluster = Installed::shared();
    let (kubectl, operator) = (cluster.plane().admin(), cluster.operator());
    let node = fresh("anew");
    cluster.node(&node);
    let agent = cluster.agent(&node);
    agent.accepted(Method::PATCH, &status(&node), &loaded(1));
    kubectl.run(&["delete", "node", &node]).unwrap();
    // The garbage collector deletes the object of the old node, sooner or later.
    kubectl.run(&["delete", "nlp", &node, "--ignore-not-found"]).unwrap();
    let uid = cluster.bare_node(&node);
    operator.accepted(Method::POST, "nodelivepatches", &node_livepatch(&node, &uid));
    let message = "belongs to another node of the same name";
    agent.forbidden(Method::PATCH, &status(&node), &loaded(9), POLICY, message);
    // Bound anew, it is the new node's.
    cluster.agent(&node).accepted(Method::PATCH, &status(&node), &loaded(2));
}

#[test]
fn a_token_dies_with_its_pod() {
    let cluster = Installed::shared();
    let node = fresh("pod");
    cluster.node(&node);
    let agent = cluster.agent(&node);
    agent.accepted(Method::PATCH, &status(&node), &loaded(1));
    let pod = format!("livepatch-agent-{node}");
    let namespace = format!("--namespace={NAMESPACE}");
    cluster
        .plane()
        .admin()
        .run(&[&namespace, "delete", "pod", &pod, "--grace-period=0", "--force"])
        .unwrap();
    wait_for("the token to die", Duration::from_mins(1), || {
        // The server remembers for ten seconds that a token was good.
        Ok(
            match agent.send(Method::PATCH, &format!("{GROUP}/{}", status(&node)), &loaded(9)) {
                Err(refusal) if refusal.code == 401 => Waited::Ready(()),
                other => Waited::NotYet(format!("{other:?}")),
            },
        )
    })
    .unwrap();
}

/// Should RBAC one day allow an agent more than it does, the policy still refuses it.
#[test]
fn the_policy_alone_holds_an_agent_with_every_right() {
    let cluster = Installed::shared();
    let (own, other) = (fresh("mighty"), fresh("victim"));
    let uid = cluster.node(&own);
    cluster.node(&other);
    let set_name = fresh("mighty");
    cluster.admin().accepted(Method::POST, "livepatchsets", &set(&set_name));
    let identity = [
        format!("--as=system:serviceaccount:{NAMESPACE}:livepatch-agent"),
        "--as-group=system:masters".to_owned(),
        format!("--as-user-extra=authentication.kubernetes.io/node-name={own}"),
        format!("--as-user-extra=authentication.kubernetes.io/node-uid={uid}"),
    ];
    let run = |arguments: &[&str]| {
        let mut all: Vec<&str> = identity.iter().map(String::as_str).collect();
        all.extend(arguments);
        cluster.plane().admin().run(&all)
    };
    let patch = |object: &[&str], patch: Value| {
        let patch = format!("--patch={patch}");
        let mut all = vec!["patch", "--type=merge", &patch];
        all.extend(object);
        run(&all)
    };
    patch(&["nlp", &own, "--subresource=status"], loaded(1)).unwrap();
    for told in [
        patch(&["nlp", &other, "--subresource=status"], loaded(9)),
        patch(&["nlp", &own], json!({"spec": {"hold": "mine"}})),
        patch(&["nlp", &own], json!({"metadata": {"labels": {"a": "b"}}})),
        patch(
            &["lps", &set_name],
            json!({"spec": {"rollout": {"maxConcurrent": "100%"}}}),
        ),
        patch(
            &["lps", &set_name, "--subresource=status"],
            json!({"status": {"blockedBy": "me"}}),
        ),
        run(&["delete", "lps", &set_name]),
        run(&["delete", "nlp", &own]),
        run(&["delete", "nlp", "--all"]),
    ] {
        let refusal = format!("{:#}", told.unwrap_err());
        assert!(
            // Of the spec two policies speak, and either may be the first.
            refusal.contains(&format!("ValidatingAdmissionPolicy '{POLICY}'"))
                || refusal.contains("ValidatingAdmissionPolicy 'livepatch-node-spec'"),
            "{refusal}"
        );
    }
}
