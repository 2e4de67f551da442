//! The definitions in a real API server: accepted, read back by the types, and what people see of the objects.

use livepatch_crds::{LivepatchRollout, LivepatchSet, NodeLivepatch};
use livepatch_rig::http::Method;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::installed::{Caller, Installed, fresh, grant, node_livepatch, rollout, set};

#[test]
fn the_server_accepts_the_definitions_and_has_nothing_to_say_against_them() {
    let cluster = Installed::shared();
    for plural in ["livepatchsets", "livepatchrollouts", "nodelivepatches"] {
        let name = format!("{plural}.livepatch.dev");
        let crd = cluster.plane().admin().get(&["crd", &name]).unwrap();
        let conditions = crd["status"]["conditions"].as_array().unwrap();
        let status = |kind: &str| {
            conditions
                .iter()
                .find(|c| c["type"] == kind)
                .map(|c| c["status"].clone())
        };
        assert_eq!(status("Established"), Some(json!("True")), "{crd}");
        assert_eq!(status("NamesAccepted"), Some(json!("True")), "{crd}");
        assert_eq!(status("NonStructuralSchema"), None, "{crd}");
        assert_eq!(crd["metadata"]["annotations"]["helm.sh/resource-policy"], "keep");
    }
}

/// What the types write, the server stores, and the types read back the same.
fn comes_back<T: DeserializeOwned + serde::Serialize>(
    cluster: &Installed,
    plural: &str,
    object: &Value,
    status: &Value,
) {
    let caller = if plural == "livepatchsets" {
        cluster.admin()
    } else {
        cluster.operator()
    };
    let written: T = serde_json::from_value(object.clone()).unwrap();
    let written = serde_json::to_value(&written).unwrap();
    caller.accepted(Method::POST, plural, &written);
    let path = format!("{plural}/{}", object["metadata"]["name"].as_str().unwrap());
    cluster
        .admin()
        .accepted(Method::PATCH, &format!("{path}/status"), &json!({"status": status}));
    let stored = caller.get(&path);
    let read: T = serde_json::from_value(stored.clone()).unwrap();
    let read = serde_json::to_value(&read).unwrap();
    assert_eq!(read["spec"], written["spec"]);
    assert_eq!(read["spec"], stored["spec"], "the types leave something out");
    assert_eq!(&read["status"], status);
    assert_eq!(read["status"], stored["status"], "the types leave something out");
}

fn condition() -> Value {
    json!({
        "type": "Ready", "status": "False", "reason": "Working", "message": "one of three", "observedGeneration": 1,
        "lastTransitionTime": "2026-01-02T03:04:05Z",
    })
}

fn counts() -> Value {
    json!({
        "selected": 9, "pending": 1, "inFlight": 1, "settled": 1, "failed": 1, "notApplicable": 1, "unreachable": 1,
        "held": 0, "unknown": 1, "excluded": 1, "rolledBack": 1,
    })
}

