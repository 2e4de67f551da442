//! What Helm, Flux and Argo CD make of a set and its rollout in every phase, by the planner's own statuses.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use livepatch_crds::rollout::ControlState;
use livepatch_planner::fleet::snapshot::{BundleView, Leave};
use livepatch_rig::golang;
use livepatch_rig::progress::output_with_input;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::stories::{CANARY, DIGEST, spec, three_nodes};
use crate::workspace;
use crate::world::{Answer, World, module};

#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
struct Verdict {
    kstatus: String,
    argo: String,
    argo_message: String,
}

/// What others say of each object.
fn judge(objects: &[Value]) -> Vec<Verdict> {
    let program: PathBuf = golang::build("health", &workspace("tests/api/health"), "-s -w", &[]).unwrap();
    let mut command = Command::new(program.join("health"));
    command.arg(workspace("docs/argo-cd/health.lua"));
    let told = output_with_input(&mut command, Some(&json!(objects).to_string())).unwrap();
    serde_json::from_str(&told).unwrap()
}

fn object(kind: &str, generation: i64, status: &impl Serialize) -> Value {
    json!({
        "apiVersion": "livepatch.dev/v1alpha1", "kind": kind,
        "metadata": {"name": "fix", "generation": generation}, "status": status,
    })
}

fn set(world: &mut World) -> Value {
    let set = world.set("fix");
    object("LivepatchSet", set.generation, &set.status)
}

fn rollout(world: &mut World) -> Value {
    let rollout = world.rollout("fix");
    object("LivepatchRollout", rollout.generation, &rollout.status)
}

/// A second revision that a person takes back; the canary answers so.
fn rolled_back(answer: Answer) -> World {
    let mut world = begun(CANARY);
    world.steps(20);
    let bundle = BundleView::Read(Arc::new(vec![module("6.1", "n"), module("6.12", "n")]));
    world.set("fix").spec.template.source.oci.reference = format!("registry.example.com/next@sha256:{DIGEST}");
    world.set("fix").bundle = bundle;
    world.steps(20);
    world.answers.insert("a".into(), answer);
    world.rollout("fix").control.state = ControlState::RolledBack;
    world
}

fn begun(rollout: &str) -> World {
    let mut world = three_nodes();
    world.add_set(
        "fix",
        &spec("Cumulative", "{}", rollout),
        &[("6.1", "m"), ("6.12", "m")],
    );
    world
}

/// A way into a phase: its name, the reason of Ready in it, and what the others must say.
struct Phase {
    what: &'static str,
    reason: &'static str,
    kstatus: &'static str,
    argo: &'static str,
    way: fn() -> World,
}

const SOAK: &str = "{minReadySeconds: 0, waves: [{name: canary, nodeSelector: {matchLabels: {pool: canary}}, \
                    soakSeconds: 30, then: AwaitPromotion}]}";

const PHASES: &[Phase] = &[
    Phase {
        what: "the artefact is being read",
        reason: "ReadingArtefact",
        kstatus: "InProgress",
        argo: "Progressing",
        way: || {
            let mut world = begun(CANARY);
            world.set("fix").bundle = BundleView::Unread;
            world.steps(2);
            world
        },
    },
    Phase {
        what: "the set is refused",
        reason: "InvalidSelector",
        kstatus: "Failed",
        argo: "Degraded",
        way: || {
            let mut world = three_nodes();
            let selector = "{matchExpressions: [{key: a, operator: In}]}";
            world.add_set("fix", &spec("Cumulative", selector, CANARY), &[("6.1", "m")]);
            world.steps(2);
            world
        },
    },
    Phase {
        what: "the operator must not grant yet",
        reason: "AdmissionPoliciesMissing",
        kstatus: "InProgress",
        argo: "Progressing",
        way: || {
            let mut world = begun(CANARY);
            world.snapshot.leave = Leave::Withheld {
                reason: "AdmissionPoliciesMissing",
                message: "no policy".into(),
            };
            world.steps(5);
            world
        },
    },
    Phase {
        what: "nodes are being given it",
        reason: "Progressing",
        kstatus: "InProgress",
        argo: "Progressing",
        way: || {
            let mut world = begun(CANARY);
            world.answers.insert("a".into(), Answer::Loads(50));
            world.steps(5);
            world
        },
    },
    Phase {
        what: "a wave soaks",
        reason: "Soaking",
        kstatus: "InProgress",
        argo: "Progressing",
        way: || {
            let mut world = begun(SOAK);
            world.steps(10);
            world
        },
    },
    Phase {
        what: "a wave awaits its promotion",
        reason: "AwaitingPromotion",
        kstatus: "InProgress",
        argo: "Suspended",
        way: || {
            let mut world = begun(SOAK);
            world.steps(60);
            world
        },
    },
    Phase {
        what: "a wave is empty",
        reason: "WaveEmpty",
        kstatus: "InProgress",
        argo: "Suspended",
        way: || {
            let mut world = begun(CANARY);
            world.snapshot.nodes.remove("a");
            world.steps(10);
            world
        },
    },
    Phase {
        what: "no node is selected",
        reason: "NoNodesSelected",
        kstatus: "InProgress",
        argo: "Progressing",
        way: || {
            let mut world = begun(CANARY);
            world.snapshot.nodes.clear();
            world.steps(5);
            world
        },
    },
    Phase {
        what: "a person paused it",
        reason: "Paused",
        kstatus: "InProgress",
        argo: "Suspended",
        way: || {
            let mut world = begun(CANARY);
            world.steps(2);
            world.rollout("fix").control.state = ControlState::Paused;
            world.steps(10);
            world
        },
    },
    Phase {
        what: "all rollouts are frozen",
        reason: "Frozen",
        kstatus: "InProgress",
        argo: "Suspended",
        way: || {
            let mut world = begun(CANARY);
            world.snapshot.limits.frozen = Some("an incident".into());
            world.steps(5);
            world
        },
    },
    Phase {
        what: "nothing moved before the deadline",
        reason: "ProgressDeadlineExceeded",
        kstatus: "Failed",
        argo: "Degraded",
        way: || {
            let rollout = CANARY.replace("minReadySeconds", "progressDeadlineSeconds: 60, minReadySeconds");
            let mut world = begun(&rollout);
            world.answers.insert("a".into(), Answer::Loads(u32::MAX));
            world.steps(90);
            world
        },
    },
    Phase {
        what: "a person aborted it",
        reason: "Aborted",
        kstatus: "Failed",
        argo: "Degraded",
        way: || {
            let mut world = begun(CANARY);
            world.steps(2);
            world.rollout("fix").control.state = ControlState::Aborted;
            world.steps(10);
            world
        },
    },
    Phase {
        what: "the canary failed",
        reason: "Halted",
        kstatus: "Failed",
        argo: "Degraded",
        way: || {
            let mut world = begun(CANARY);
            world.answers.insert("a".into(), Answer::Refuses);
            world.steps(20);
            world
        },
    },
    Phase {
        what: "its nodes go back",
        reason: "RollingBack",
        kstatus: "InProgress",
        argo: "Progressing",
        way: || {
            let mut world = rolled_back(Answer::Loads(u32::MAX));
            world.steps(5);
            world
        },
    },
    Phase {
        what: "its nodes are back",
        reason: "RolledBack",
        kstatus: "Failed",
        argo: "Degraded",
        way: || {
            let mut world = rolled_back(Answer::Loads(1));
            world.steps(20);
            world
        },
    },
    Phase {
        what: "everything is in place",
        reason: "Complete",
        kstatus: "Current",
        argo: "Healthy",
        way: || {
            let mut world = begun(CANARY);
            world.steps(20);
            world
        },
    },
];

