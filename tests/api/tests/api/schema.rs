//! What the definitions refuse, in which words, and what they fill in: each static rule, asked by a real API server.

use livepatch_crds::LivepatchSet;
use livepatch_rig::http::Method;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::installed::{DIGEST, Installed, fresh, grant, node_livepatch, rollout, set};

/// A set that differs from the least one in these fields of its spec.
#[derive(Deserialize)]
struct Case {
    what: String,
    #[serde(default)]
    name: Option<String>,
    spec: Map<String, Value>,
    /// Part of what the server says; nothing if the set is good.
    #[serde(default)]
    message: String,
}

impl Case {
    fn object(&self) -> Value {
        let mut object = set(&self.name.clone().unwrap_or_else(|| fresh("case")));
        for (field, value) in &self.spec {
            object["spec"][field] = value.clone();
        }
        object
    }
}

fn cases(yaml: &str) -> Vec<Case> {
    serde_saphyr::from_str(yaml).unwrap()
}

#[test]
fn a_bad_set_is_refused_and_the_message_says_why() {
    let admin = Installed::shared().admin();
    for case in cases(include_str!("sets_refused.yaml")) {
        let refusal = admin.refused(Method::POST, "livepatchsets", &case.object());
        assert!([400, 422].contains(&refusal.code), "{}: {refusal:?}", case.what);
        assert!(refusal.message.contains(&case.message), "{}: {refusal:?}", case.what);
    }
}

#[test]
fn a_good_set_is_accepted() {
    let admin = Installed::shared().admin();
    for case in cases(include_str!("sets_accepted.yaml")) {
        let told = admin.accepted(Method::POST, "livepatchsets", &case.object());
        // The operator reads with these types: what they cannot read is never reconciled.
        serde_json::from_value::<LivepatchSet>(told.clone())
            .unwrap_or_else(|error| panic!("{}: {error}\n{told}", case.what));
    }
}

/// `object` with `value` at the path, whose parts are keys.
fn at_path(mut object: Value, path: &str, value: Value) -> Value {
    let pointer = path.split('.').fold(&mut object, |at, key| &mut at[key]);
    *pointer = value;
    object
}

#[test]
fn what_is_left_out_is_filled_in_as_documented() {
    let cluster = Installed::shared();
    let name = fresh("defaults");
    let told = cluster.admin().accepted(Method::POST, "livepatchsets", &set(&name));
    let spec = &told["spec"];
    assert_eq!(
        spec["rollout"],
        json!({
            "maxConcurrent": "10%", "maxFailed": 0, "maxStalled": "5%", "failurePolicy": "Halt", "minReadySeconds": 60,
            "progressDeadlineSeconds": 7200,
        })
    );
    assert_eq!(
        spec["transition"],
        json!({"timeoutSeconds": 300, "timeoutPolicy": "Revert"})
    );
    assert_eq!(spec["drift"], "Report");
    assert_eq!(spec["foreignPolicy"], "Refuse");
    assert_eq!(spec["removalPolicy"], "Retain");
    assert_eq!(spec["revisionHistoryLimit"], 10);

    // Half of a group, and an explicit null, which generators of YAML like to leave behind.
    let name = fresh("defaults");
    let mut half = set(&name);
    half["spec"]["rollout"] = json!({"maxConcurrent": null, "waves": [{"name": "canary", "percent": 5}]});
    let told = cluster.admin().accepted(Method::POST, "livepatchsets", &half);
    assert_eq!(told["spec"]["rollout"]["maxConcurrent"], "10%", "{told}");
    assert_eq!(told["spec"]["rollout"]["minReadySeconds"], 60);
    let wave = json!({"name": "canary", "percent": 5, "minSucceeded": 1, "soakSeconds": 0, "then": "Continue"});
    assert_eq!(told["spec"]["rollout"]["waves"], json!([wave]));

    let name = fresh("defaults");
    let told = cluster
        .operator()
        .accepted(Method::POST, "livepatchrollouts", &rollout(&name));
    assert_eq!(told["spec"]["control"], json!({"state": "Run", "attempt": 1}));
}