#[test]
fn every_field_survives_the_way_to_the_server_and_back() {
    let cluster = Installed::shared();
    let mut full = set(&fresh("full"));
    full["spec"]["nodeSelector"] = json!({
        "matchLabels": {"a": "b"},
        "matchExpressions": [{"key": "c", "operator": "In", "values": ["d"]}],
    });
    full["spec"]["rollout"] = json!({
        "waves": [
            {"name": "canary", "nodeSelector": {"matchLabels": {"e": "f"}}, "maxConcurrent": 1, "minSucceeded": 2,
             "soakSeconds": 3, "then": "AwaitPromotion"},
            {"name": "half", "percent": 50, "maxConcurrent": "5%", "minSucceeded": 1, "soakSeconds": 0,
             "then": "Continue"},
        ],
        "maxConcurrent": "20%",
        "maxFailed": "1%",
        "maxStalled": 3,
        "failurePolicy": "RollBack",
        "progressDeadlineSeconds": 60,
        "minReadySeconds": 5,
    });
    full["spec"]["transition"] = json!({"timeoutSeconds": 60, "timeoutPolicy": "Wait"});
    full["spec"]["template"]["offBand"] = json!({"upgrade": "UnloadFirst", "onAtomicReplace": "Block"});
    full["spec"]["drift"] = json!("Restore");
    full["spec"]["foreignPolicy"] = json!("Replace");
    full["spec"]["removalPolicy"] = json!("Unload");
    full["spec"]["revisionHistoryLimit"] = json!(4);
    let status = json!({
        "observedGeneration": 1, "currentRevision": "0123456789", "updateRevision": "9876543210", "rollout": "a-1",
        "start": {"rollout": "a-1", "number": 2}, "wave": "canary", "blockedBy": "something", "counts": counts(), "conditions": [condition()],
    });
    comes_back::<LivepatchSet>(&cluster, "livepatchsets", &full, &status);

    let mut full = rollout(&fresh("full"));
    full["spec"]["control"] =
        json!({"state": "Paused", "promotedThrough": "canary", "attempt": 2, "excludeNodes": ["a", "b.c"]});
    let wave = |state: &str| json!({"name": state.to_lowercase(), "state": state, "selected": 1, "settled": 1});
    let mut soaking = wave("Soaking");
    soaking["settledAt"] = json!("2026-01-02T03:04:05Z");
    let all = ["Waiting", "Running", "AwaitingPromotion", "Empty", "Halted", "Passed"];
    let waves: Vec<Value> = all.into_iter().map(wave).chain([soaking]).collect();
    let status = json!({
        "observedGeneration": 1, "start": 2, "counts": counts(), "wave": "canary", "blockedBy": "something", "waves": waves,
        "kernels": [{"release": "6.1.0", "buildID": "c1", "covered": true, "nodes": 3, "settled": 1}],
        "failures": [{"node": "n", "wave": "canary", "attempt": 1, "reason": "SymbolNotFound", "message": "ENOENT (2)", "back": true}],
        "failed": {"attempt": 2, "refused": 1, "stalled": 2, "lost": 3, "back": true}, "rollingBack": true, "rollback": "Possible", "lastProgressTime": "2026-01-02T03:04:05Z",
        "conditions": [condition()],
    });
    comes_back::<LivepatchRollout>(&cluster, "livepatchrollouts", &full, &status);

    let mut full = node_livepatch(&fresh("full"), "uid");
    full["spec"]["hold"] = json!("somebody works on it");
    let mut cumulative = grant();
    cumulative["previous"] = cumulative["module"].clone();
    cumulative["policy"] = json!({
        "timeoutPolicy": "Wait", "drift": "Restore", "foreignPolicy": "Replace",
        "supersedes": [{"set": "old", "moduleSHA256": ["a".repeat(64)]}],
    });
    let mut absent = grant();
    absent["state"] = json!("Absent");
    absent["policy"] = json!({"offBand": {"upgrade": "UnloadFirst", "onAtomicReplace": "Block"}});
    full["spec"]["livepatches"] = json!([grant(), cumulative, absent]);
    let grant_status = |result: &str| {
        json!({
            "set": "a", "rollout": "a-1", "attempt": 1, "result": result, "reason": "TransitionTimedOut",
            "message": "five tasks", "blockers": [{"pid": 7, "comm": "sleep", "podUID": "p"}, {"pid": 8, "comm": "dd"}],
            "gapMilliseconds": 1500,
        })
    };
    let loaded = |owner: &str| {
        json!({
            "module": "lp_a", "buildID": "b1", "owner": owner, "set": "a", "enabled": true, "transition": false,
            "functionCount": 2,
        })
    };
    let status = json!({
        "observedGeneration": 1, "agentVersion": "0.1.0", "bootID": "boot", "kernelTaints": "OEK", "loadedCount": 3,
        "kernel": {"release": "6.1.0", "buildID": "c1", "architecture": "amd64"},
        "livepatches": (["Pending", "Transitioning", "Loaded", "Superseded", "Absent", "Failed"].map(grant_status)),
        "features": ["RestoreOffBand"],
        "loaded": (["Set", "Retained", "Foreign"].map(loaded)),
        "conditions": [condition()],
    });
    comes_back::<NodeLivepatch>(&cluster, "nodelivepatches", &full, &status);
}