#[test]
fn helm_flux_and_argo_cd_judge_every_phase_rightly() {
    let mut worlds: Vec<World> = PHASES.iter().map(|phase| (phase.way)()).collect();
    let sets: Vec<Value> = worlds.iter_mut().map(set).collect();
    for (phase, (world, verdict)) in PHASES.iter().zip(worlds.iter_mut().zip(judge(&sets))) {
        assert_eq!(world.ready_reason("fix"), phase.reason, "{}", phase.what);
        assert_eq!(
            (&*verdict.kstatus, &*verdict.argo),
            (phase.kstatus, phase.argo),
            "{}",
            phase.what
        );
        assert!(
            verdict.argo_message.starts_with(phase.reason),
            "{}: {}",
            phase.what,
            verdict.argo_message
        );
    }
    let mut with_rollout: Vec<(&Phase, Value)> = Vec::new();
    for (phase, world) in PHASES.iter().zip(&mut worlds) {
        if !world.set("fix").rollouts.is_empty() {
            with_rollout.push((phase, rollout(world)));
        }
    }
    let rollouts: Vec<Value> = with_rollout.iter().map(|(_, object)| object.clone()).collect();
    for ((phase, _), verdict) in with_rollout.iter().zip(judge(&rollouts)) {
        assert_eq!(
            (&*verdict.kstatus, &*verdict.argo),
            (phase.kstatus, phase.argo),
            "rollout: {}",
            phase.what
        );
    }
}

#[test]
fn what_the_operator_has_not_seen_is_never_healthy() {
    let mut world = begun(CANARY);
    world.steps(20);
    let complete = set(&mut world);
    let mut edited = complete.clone();
    edited["metadata"]["generation"] = json!(2);
    let mut deleted = complete.clone();
    deleted["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    // As the API server gives it back, by the default of the definition.
    let fresh = object("LivepatchSet", 1, &json!({"observedGeneration": 0}));
    let verdicts = judge(&[complete, edited, deleted, fresh]);
    let said: Vec<(&str, &str)> = verdicts
        .iter()
        .map(|verdict| (&*verdict.kstatus, &*verdict.argo))
        .collect();
    assert_eq!(
        said,
        [
            ("Current", "Healthy"),
            ("InProgress", "Progressing"),
            ("Terminating", "Progressing"),
            ("InProgress", "Progressing"),
        ]
    );
}

/// The history of a set does not make the application that it is part of look bad.
#[test]
fn a_rollout_that_is_superseded_is_history() {
    let mut world = begun(CANARY);
    world.steps(20);
    world.set("fix").spec.template.source.oci.reference = format!("registry.example.com/next@sha256:{DIGEST}");
    world.steps(3);
    let former = &world.set("fix").rollouts[0];
    let former = object("LivepatchRollout", former.generation, &former.status);
    assert_eq!(judge(&[former])[0].argo, "Healthy");
}