#[test]
fn the_type_of_a_set_never_changes() {
    let cluster = Installed::shared();
    let (admin, name) = (cluster.admin(), fresh("type"));
    admin.accepted(Method::POST, "livepatchsets", &set(&name));
    let path = format!("livepatchsets/{name}");
    let refusal = admin.refused(Method::PATCH, &path, &json!({"spec": {"type": "Cumulative"}}));
    assert!(
        refusal.message.contains("type is immutable: make another LivepatchSet"),
        "{refusal:?}"
    );
    // Everything else of it may.
    let other = json!({"spec": {"nodeSelector": {"matchLabels": {"a": "b"}}, "rollout": {"maxConcurrent": 3}}});
    assert_eq!(
        admin.accepted(Method::PATCH, &path, &other)["metadata"]["generation"],
        2
    );
}

#[test]
fn a_rollout_keeps_its_revision_and_its_attempts_only_grow() {
    let cluster = Installed::shared();
    let (operator, admin) = (cluster.operator(), cluster.admin());
    let name = fresh("rollout");
    operator.accepted(Method::POST, "livepatchrollouts", &rollout(&name));
    let path = format!("livepatchrollouts/{name}");
    let attempt = |n: i32| json!({"spec": {"control": {"attempt": n}}});
    admin.accepted(Method::PATCH, &path, &attempt(3));
    for (patch, message) in [
        (attempt(2), "attempt only grows"),
        (attempt(0), "should be greater than or equal to 1"),
        (
            json!({"spec": {"control": {"state": "Stop"}}}),
            "supported values: \"Run\", \"Paused\"",
        ),
        (
            json!({"spec": {"control": {"promoted": "x"}}}),
            "unknown field \"spec.control.promoted\"",
        ),
        (json!({"spec": {"setUID": "5678"}}), "setUID is immutable"),
        (
            json!({"spec": {"template": {"source": {"oci": {"reference": format!("r.example.com/b@{DIGEST}")}}}}}),
            "template is immutable",
        ),
    ] {
        let refusal = admin.refused(Method::PATCH, &path, &patch);
        assert!([400, 422].contains(&refusal.code), "{refusal:?}");
        assert!(refusal.message.contains(message), "{refusal:?}");
    }
}

#[test]
fn a_bad_grant_is_refused() {
    let cluster = Installed::shared();
    let operator = cluster.operator();
    let name = fresh("grants");
    operator.accepted(Method::POST, "nodelivepatches", &node_livepatch(&name, "uid-1"));
    let path = format!("nodelivepatches/{name}");
    let granted = |grants: Value| json!({"spec": {"livepatches": grants}});
    let one = |at: &str, value: Value| granted(json!([at_path(grant(), at, value)]));
    for (what, patch, message) in [
        (
            "another node",
            json!({"spec": {"nodeUID": "uid-2"}}),
            "nodeUID is immutable",
        ),
        (
            "a tag",
            one("module.digest", json!("v1")),
            "spec.livepatches[0].module.digest",
        ),
        (
            "a bad hash",
            one("module.sha256", json!("zz")),
            "spec.livepatches[0].module.sha256",
        ),
        (
            "no name",
            one("module.name", json!("")),
            "spec.livepatches[0].module.name",
        ),
        (
            "attempt 0",
            one("attempt", json!(0)),
            "should be greater than or equal to 1",
        ),
        (
            "29 seconds",
            one("transitionTimeoutSeconds", json!(29)),
            "should be greater than or equal to 30",
        ),
        (
            "an unknown wish",
            one("state", json!("Gone")),
            "supported values: \"Loaded\"",
        ),
        (
            "an unknown field",
            one("force", json!(true)),
            "unknown field \"spec.livepatches[0].force\"",
        ),
        (
            "65 grants",
            granted(json!(vec![grant(); 65])),
            "must have at most 64 items",
        ),
    ] {
        let refusal = operator.refused(Method::PATCH, &path, &patch);
        assert!([400, 422].contains(&refusal.code), "{what}: {refusal:?}");
        assert!(refusal.message.contains(message), "{what}: {refusal:?}");
    }
    operator.accepted(Method::PATCH, &path, &granted(json!(vec![grant(); 64])));
}