#[test]
fn people_see_what_matters_in_one_line_per_object() {
    let cluster = Installed::shared();
    let admin = cluster.admin();
    let columns = |kind: &str, name: &str| {
        let printed = cluster.plane().admin().run(&["get", kind, name]).unwrap();
        let lines: Vec<String> = printed
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        lines.join("\n")
    };
    let patch_status = |plural: &str, name: &str, status: Value| {
        admin.accepted(
            Method::PATCH,
            &format!("{plural}/{name}/status"),
            &json!({"status": status}),
        );
    };

    let name = fresh("columns");
    admin.accepted(Method::POST, "livepatchsets", &set(&name));
    patch_status(
        "livepatchsets",
        &name,
        json!({"wave": "canary", "counts": counts(), "conditions": [condition()]}),
    );
    let printed = columns("lps", &name);
    let (header, row) = printed.split_once('\n').unwrap();
    assert_eq!(header, "NAME TYPE READY REASON SETTLED SELECTED FAILED WAVE AGE");
    assert!(
        row.starts_with(&format!("{name} OffBand False Working 1 9 1 canary ")),
        "{row}"
    );

    let name = fresh("columns");
    cluster
        .operator()
        .accepted(Method::POST, "livepatchrollouts", &rollout(&name));
    patch_status(
        "livepatchrollouts",
        &name,
        json!({"wave": "canary", "counts": counts(), "conditions": [condition()]}),
    );
    let printed = columns("lpr", &name);
    let (header, row) = printed.split_once('\n').unwrap();
    assert_eq!(header, "NAME SET STATE WAVE SETTLED IN FLIGHT SELECTED FAILED AGE");
    assert!(row.starts_with(&format!("{name} a Working canary 1 1 9 1 ")), "{row}");

    let name = fresh("columns");
    cluster
        .operator()
        .accepted(Method::POST, "nodelivepatches", &node_livepatch(&name, "uid"));
    patch_status(
        "nodelivepatches",
        &name,
        json!({"kernel": {"release": "6.1.0", "buildID": "c1", "architecture": "amd64"}, "loadedCount": 2,
               "conditions": [condition()]}),
    );
    let printed = columns("nlp", &name);
    let (header, row) = printed.split_once('\n').unwrap();
    assert_eq!(header, "NAME KERNEL READY REASON LOADED AGE");
    assert!(row.starts_with(&format!("{name} 6.1.0 False Working 2 ")), "{row}");

    // The category, as `kubectl get livepatch`.
    let all = cluster
        .plane()
        .admin()
        .run(&["get", "livepatch", "--output=name"])
        .unwrap();
    for plural in ["livepatchset", "livepatchrollout", "nodelivepatch"] {
        assert!(all.contains(&format!("{plural}.livepatch.dev/")), "{all}");
    }
}

/// kstatus takes an object without any status for ready, and a program that waits for it would go on at once. A node's
/// object has none until its agent has spoken.
#[test]
fn what_nobody_has_seen_yet_says_so() {
    let cluster = Installed::shared();
    let seen = |caller: &Caller, plural: &str, object: &Value| {
        caller.accepted(Method::POST, plural, object);
        let path = format!("{plural}/{}", object["metadata"]["name"].as_str().unwrap());
        let stored = cluster.admin().get(&path);
        assert_eq!(stored["metadata"]["generation"], 1);
        stored["status"]["observedGeneration"].clone()
    };
    assert_eq!(seen(&cluster.admin(), "livepatchsets", &set(&fresh("unseen"))), 0);
    assert_eq!(
        seen(&cluster.operator(), "livepatchrollouts", &rollout(&fresh("unseen"))),
        0
    );
    let node = node_livepatch(&fresh("unseen"), "uid");
    assert_eq!(seen(&cluster.operator(), "nodelivepatches", &node), Value::Null);
}
