//! The rig itself: a control plane is a real one, its identities are told apart, and it leaves nothing behind.

use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Duration;

use livepatch_rig::control_plane::{ControlPlane, Options};
use livepatch_tests_api::Space;
use serde_json::json;

const NODE: &str = r#"{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "NAME"}}"#;

#[test]
fn a_control_plane_leaves_nothing_behind() {
    let plane = ControlPlane::start(Options {
        name: "leaves-nothing".to_owned(),
        ..Options::full()
    })
    .unwrap();
    plane.admin().run(&["create", "namespace", "here"]).unwrap();
    // Made by the controller manager, so it runs and may write.
    let account = ["--namespace=here", "serviceaccount", "default"];
    plane
        .admin()
        .wait("the default service account", &account, Duration::from_mins(1), |_| {
            Ok(())
        })
        .unwrap();

    let processes: Vec<PathBuf> = plane
        .process_ids()
        .iter()
        .map(|id| PathBuf::from(format!("/proc/{id}")))
        .collect();
    assert_eq!(processes.len(), 4);
    assert!(processes.iter().all(|process| process.exists()));
    let folder = plane.folder().path().to_owned();
    let port = plane.port();
    drop(plane);
    assert!(processes.iter().all(|process| !process.exists()));
    assert!(!folder.exists());
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
}

#[test]
fn an_api_server_comes_back_with_its_objects() {
    let plane = ControlPlane::start(Options {
        name: "comes-back".to_owned(),
        ..Options::api_only()
    })
    .unwrap();
    plane.admin().run(&["create", "namespace", "before"]).unwrap();
    plane.stop_apiserver(Duration::from_secs(10)).unwrap();
    assert!(plane.admin().run(&["get", "namespace", "before"]).is_err());
    plane.start_apiserver().unwrap();
    plane.admin().run(&["get", "namespace", "before"]).unwrap();
}

#[test]
fn a_node_may_touch_itself_and_no_other() {
    let space = Space::create("node-identity").unwrap();
    let (own, other) = (space.object("own"), space.object("other"));
    for node in [&own, &other] {
        space.plane().admin().create(&NODE.replace("NAME", node)).unwrap();
    }
    let kubelet = space.plane().node(&own).unwrap();
    let label = json!({"metadata": {"annotations": {"touched": "yes"}}});
    kubelet.patch(&["node", &own], &label).unwrap();
    let refusal = kubelet.patch(&["node", &other], &label).unwrap_err().to_string();
    assert!(refusal.contains("only its own Node object"), "{refusal}");
    let refusal = kubelet.refused(&["get", "secrets", "--namespace=kube-system"]).unwrap();
    assert!(refusal.contains("Forbidden"), "{refusal}");
}

#[test]
fn a_token_is_good_for_its_service_account_here_and_nowhere_else() {
    let space = Space::create("token").unwrap();
    let (plane, namespace) = (space.plane(), space.namespace());
    plane
        .admin()
        .run(&["create", "serviceaccount", "someone", "--namespace", namespace])
        .unwrap();
    let token = plane.token(namespace, "someone", None).unwrap();
    let someone = plane.with_token("someone", &token).unwrap();
    let told = someone.run(&["auth", "whoami", "--output=json"]).unwrap();
    assert!(
        told.contains(&format!("system:serviceaccount:{namespace}:someone")),
        "{told}"
    );

    let elsewhere = ControlPlane::start(Options {
        name: "elsewhere".to_owned(),
        ..Options::api_only()
    })
    .unwrap();
    let stranger = elsewhere.with_token("someone", &token).unwrap();
    let refusal = stranger.refused(&["auth", "whoami"]).unwrap();
    assert!(
        refusal.contains("Unauthorized") || refusal.contains("must be logged in"),
        "{refusal}"
    );
}
