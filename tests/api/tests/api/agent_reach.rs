//! An agent's token against everything that the API server offers: what it may do is a short list, all else is refused.

use std::collections::BTreeSet;

use livepatch_rig::http::Method;
use serde_json::{Value, json};

use crate::installed::{Caller, Installed, NAMESPACE, fresh};

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
            // The policy refuses all but one object, see agent_token.
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
}
