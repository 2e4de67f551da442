//! What is said of fixed objects at a fixed time.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Facts, tell};
use crate::family::Family;
use crate::text::Screen;
use crate::verbs::fixture::{family, status};

fn object(result: &Value) -> Value {
    let mut of_grant =
        json!({"set": "nf", "rollout": "nf-0011223344", "attempt": 1, "reason": "UpToDate", "result": "Loaded"});
    for (key, value) in result.as_object().unwrap() {
        of_grant[key] = value.clone();
    }
    json!({
        "metadata": {"name": "n1"},
        "spec": {"nodeUID": "node-uid", "livepatches": [{
            "set": {"name": "nf", "uid": "set-uid"}, "rollout": "nf-0011223344", "wave": "canary", "epoch": "e/1",
            "attempt": 1, "state": "Loaded", "type": "OffBand", "bootID": "b", "kernelTaints": "",
            "transitionTimeoutSeconds": 300,
            "module": {
                "name": "m", "repository": "r", "digest": "d", "sha256": "s", "buildID": "b1", "kernelBuildID": "k1",
            },
        }]},
        "status": {
            "agentVersion": "0.1.0", "bootID": "boot", "kernelTaints": "OE", "livepatches": [of_grant],
            "kernel": {"release": "6.1.0", "buildID": "k1", "architecture": "amd64"},
            "loaded": [
                {"module": "lp_nf", "buildID": "b1", "owner": "Set", "set": "nf", "enabled": true, "transition": true},
                {
                    "module": "kp\u{1b}[31m", "buildID": "", "owner": "Foreign", "enabled": true, "transition": false,
                    "functionCount": 3,
                },
            ],
        },
    })
}

fn node(ready: &str, boot_id: &str) -> Value {
    json!({
        "metadata": {"name": "n1", "uid": "node-uid"},
        "status": {
            "conditions": [{"type": "Ready", "status": ready, "message": "kubelet is silent"}],
            "nodeInfo": {
                "architecture": "amd64", "bootID": boot_id, "containerRuntimeVersion": "", "kernelVersion": "",
                "kubeProxyVersion": "", "kubeletVersion": "", "machineID": "", "operatingSystem": "linux", "osImage": "",
                "systemUUID": "",
            },
        },
    })
}

fn told(object: Value, node: Option<Value>, families: Vec<Family>, pods: &[(&str, &str)]) -> String {
    let pods: BTreeMap<_, _> = pods
        .iter()
        .map(|(uid, pod)| ((*uid).to_owned(), (*pod).to_owned()))
        .collect();
    let facts = Facts {
        object: serde_json::from_value(object).unwrap(),
        node: node.map(|node| serde_json::from_value(node).unwrap()),
        pods,
        families,
    };
    tell(&facts, "2026-11-01T10:20:00Z".parse().unwrap(), Screen::default())
}

fn progressing() -> Family {
    family(json!({}), status("Progressing", json!({})))
}

#[test]
fn a_stalled_transition_names_the_pod() {
    let stalled = json!({"result": "Transitioning", "reason": "TransitionStalled", "message": "1 task", "blockers": [
        {"pid": 42, "comm": "nginx", "podUID": "p1"}, {"pid": 7, "comm": "old", "podUID": "p2"}, {"pid": 8, "comm": "init"},
    ]});
    assert_eq!(
        told(
            object(&stalled),
            Some(node("True", "boot")),
            vec![progressing()],
            &[("p1", "web/nginx-0")]
        ),
        "\
Node:            n1
Kernel:          6.1.0 amd64, build k1
Kernel taints:   OE
State:           ready, and the agent has reported on its present boot
Agent:           0.1.0

Sets:
  nf   the kernel is switching its tasks over (TransitionStalled: 1 task)
       rollout nf-0011223344, wave canary, attempt 1
       waits for task nginx (pid 42) of pod web/nginx-0
       waits for task old (pid 7) of the pod with UID p2, which is gone or may not be read
       waits for task init (pid 8) of no pod

Loaded in the kernel:
  MODULE    WHOSE             STATE           FUNCTIONS   BUILD ID
  lp_nf     LivepatchSet nf   being enabled   -           b1
  kp [31m   somebody else's   enabled         3
"
    );
}

#[test]
fn a_latched_failure_says_how_it_ends() {
    let mut said = status("Halted", json!({"state": "Halted"}));
    said["failures"] =
        json!([{"node": "n1", "wave": "canary", "attempt": 1, "reason": "NodeRebooted", "message": "it rebooted"}]);
    let text = told(
        object(&json!({})),
        Some(node("True", "another boot")),
        vec![family(json!({}), said)],
        &[],
    );
    assert!(
        text.contains("the operator counts it as failed: NodeRebooted: it rebooted"),
        "{text}"
    );
    assert!(
        text.contains("a failure stays one until kubectl livepatch retry nf"),
        "{text}"
    );
    assert!(text.contains("all below is of an earlier one"), "{text}");
}

#[test]
fn without_a_grant_the_nearest_reason_is_told() {
    let without = |control: Value, hold: &str, kernels: Value| {
        let mut object = object(&json!({}));
        object["spec"]["livepatches"] = json!([]);
        object["spec"]["hold"] = json!(hold);
        let mut said = status("Soaking", json!({}));
        said["kernels"] = kernels;
        told(object, Some(node("True", "boot")), vec![family(control, said)], &[])
    };
    let uncovered = json!([{"release": "6.1.0", "buildID": "k1", "covered": false, "nodes": 1, "settled": 0}]);
    for (text, reason) in [
        (
            without(json!({}), "", json!([])),
            "nothing granted: the rollout is Soaking: words",
        ),
        (
            without(json!({}), "label", json!([])),
            "nothing granted: the node is held: label",
        ),
        (
            without(json!({}), "label", uncovered.clone()),
            "has no module for kernel 6.1.0",
        ),
        (
            without(json!({"excludeNodes": ["n1"]}), "", uncovered),
            "a person left this node out",
        ),
        (
            without(json!({"state": "Aborted"}), "", json!([])),
            "a person aborted the rollout",
        ),
    ] {
        assert!(text.contains(reason), "{reason}\n{text}");
    }
}

#[test]
fn a_set_that_does_not_select_the_node_is_not_told() {
    let mut elsewhere = progressing();
    elsewhere.set.spec.node_selector = serde_json::from_value(json!({"matchLabels": {"pool": "edge"}})).unwrap();
    let mut object = object(&json!({}));
    object["spec"]["livepatches"] = json!([]);
    let text = told(
        object.clone(),
        Some(node("False", "boot")),
        vec![elsewhere.clone()],
        &[],
    );
    assert!(
        text.contains("no set selects this node") && text.contains("not ready: kubelet is silent"),
        "{text}"
    );
    let text = told(object, None, vec![elsewhere], &[]);
    assert!(text.contains("whether it selects this node is not known"), "{text}");
}
