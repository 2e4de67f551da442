//! The chart: what Helm refuses to install, what a server accepts of it, and what stays when it goes.

use std::fs;
use std::path::Path;
use std::process::Command;

use livepatch_rig::control_plane::{ControlPlane, Options};
use livepatch_rig::helm::Helm;
use livepatch_rig::progress::run;
use livepatch_tests_api::Space;
use serde_json::{Value, json};

use crate::installed::{DIGEST, NAMESPACE, chart, set, values};

fn helm(space: &Space) -> Helm {
    Helm::new(space.plane().admin()).unwrap()
}

/// Values with everything switched on that a bare cluster can take.
fn everything() -> Value {
    let mut values = values();
    values["registry"] = json!({
        "dockerConfigSecret": "credentials",
        "caBundle": {"configMap": "authorities", "key": "bundle.pem"},
        "mirrors": [{"prefix": "registry.example.com", "endpoint": "http://10.0.2.2:5000"}],
    });
    values["imagePullSecrets"] = json!(["pull"]);
    values["metrics"] = json!({"dashboard": {"enabled": true, "annotations": {"grafana_folder": "Kernel"}}});
    values["networkPolicy"] = json!({"enabled": true, "from": [{"namespaceSelector": {}}]});
    for component in ["operator", "agent"] {
        values[component]["env"] = json!([{"name": "HTTPS_PROXY", "value": "http://proxy.example.com:3128"}]);
        values[component]["podLabels"] = json!({"team": "platform"});
        values[component]["podAnnotations"] = json!({"team": "platform"});
        values[component]["affinity"] = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{"matchExpressions": [{"key": "a", "operator": "Exists"}]}]}}});
    }
    values["agent"]["seLinuxOptions"] = json!({"type": "spc_t"});
    values["agent"]["appArmorProfile"] = json!("");
    values
}

/// The objects of `helm template`, parsed by kubectl.
fn rendered(space: &Space, values: &Value) -> Vec<Value> {
    let manifests = helm(space)
        .template("livepatch-operator", &chart(), space.namespace(), &values.to_string())
        .unwrap();
    let file = space
        .plane()
        .folder()
        .path()
        .join(format!("{}.yaml", space.namespace()));
    fs::write(&file, manifests).unwrap();
    let file = format!("--filename={}", file.display());
    let printed = space
        .plane()
        .admin()
        .run(&["create", "--dry-run=client", "--validate=false", "--output=json", &file])
        .unwrap();
    serde_json::Deserializer::from_str(&printed)
        .into_iter()
        .map(Result::unwrap)
        .collect()
}

fn one<'objects>(objects: &'objects [Value], kind: &str, name: &str) -> &'objects Value {
    objects
        .iter()
        .find(|object| object["kind"] == kind && object["metadata"]["name"] == name)
        .unwrap_or_else(|| panic!("no {kind} {name}"))
}

#[test]
fn helm_finds_nothing_to_complain_of() {
    let space = Space::create("lint").unwrap();
    for (name, values) in [("least", values()), ("everything", everything())] {
        let file = space.plane().folder().path().join(format!("values-{name}.json"));
        fs::write(&file, values.to_string()).unwrap();
        let file = format!("--values={}", file.display());
        helm(&space)
            .run(&["lint", "--strict", &chart().to_string_lossy(), &file])
            .unwrap();
    }
}

#[test]
fn values_that_would_install_something_unsafe_or_senseless_are_refused() {
    let space = Space::create("values").unwrap();
    let helm = helm(&space);
    let template = |values: &Value| helm.template("livepatch-operator", &chart(), NAMESPACE, &values.to_string());
    template(&values()).unwrap();
    let changed = |pointer: &str, value: Value| {
        let mut values = values();
        let at = pointer.split('.').fold(&mut values, |at, key| &mut at[key]);
        *at = value;
        values
    };
    let mut tag_only = values();
    tag_only["operator"]["image"] = json!({"repository": "registry.example.com/operator", "tag": "v1"});
    for (what, values, message) in [
        (
            "nothing at all",
            json!({}),
            "/allowedRepositories': minItems: got 0, want 1",
        ),
        (
            "no allowed repository",
            changed("allowedRepositories", json!([])),
            "/allowedRepositories': minItems: got 0, want 1",
        ),
        (
            "every repository",
            changed("allowedRepositories", json!([""])),
            "/allowedRepositories/0",
        ),
        (
            "every repository, as a pattern",
            changed("allowedRepositories", json!(["*"])),
            "/allowedRepositories/0",
        ),
        (
            "a tag and no digest",
            tag_only,
            "/operator/image': additional properties 'tag' not allowed",
        ),
        (
            "a tag for a digest",
            changed("agent.image.digest", json!("v1")),
            "/agent/image/digest': 'v1' does not match",
        ),
        (
            "a tag in the repository",
            changed("agent.image.repository", json!("r.example.com/a:v1")),
            "/agent/image/repository",
        ),
        (
            "a misspelt value",
            changed("allowedRepository", json!(["r.example.com"])),
            "additional properties 'allowedRepository'",
        ),
        (
            "a misspelt value below",
            changed("agent.toleration", json!([])),
            "additional properties 'toleration'",
        ),
        (
            "a mirror without a scheme",
            changed("registry", json!({"mirrors": [{"prefix": "a", "endpoint": "b"}]})),
            "/registry/mirrors/0/endpoint",
        ),
        (
            "a password in a mirror",
            changed(
                "registry",
                json!({"mirrors": [{"prefix": "a", "endpoint": "https://u:p@b"}]}),
            ),
            "/registry/mirrors/0/endpoint",
        ),
        (
            "no agent at a time",
            changed("agent.maxUnavailable", json!("0%")),
            "/agent/maxUnavailable",
        ),
        (
            "a lifetime that is extended to a year",
            changed("agent.tokenExpirationSeconds", json!(3607)),
            "/agent/tokenExpirationSeconds",
        ),
        (
            "another name of the node",
            changed("agent.env", json!([{"name": "NODE_NAME", "value": "other"}])),
            "/agent/env/0/name",
        ),
    ] {
        let refusal = match template(&values) {
            Ok(_) => panic!("{what} was not refused"),
            Err(refusal) => format!("{refusal:#}"),
        };
        assert!(refusal.contains(message), "{what}: {refusal}");
    }
}

