//! The rig itself: a control plane is a real one, its identities are told apart, and it leaves nothing behind.

use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;
use std::{env, fs, thread};

use livepatch_rig::control_plane::{ControlPlane, Options};
use livepatch_rig::helm::Helm;
use livepatch_rig::progress::{Waited, wait_for};
use livepatch_tests_api::Space;
use serde_json::{Value, json};

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

/// Set in the environment of the process that is to be killed.
const VICTIM: &str = "LIVEPATCH_RIG_VICTIM";

#[test]
fn a_test_process_that_is_killed_leaves_nothing_behind() {
    if env::var_os(VICTIM).is_some() {
        let plane = ControlPlane::start(Options {
            name: "victim".to_owned(),
            ..Options::full()
        })
        .unwrap();
        let state = json!({ "processes": plane.process_ids(), "folder": plane.folder().path() });
        println!("\n{VICTIM}{state}");
        thread::sleep(Duration::from_mins(1));
        return;
    }
    let own_name = thread::current().name().unwrap().to_owned();
    let mut victim = Command::new(env::current_exe().unwrap())
        .args(["--exact", &own_name, "--nocapture"])
        .env(VICTIM, "yes")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(victim.stdout.take().unwrap()).lines();
    let state = lines
        .map(Result::unwrap)
        .find_map(|line| line.strip_prefix(VICTIM).map(str::to_owned))
        .unwrap();
    let state: Value = serde_json::from_str(&state).unwrap();
    victim.kill().unwrap();
    victim.wait().unwrap();

    let folder = PathBuf::from(state["folder"].as_str().unwrap());
    let processes = state["processes"].as_array().unwrap();
    assert_eq!(processes.len(), 4);
    wait_for("its processes and its folder to go", Duration::from_secs(20), || {
        let running: Vec<&Value> = processes.iter().filter(|id| is_running(id)).collect();
        Ok(if running.is_empty() && !folder.exists() {
            Waited::Ready(())
        } else {
            Waited::NotYet(format!("running: {running:?}, folder there: {}", folder.exists()))
        })
    })
    .unwrap();
}

/// A zombie does not run: whoever adopted it has not looked yet.
fn is_running(id: &Value) -> bool {
    let status = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    status.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

#[test]
fn requests_can_be_counted() {
    let options = Options {
        name: "counted".to_owned(),
        audit: true,
        ..Options::api_only()
    };
    let plane = ControlPlane::start(options).unwrap();
    plane.admin().run(&["create", "namespace", "counted"]).unwrap();
    let writes = || {
        let requests = plane.requests().unwrap();
        requests
            .iter()
            .filter(|one| one["verb"] == "create" && one["objectRef"]["name"] == "counted")
            .map(|one| one["user"]["username"].clone())
            .collect::<Vec<_>>()
    };
    wait_for("the audit log", Duration::from_secs(10), || {
        Ok(if writes().is_empty() {
            Waited::NotYet("nothing".to_owned())
        } else {
            Waited::Ready(())
        })
    })
    .unwrap();
    assert_eq!(writes(), ["admin"]);
}

#[test]
fn helm_installs_and_uninstalls_a_chart() {
    let space = Space::create("helm").unwrap();
    let (admin, namespace) = (space.plane().admin(), space.namespace());
    let chart = space.plane().folder().subfolder("chart/templates").unwrap();
    let chart = chart.parent().unwrap();
    fs::write(chart.join("Chart.yaml"), "{apiVersion: v2, name: tiny, version: 0.0.1}").unwrap();
    let template = "{apiVersion: v1, kind: ConfigMap, metadata: {name: tiny}, data: {said: {{ .Values.say | quote }}}}";
    fs::write(chart.join("templates/map.yaml"), template).unwrap();

    let helm = Helm::new(admin).unwrap();
    let map = ["--namespace", namespace, "configmap", "tiny"];
    for word in ["first", "second"] {
        let values = json!({ "say": word }).to_string();
        assert!(helm.template("tiny", chart, namespace, &values).unwrap().contains(word));
        helm.upgrade_install("tiny", chart, namespace, &values, Some(Duration::from_mins(1)))
            .unwrap();
        assert_eq!(admin.get(&map).unwrap()["data"]["said"], word);
    }
    helm.uninstall("tiny", namespace).unwrap();
    assert!(admin.find(&map).unwrap().is_none());
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
