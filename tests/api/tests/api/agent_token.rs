//! What a stolen token of an agent is good for: the status of its own node's object, and nothing else.

use std::collections::BTreeSet;
use std::time::Duration;

use livepatch_rig::http::Method;
use livepatch_rig::progress::{Waited, wait_for};
use serde_json::{Value, json};

use crate::installed::{Caller, GROUP, Installed, NAMESPACE, fresh, grant, node_livepatch, refused_by, set};

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

/// What an agent may do, in the words of the API server's own authorizer: this list is the whole of it.
#[test]
fn the_rules_of_an_agent_are_these_and_no_others() {
    let cluster = Installed::shared();
    let node = fresh("rules");
    cluster.node(&node);
    let agent = cluster.agent(&node);
    let everybody = [
        // Kubernetes lets every authenticated user ask about itself.
        "create authentication.k8s.io/selfsubjectreviews",
        "create authorization.k8s.io/selfsubjectaccessreviews",
        "create authorization.k8s.io/selfsubjectrulesreviews",
    ];
    let granted = [
        "get livepatch.dev/nodelivepatches",
        "list livepatch.dev/nodelivepatches",
        "watch livepatch.dev/nodelivepatches",
        "patch livepatch.dev/nodelivepatches/status",
        "update livepatch.dev/nodelivepatches/status",
    ];
    for namespace in ["default", "kube-system", "another", NAMESPACE] {
        let mut expected: BTreeSet<String> = everybody.iter().chain(&granted).map(|&rule| rule.to_owned()).collect();
        if namespace == NAMESPACE {
            expected.insert("get coordination.k8s.io/leases livepatch-operator".to_owned());
        }
        let told = agent
            .send(
                Method::POST,
                "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews",
                &json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview",
                        "spec": {"namespace": namespace}}),
            )
            .unwrap();
        assert_eq!(told["status"]["incomplete"], false);
        assert_eq!(rules(&told["status"]["resourceRules"]), expected, "in {namespace}");
        for rule in told["status"]["nonResourceRules"].as_array().unwrap() {
            assert_eq!(rule["verbs"], json!(["get"]), "{rule}");
        }
    }
}

/// Rules, one string for each verb and resource, with the names if it is limited to some.
fn rules(rules: &Value) -> BTreeSet<String> {
    let texts = |value: &Value| -> Vec<String> {
        let list = value.as_array().map(Vec::as_slice).unwrap_or_default();
        list.iter().map(|text| text.as_str().unwrap().to_owned()).collect()
    };
    let mut all = BTreeSet::new();
    for rule in rules.as_array().unwrap() {
        let names = texts(&rule["resourceNames"]).join(",");
        for group in texts(&rule["apiGroups"]) {
            for resource in texts(&rule["resources"]) {
                for verb in texts(&rule["verbs"]) {
                    all.insert(format!("{verb} {group}/{resource} {names}").trim_end().to_owned());
                }
            }
        }
    }
    all
}

/// A resource or subresource that the API server offers.
struct Offered {
    path: String,
    namespaced: bool,
    resource: String,
    subresource: Option<String>,
}

/// Everything in the discovery of the API server.
fn offered(agent: &Caller) -> Vec<Offered> {
    let get = |path: &str| agent.send(Method::GET, path, &Value::Null).unwrap();
    let versions = get("/api")["versions"].as_array().unwrap().clone();
    let mut paths: Vec<String> = versions
        .iter()
        .map(|version| format!("/api/{}", version.as_str().unwrap()))
        .collect();
    for group in get("/apis")["groups"].as_array().unwrap() {
        for version in group["versions"].as_array().unwrap() {
            paths.push(format!("/apis/{}", version["groupVersion"].as_str().unwrap()));
        }
    }
    let mut all = Vec::new();
    for path in paths {
        for resource in get(&path)["resources"].as_array().unwrap() {
            let name = resource["name"].as_str().unwrap();
            let (resource_name, subresource) = name
                .split_once('/')
                .map_or((name, None), |(a, b)| (a, Some(b.to_owned())));
            all.push(Offered {
                path: path.clone(),
                namespaced: resource["namespaced"] == true,
                resource: resource_name.to_owned(),
                subresource,
            });
        }
    }
    all
}