#[test]
fn a_server_accepts_everything_that_is_rendered() {
    let space = Space::create("rendered").unwrap();
    for values in [values(), everything()] {
        let manifests = helm(&space)
            .template("livepatch-operator", &chart(), space.namespace(), &values.to_string())
            .unwrap();
        let file = space
            .plane()
            .folder()
            .path()
            .join(format!("{}-all.yaml", space.namespace()));
        fs::write(&file, manifests).unwrap();
        let file = format!("--filename={}", file.display());
        space
            .plane()
            .admin()
            .run(&["apply", "--dry-run=server", "--server-side", "--validate=strict", &file])
            .unwrap();
    }
}

/// Every word of this was tried on kernels 6.1 and 6.12: more is not needed, less does not do.
#[test]
fn the_agent_is_not_privileged() {
    let space = Space::create("agent").unwrap();
    let objects = rendered(&space, &values());
    let pod = &one(&objects, "DaemonSet", "livepatch-agent")["spec"]["template"]["spec"];
    assert_eq!(
        pod["containers"][0]["securityContext"],
        json!({
            "privileged": false, "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "runAsUser": 0,
            "capabilities": {"drop": ["ALL"], "add": ["SYS_MODULE", "DAC_READ_SEARCH", "SYSLOG"]},
            "seccompProfile": {"type": "RuntimeDefault"}, "appArmorProfile": {"type": "RuntimeDefault"},
        })
    );
    assert_eq!(pod["containers"].as_array().unwrap().len(), 1);
    assert_eq!(pod["hostPID"], false);
    assert_eq!(pod["hostNetwork"], false);
    assert_eq!(pod["automountServiceAccountToken"], false);
    assert_eq!(pod["tolerations"], json!([{"operator": "Exists"}]));
    let host: Vec<(&str, &str)> = pod["volumes"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|volume| Some((volume["name"].as_str()?, volume["hostPath"]["path"].as_str()?)))
        .collect();
    assert_eq!(
        host,
        [
            ("livepatch", "/sys/kernel/livepatch"),
            ("proc", "/proc"),
            ("state", "/var/lib/livepatch"),
            ("config", "/etc/livepatch"),
            ("modules", "/lib/modules"),
        ]
    );
    let writable: Vec<&str> = pod["containers"][0]["volumeMounts"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|mount| mount["readOnly"] != true)
        .map(|mount| mount["name"].as_str().unwrap())
        .collect();
    assert_eq!(writable, ["livepatch", "state"]);
}

#[test]
fn the_operator_meets_the_restricted_pod_security_standard() {
    let space = Space::create("operator").unwrap();
    let kubectl = space.plane().admin();
    let namespace = space.namespace();
    kubectl
        .run(&[
            "label",
            "namespace",
            namespace,
            "pod-security.kubernetes.io/enforce=restricted",
        ])
        .unwrap();
    for account in ["livepatch-operator", "livepatch-agent"] {
        kubectl
            .run(&["create", "serviceaccount", account, "--namespace", namespace])
            .unwrap();
    }
    let objects = rendered(&space, &values());
    let template = &one(&objects, "Deployment", "livepatch-operator")["spec"]["template"];
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "spec": template["spec"]});
    pod["metadata"] = json!({"name": "operator", "namespace": namespace});
    kubectl.create(&pod.to_string()).unwrap();
    let template = &one(&objects, "DaemonSet", "livepatch-agent")["spec"]["template"];
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "spec": template["spec"]});
    pod["metadata"] = json!({"name": "agent", "namespace": namespace});
    // The agent does not, and its namespace has to say so.
    let refusal = format!("{:#}", kubectl.create(&pod.to_string()).unwrap_err());
    assert!(refusal.contains("violates PodSecurity"), "{refusal}");
}

