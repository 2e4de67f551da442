//! Plans for sets on two nodes, of which one runs an off-band livepatch already.

use std::collections::BTreeMap;

use livepatch_planner::fleet::snapshot::NodeView;
use serde_json::{Value, json};

use super::super::told::tell;
use super::{Facts, Outlook, Running, outlook};
use crate::family::Family;
use crate::registry::fixture::artefacts;
use crate::text::Screen;
use crate::verbs::fixture::{family, status};

/// What the set `nf` has loaded on node `busy`.
const THERE: &str = "b1";

fn grant() -> Value {
    json!({
        "set": {"name": "nf", "uid": "set-uid"}, "rollout": "nf-0011223344", "wave": "canary", "epoch": "e/1",
        "attempt": 1, "state": "Loaded", "type": "OffBand", "bootID": "boot", "kernelTaints": "",
        "transitionTimeoutSeconds": 300,
        "module": {
            "name": "lp_b1", "repository": "r", "digest": "d", "sha256": THERE, "buildID": THERE, "kernelBuildID": "k1",
        },
    })
}

fn running(loaded: &Value, grants: &Value, release: &str) -> Running {
    Running {
        boot_id: "boot".to_owned(),
        kernel: serde_json::from_value(json!({"release": release, "buildID": "k1", "architecture": "amd64"})).unwrap(),
        loaded: serde_json::from_value(loaded.clone()).unwrap(),
        grants: serde_json::from_value(grants.clone()).unwrap(),
    }
}

fn set(name: &str, kind: &str, reference: &str) -> livepatch_crds::LivepatchSet {
    let set = json!({
        "apiVersion": "livepatch.dev/v1alpha1", "kind": "LivepatchSet", "metadata": {"name": name},
        "spec": {
            "type": kind, "nodeSelector": {}, "template": {"source": {"oci": {"reference": reference}}},
            "rollout": {"waves": [{"name": "canary", "nodeSelector": {"matchLabels": {"pool": "canary"}}}]},
        },
    });
    serde_json::from_value(set).unwrap()
}

fn planned(name: &str, kind: &str, build_id: &str, function: &str) -> (Outlook, String) {
    let there: Family = family(json!({}), status("Complete", json!({})));
    let artefacts = artefacts(&[
        ("r.io/a@sha256:0", THERE, &[], &[("vmlinux", "nft_set")]),
        ("r.io/new@sha256:0", build_id, &[], &[("vmlinux", function)]),
    ]);
    let node = |pool: &str| NodeView {
        uid: format!("uid-{pool}"),
        boot_id: "boot".to_owned(),
        labels: BTreeMap::from([("pool".to_owned(), pool.to_owned())]),
        ..NodeView::default()
    };
    let nodes = ["bare", "busy", "older", "silent"].map(|name| {
        let pool = if name == "busy" { "canary" } else { name };
        (name.to_owned(), node(pool))
    });
    let loaded = json!([{"module": "lp_b1", "buildID": THERE, "owner": "Set", "set": "nf", "enabled": true, "transition": false}]);
    let none = json!([]);
    let facts = Facts {
        set: &set(name, kind, "r.io/new@sha256:0"),
        families: &[there],
        artefacts: &artefacts,
        nodes: &nodes,
        running: &BTreeMap::from([
            ("bare".to_owned(), running(&none, &none, "6.1")),
            ("busy".to_owned(), running(&loaded, &json!([grant()]), "6.1")),
            ("older".to_owned(), running(&none, &none, "5.10")),
        ]),
    };
    let outlook = outlook(&facts);
    let text = tell(&outlook, Screen::default());
    (outlook, text)
}

#[test]
fn what_touches_nothing_is_loaded_beside() {
    let (outlook, text) = planned("other", "OffBand", "b2", "tcp_ack");
    assert!(!outlook.is_blocked(), "{text}");
    assert_eq!(outlook.waves, [("canary".to_owned(), 1), ("rest".to_owned(), 3)]);
    for told in [
        "LivepatchSet other selects 4 nodes",
        "1 node whose agent has not reported: silent",
        "none: these nodes get nothing",
        "✔ Load",
        "1. load lp_b2",
        "no fix is out of effect meanwhile",
        "way back: possible (Remove)",
        "Nothing blocks it.",
    ] {
        assert!(text.contains(told), "{told}\n{text}");
    }
}

#[test]
fn a_function_that_another_set_replaces_blocks_it_where_the_two_meet() {
    let (outlook, text) = planned("other", "OffBand", "b2", "nft_set");
    assert!(outlook.is_blocked(), "{text}");
    let meeting = outlook
        .outcomes
        .iter()
        .find(|outcome| outcome.nodes == ["busy"])
        .unwrap();
    assert!(meeting.back.is_none());
    assert!(text.contains("✖ refused") && text.contains("nft_set"), "{text}");
    assert!(text.ends_with("Something blocks it.\n"), "{text}");
}

#[test]
fn a_cumulative_one_brings_the_others_back_and_tells_the_gap() {
    let (outlook, text) = planned("base", "Cumulative", "c1", "tcp_ack");
    assert!(!outlook.is_blocked(), "{text}");
    assert!(
        text.contains("✔ Atomic") && text.contains("out of effect from step"),
        "{text}"
    );
    assert!(text.contains("lp_b1 of LivepatchSet nf"), "{text}");
}

#[test]
fn what_cannot_be_read_blocks_it() {
    let there: Family = family(json!({}), status("Complete", json!({})));
    let mut artefacts = artefacts(&[]);
    artefacts
        .unread
        .insert("r.io/new@sha256:0".to_owned(), "connection refused".to_owned());
    let facts = Facts {
        set: &set("nf", "Cumulative", "r.io/new@sha256:0"),
        families: &[there],
        artefacts: &artefacts,
        nodes: &[],
        running: &BTreeMap::new(),
    };
    let outlook = outlook(&facts);
    assert_eq!(
        outlook.wrong,
        [
            "type is immutable: make another LivepatchSet",
            "the artefact cannot be read: connection refused"
        ]
    );
    assert!(outlook.is_blocked());
}
