//! API priority and fairness: whose requests wait in which queue, and that a fleet which comes back at once is not
//! refused.

use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use livepatch_rig::control_plane::{ControlPlane, Options};
use livepatch_rig::diagnostics::KeepOnPanic;
use livepatch_rig::http::Method;
use livepatch_rig::progress::{Waited, wait_for};
use serde_json::{Value, json};

use crate::installed::{Caller, GROUP, Installed, NAMESPACE, fresh, install};

/// Agents that ask at the same moment.
const AGENTS: usize = 800;

/// The name of the flow schema that a request went by, and of its priority level.
fn classified(installed: &Installed, caller: &Caller, method: Method, path: &str, body: &Value) -> (String, String) {
    let answer = caller.answer(method, path, "application/json", body);
    let name = |kind: &str, header: &str| {
        let uid = answer.header(header).unwrap();
        let objects = installed.plane().admin().get(&[kind]).unwrap();
        let object = objects["items"]
            .as_array()
            .unwrap()
            .iter()
            .find(|object| object["metadata"]["uid"] == uid);
        object.unwrap()["metadata"]["name"].as_str().unwrap().to_owned()
    };
    (
        name("flowschemas", "X-Kubernetes-PF-FlowSchema-UID"),
        name("prioritylevelconfigurations", "X-Kubernetes-PF-PriorityLevel-UID"),
    )
}

#[test]
fn operator_lease_and_agents_each_wait_in_a_place_of_their_own() {
    let installed = Installed::shared();
    let node = fresh("flow");
    installed.node(&node);
    let (operator, agent) = (installed.operator(), installed.agent(&node));
    let leases = format!("/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases");
    let lease = format!("{leases}/livepatch-operator");
    let nodes = format!("{GROUP}/nodelivepatches");
    let own = format!("{nodes}?fieldSelector=metadata.name%3D{node}");
    let new_lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": "livepatch-operator"}, "spec": {}});
    let at = |flow: &str, level: &str| (flow.to_owned(), level.to_owned());

    // The API server reads flow schemas by a watch of its own.
    wait_for("the flow schemas", Duration::from_mins(1), || {
        let found = [
            classified(&installed, &operator, Method::GET, &lease, &Value::Null),
            classified(&installed, &operator, Method::GET, &nodes, &Value::Null),
            classified(&installed, &agent, Method::GET, &own, &Value::Null),
        ];
        let wanted = ["livepatch-lease", "livepatch-operator", "livepatch-agent"];
        Ok(if found.iter().map(|(flow, _)| flow).eq(wanted) {
            Waited::Ready(())
        } else {
            Waited::NotYet(format!("{found:?}"))
        })
    })
    .unwrap();
    for (caller, method, path, body, place) in [
        (
            &operator,
            Method::POST,
            &leases,
            &new_lease,
            at("livepatch-lease", "leader-election"),
        ),
        (
            &operator,
            Method::PUT,
            &lease,
            &new_lease,
            at("livepatch-lease", "leader-election"),
        ),
        (
            &operator,
            Method::GET,
            &lease,
            &Value::Null,
            at("livepatch-lease", "leader-election"),
        ),
        (
            &operator,
            Method::GET,
            &nodes,
            &Value::Null,
            at("livepatch-operator", "livepatch-operator"),
        ),
        (
            &operator,
            Method::GET,
            &"/api/v1/nodes".to_owned(),
            &Value::Null,
            at("livepatch-operator", "livepatch-operator"),
        ),
        (
            &operator,
            Method::GET,
            &"/version".to_owned(),
            &Value::Null,
            at("livepatch-operator", "livepatch-operator"),
        ),
        (
            &agent,
            Method::GET,
            &own,
            &Value::Null,
            at("livepatch-agent", "livepatch-agent"),
        ),
        (
            &agent,
            Method::PATCH,
            &format!("{nodes}/{node}/status"),
            &json!({}),
            at("livepatch-agent", "livepatch-agent"),
        ),
        // An agent only reads the lease, and all of them do so before a grant: not where the leader renews it.
        (
            &agent,
            Method::GET,
            &lease,
            &Value::Null,
            at("livepatch-agent", "livepatch-agent"),
        ),
    ] {
        let what = format!("{method} {path}");
        assert_eq!(classified(&installed, caller, method, path, body), place, "{what}");
    }
    let (flow, _) = classified(&installed, &installed.admin(), Method::GET, &nodes, &Value::Null);
    assert!(!flow.starts_with("livepatch"), "{flow} takes the requests of others");
}

/// What an API server that may do twelve things at a time answers to the first request of every agent of a fleet.
#[test]
fn a_fleet_that_comes_back_at_once_is_not_refused() {
    let plane = ControlPlane::start(Options {
        name: "flow".to_owned(),
        apiserver_flags: ["--max-requests-inflight=8", "--max-mutating-requests-inflight=4"]
            .map(str::to_owned)
            .into(),
        controllers: true,
        ..Options::api_only()
    })
    .unwrap();
    let _keep = KeepOnPanic(&plane);
    install(&plane);
    let kubectl = plane.admin();
    // The same rights, but not the chart's account: it waits where Kubernetes lets all accounts wait.
    kubectl
        .run(&["create", "serviceaccount", "other", "--namespace=default"])
        .unwrap();
    kubectl
        .run(&[
            "create",
            "clusterrolebinding",
            "other",
            "--clusterrole=livepatch-agent",
            "--serviceaccount=default:other",
        ])
        .unwrap();

    let other = answers(&plane, &plane.token("default", "other", None).unwrap());
    let agents = answers(&plane, &plane.token(NAMESPACE, "livepatch-agent", None).unwrap());
    let refused = |codes: &[u16]| codes.iter().filter(|code| **code == 429).count();
    println!(
        "refused of {AGENTS}: {} without the chart's flow schema, {} with it",
        refused(&other),
        refused(&agents)
    );
    assert!(refused(&other) > 0, "this load would be no test");
    assert!(agents.iter().all(|code| *code == 200), "{agents:?}");
}

/// The HTTP statuses that [`AGENTS`] get who are connected and ask for their object in the same moment.
fn answers(plane: &ControlPlane, token: &str) -> Vec<u16> {
    let start = Arc::new(Barrier::new(AGENTS));
    let agents: Vec<_> = (0..AGENTS)
        .map(|number| {
            let (start, agent) = (Arc::clone(&start), Caller::new(plane, token));
            let ask = move || {
                agent.answer(Method::GET, "/version", "", &Value::Null);
                start.wait();
                let path = format!("{GROUP}/nodelivepatches?fieldSelector=metadata.name%3Dnode-{number}");
                agent.answer(Method::GET, &path, "", &Value::Null).status
            };
            thread::Builder::new().stack_size(256 << 10).spawn(ask).unwrap()
        })
        .collect();
    agents.into_iter().map(|agent| agent.join().unwrap()).collect()
}
