//! The tree of fixed objects at a fixed time.

use jiff::Timestamp;
use livepatch_crds::NodeLivepatch;
use serde_json::{Value, json};

use super::tree;
use crate::family::Family;
use crate::nodes::NodeGist;
use crate::text::Screen;
use crate::verbs::fixture::{family, status};

const NOW: &str = "2026-11-01T10:20:00Z";

#[expect(clippy::needless_pass_by_value, reason = "tests write the value where they give it")]
fn node(name: &str, kernel: (&str, &str), hold: &str, outcome: Value) -> NodeGist {
    let mut of_grant = json!({"set": "nf", "rollout": "nf-0011223344", "attempt": 1, "reason": "", "result": "Loaded"});
    for (key, value) in outcome.as_object().unwrap() {
        of_grant[key] = value.clone();
    }
    let object = json!({
        "metadata": {"name": name},
        "spec": {"nodeUID": name, "hold": hold, "livepatches": [{
            "set": {"name": "nf", "uid": "set-uid"}, "rollout": "nf-0011223344", "wave": "canary", "epoch": "e/1",
            "attempt": 1, "state": "Loaded", "type": "OffBand", "bootID": "b", "kernelTaints": "",
            "transitionTimeoutSeconds": 300,
            "module": {
                "name": "m", "repository": "r", "digest": "d", "sha256": "s", "buildID": "b", "kernelBuildID": kernel.1,
            },
        }]},
        "status": {
            "kernel": {"release": kernel.0, "buildID": kernel.1, "architecture": "amd64"}, "livepatches": [of_grant],
        },
    });
    let object: NodeLivepatch = serde_json::from_value(object).unwrap();
    NodeGist::of(object).unwrap()
}

fn drawn(mut family: Family, nodes: &[NodeGist]) -> String {
    let of_rollout = family.rollouts[0].status.clone().unwrap();
    let of_set = family.set.status.as_mut().unwrap();
    of_set.counts = of_rollout.counts;
    of_set.conditions = of_rollout.conditions;
    of_set.blocked_by = of_rollout.blocked_by;
    let now: Timestamp = NOW.parse().unwrap();
    tree(&[family], nodes, false, now).render(Screen::default())
}

#[test]
fn a_soaking_wave_tells_until_when_and_names_no_node() {
    let soaking = json!({"state": "Soaking", "settled": 2, "settledAt": "2026-11-01T10:00:00Z"});
    let nodes = ["n1", "n2"].map(|name| node(name, ("6.1.0-28-amd64", "aa"), "", json!({})));
    assert_eq!(
        drawn(family(json!({}), status("Soaking", soaking)), &nodes),
        "\
NAME                               STATE     NODES   INFO
◐ LivepatchSet nf                  Soaking   2/100   words
└─ ◐ rollout nf-0011223344         Soaking   2/100
   ├─ ◐ wave canary                Soaking   2/2     until 2026-11-01T11:00:00Z, in 40m
   │  └─ ✔ kernel 6.1.0-28-amd64             2/2
   ├─ ○ wave quarter               Waiting   0/25
   └─ ○ wave rest                  Waiting   0/73
"
    );
}

#[test]
fn what_needs_attention_is_named_below_its_kernel() {
    let mut said = status("Halted", json!({"state": "Halted", "settled": 1, "selected": 5}));
    said["failures"] = json!([
        {"node": "lost", "wave": "canary", "attempt": 1, "reason": "NodeLost", "message": "the node cannot be reached"},
        {"node": "old", "wave": "canary", "attempt": 0, "reason": "NodeLost", "message": "an attempt before"},
    ]);
    said["kernels"] = json!([{"release": "5.10.0-9", "buildID": "cc", "covered": false, "nodes": 12, "settled": 0}]);
    let nodes = [
        node("good", ("6.1.0-28-amd64", "aa11"), "", json!({})),
        node(
            "held",
            ("6.1.0-28-amd64", "aa11"),
            "label livepatch.dev/skip",
            json!({"result": "Pending"}),
        ),
        node(
            "stalled",
            ("6.1.0-28-amd64", "bb22"),
            "",
            json!({"result": "Transitioning", "blockers": [
                {"pid": 42, "comm": "ngi\u{1b}[31mnx", "podUID": "6a"}, {"pid": 7, "comm": "sleeper"},
            ]}),
        ),
        node(
            "broken",
            ("6.1.0-28-amd64", "aa11"),
            "",
            json!({"result": "Failed", "reason": "LoadFailed", "message": "finit_module: ENOEXEC\n\u{9b}2J"}),
        ),
    ];
    let control = json!({"promotedThrough": "canary"});
    assert_eq!(
        drawn(family(control, said), &nodes),
        "\
NAME                                            STATE           NODES   INFO
✖ LivepatchSet nf                               Halted          2/100   words
└─ ✖ rollout nf-0011223344                      Halted          2/100   promoted through canary
   ├─ ✖ wave canary                             Halted          1/5     kubectl livepatch retry nf
   │  ├─ ✖ kernel 6.1.0-28-amd64 (build aa11)                   1/3     1 to be loaded, 1 failed
   │  │  ├─ ◐ held                              Held                    label livepatch.dev/skip
   │  │  └─ ✖ broken                            LoadFailed              finit_module: ENOEXEC  2J
   │  ├─ ● kernel 6.1.0-28-amd64 (build bb22)                   0/1     1 switching
   │  │  └─ ◐ stalled                           Transitioning           \
kept by task ngi [31mnx (pid 42, pod with UID 6a), task sleeper (pid 7)
   │  └─ ✖ lost                                 NodeLost                the node cannot be reached
   ├─ ○ wave quarter                            Waiting         0/25
   ├─ ○ wave rest                               Waiting         0/73
   └─ ◐ kernel 5.10.0-9                         NoModule        0/12    the artefact has no module for it
"
    );
}

#[test]
fn a_wave_that_has_passed_shows_only_what_is_wrong() {
    let said = status("Progressing", json!({"state": "Passed", "settled": 2}));
    let fine = node("fine", ("6.1", "aa"), "", json!({}));
    let tree = drawn(family(json!({}), said.clone()), std::slice::from_ref(&fine));
    assert!(!tree.contains("kernel"), "{tree}");
    let wrong = node(
        "wrong",
        ("6.1", "aa"),
        "",
        json!({"result": "Failed", "reason": "Drift"}),
    );
    let tree = drawn(family(json!({}), said), &[fine, wrong]);
    assert!(tree.contains("✖ wrong"), "{tree}");
}

#[test]
fn of_many_only_some_are_named() {
    let said = status("Halted", json!({"state": "Halted"}));
    let nodes: Vec<NodeGist> = (10..30)
        .map(|n| {
            node(
                &format!("n{n}"),
                ("6.1", "aa"),
                "",
                json!({"result": "Failed", "reason": "LoadFailed"}),
            )
        })
        .collect();
    let tree = drawn(family(json!({}), said), &nodes);
    assert!(
        tree.contains("✖ n19") && !tree.contains("n20") && tree.contains("… 10 more nodes"),
        "{tree}"
    );
}