#[test]
fn the_configuration_of_registries_reaches_both_read_only() {
    let space = Space::create("registry").unwrap();
    let objects = rendered(&space, &everything());
    for (kind, name) in [("Deployment", "livepatch-operator"), ("DaemonSet", "livepatch-agent")] {
        let pod = &one(&objects, kind, name)["spec"]["template"]["spec"];
        let volumes = pod["volumes"].as_array().unwrap();
        let volume = volumes.iter().find(|volume| volume["name"] == "registry").unwrap();
        let files: Vec<&str> = volume["projected"]["sources"]
            .as_array()
            .unwrap()
            .iter()
            .map(|source| {
                let source = if source["secret"].is_object() {
                    &source["secret"]
                } else {
                    &source["configMap"]
                };
                source["items"][0]["path"].as_str().unwrap()
            })
            .collect();
        assert_eq!(files, ["mirrors.yaml", "config.json", "ca.crt"]);
        let mounts = pod["containers"][0]["volumeMounts"].as_array().unwrap();
        let mount = mounts.iter().find(|mount| mount["name"] == "registry").unwrap();
        assert_eq!(
            (&mount["readOnly"], &mount["mountPath"]),
            (&json!(true), &json!("/etc/livepatch-registry"))
        );
        let arguments = pod["containers"][0]["args"].as_array().unwrap();
        assert!(
            arguments.contains(&json!("--allowed-repository=registry.example.com/livepatches")),
            "{arguments:?}"
        );
        let image = pod["containers"][0]["image"].as_str().unwrap();
        assert!(image.ends_with(&format!("@{DIGEST}")), "{image}");
    }
    let mirrors = one(&objects, "ConfigMap", "livepatch-registry")["data"]["mirrors.yaml"]
        .as_str()
        .unwrap();
    assert_eq!(
        mirrors.trim(),
        "- endpoint: http://10.0.2.2:5000\n  prefix: registry.example.com"
    );
}

/// In both files there is text that Helm would take for a template.
#[test]
fn alerts_and_dashboard_are_rendered_as_they_are() {
    let space = Space::create("watching").unwrap();
    let objects = rendered(&space, &everything());
    let dashboard = one(&objects, "ConfigMap", "livepatch-dashboard");
    let file = |name: &str| fs::read_to_string(chart().join("files").join(name)).unwrap();
    assert_eq!(dashboard["metadata"]["labels"]["grafana_dashboard"], "1");
    assert_eq!(
        dashboard["data"]["livepatch.json"].as_str().unwrap().trim(),
        file("dashboard.json").trim()
    );

    let mut values = values();
    values["metrics"] = json!({"prometheusRule": {"enabled": true, "labels": {"release": "monitoring"}}});
    let path = space.plane().folder().path().join("values-alerts.json");
    fs::write(&path, values.to_string()).unwrap();
    let printed = helm(&space)
        .run(&[
            "template",
            "livepatch-operator",
            &chart().to_string_lossy(),
            &format!("--values={}", path.display()),
            "--show-only=templates/prometheus-rule.yaml",
        ])
        .unwrap();
    let rule: Value = serde_saphyr::from_str(&printed).unwrap();
    let rules: Value = serde_saphyr::from_str(&file("alerts.yaml")).unwrap();
    assert_eq!((&rule["kind"], &rule["spec"]), (&json!("PrometheusRule"), &rules));
    assert_eq!(rule["metadata"]["labels"]["release"], "monitoring");
}

#[test]
fn definitions_and_objects_outlive_the_release_and_meet_the_next_one() {
    let plane = ControlPlane::start(Options {
        name: "outlive".to_owned(),
        ..Options::api_only()
    })
    .unwrap();
    // A chart of before: one short name was another.
    let former = plane.folder().path().join("former");
    run(Command::new("cp").arg("--recursive").args([&chart(), &former])).unwrap();
    let definition = former.join("templates/crds/livepatchsets.yaml");
    let text = fs::read_to_string(&definition).unwrap();
    fs::write(&definition, text.replace("- lps\n", "- former\n")).unwrap();

    let helm = Helm::new(plane.admin()).unwrap();
    let install = |chart: &Path| {
        helm.upgrade_install("livepatch-operator", chart, NAMESPACE, &values().to_string(), None)
            .unwrap()
    };
    install(&former);
    plane.admin().create(&set("kept").to_string()).unwrap();
    let short_names = || {
        let crd = plane.admin().get(&["crd", "livepatchsets.livepatch.dev"]).unwrap();
        crd["spec"]["names"]["shortNames"].clone()
    };
    assert_eq!(short_names(), json!(["former"]));
    install(&chart());
    assert_eq!(short_names(), json!(["lps"]));

    helm.uninstall("livepatch-operator", NAMESPACE).unwrap();
    plane.admin().get(&["livepatchset", "kept"]).unwrap();
    let kinds = "deployments,daemonsets,configmaps,serviceaccounts,clusterroles,clusterrolebindings,\
                 validatingadmissionpolicies,validatingadmissionpolicybindings";
    let left = plane
        .admin()
        .run(&["get", kinds, "--all-namespaces", "--output=name"])
        .unwrap();
    assert!(!left.contains("livepatch-"), "{left}");
    install(&chart());
    plane.admin().get(&["livepatchset", "kept"]).unwrap();
}