#[test]
fn every_verb_on_every_other_resource_is_refused() {
    let cluster = Installed::shared();
    let node = fresh("everything");
    cluster.node(&node);
    let agent = cluster.agent(&node);
    // What it may do, by verb, resource and, where it matters, the place; all else that the server offers is refused.
    let allowed = |verb: &str, offered: &Offered, namespace: &str, name: &str| {
        let resource = format!("{}/{}", offered.path, offered.resource);
        match (resource.as_str(), offered.subresource.as_deref()) {
            ("/apis/livepatch.dev/v1alpha1/nodelivepatches", None) => ["get", "list", "watch"].contains(&verb),
            // Asked below, with objects that are there.
            ("/apis/livepatch.dev/v1alpha1/nodelivepatches", Some("status")) => ["patch", "update"].contains(&verb),
            ("/apis/coordination.k8s.io/v1/leases", None) => {
                verb == "get" && namespace == NAMESPACE && name == "livepatch-operator"
            }
            (
                "/apis/authentication.k8s.io/v1/selfsubjectreviews"
                | "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
                | "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews",
                None,
            ) => verb == "create",
            _ => false,
        }
    };
    let verbs = [
        ("get", Method::GET),
        ("list", Method::GET),
        ("watch", Method::GET),
        ("create", Method::POST),
        ("update", Method::PUT),
        ("patch", Method::PATCH),
        ("delete", Method::DELETE),
        ("deletecollection", Method::DELETE),
    ];
    let all = offered(&agent);
    assert!(all.len() > 80, "the discovery shows only {} resources", all.len());
    assert!(all.iter().any(|one| one.resource == "livepatchsets"));
    let mut asked = 0;
    for one in &all {
        let namespaces: &[&str] = if one.namespaced {
            &["", "default", NAMESPACE]
        } else {
            &[""]
        };
        for namespace in namespaces {
            for (verb, method) in &verbs {
                let on_one = ["get", "update", "patch", "delete"].contains(verb) || one.subresource.is_some();
                // No single object can be named over all namespaces; a subresource has no collection.
                if (one.namespaced && namespace.is_empty() && on_one)
                    || (one.subresource.is_some() && ["list", "watch", "deletecollection"].contains(verb))
                {
                    continue;
                }
                let names: &[&str] = if on_one {
                    &["livepatch-operator", "default"]
                } else {
                    &[""]
                };
                for name in names {
                    if allowed(verb, one, namespace, name) {
                        continue;
                    }
                    let mut path = one.path.clone();
                    if !namespace.is_empty() {
                        path = format!("{path}/namespaces/{namespace}");
                    }
                    path = format!("{path}/{}", one.resource);
                    if on_one {
                        path = format!("{path}/{name}");
                    }
                    if let Some(subresource) = &one.subresource {
                        path = format!("{path}/{subresource}");
                    }
                    let query = match *verb {
                        "watch" => "watch=true&timeoutSeconds=1",
                        "get" | "list" => "",
                        _ => "dryRun=All",
                    };
                    let body = if *method == Method::GET || *method == Method::DELETE {
                        Value::Null
                    } else {
                        json!({})
                    };
                    let told = agent.send(method.clone(), &format!("{path}?{query}"), &body);
                    asked += 1;
                    match told {
                        Err(refusal) if refusal.code == 403 => {}
                        other => panic!("{verb} {path} was not refused: {other:?}"),
                    }
                }
            }
        }
    }
    assert!(asked > 1000, "only {asked} requests were made");

    // Paths that are no resources: of these everybody may read health, version and what the server offers.
    for path in ["/metrics", "/logs", "/debug/pprof", "/configz", "/statusz", "/flagz"] {
        let refusal = agent.send(Method::GET, path, &Value::Null).unwrap_err();
        assert!([403, 404].contains(&refusal.code), "{path}: {refusal:?}");
    }
    // And what it may do everywhere by RBAC, it may do in one place.
    let other = fresh("other");
    cluster.node(&other);
    let refusal = agent.refused(Method::PATCH, &status(&other), &loaded(9));
    refused_by(&refusal, POLICY, "writes the status of that node only");
}
