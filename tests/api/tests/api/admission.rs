//! Who may write what: the admission policies and roles of the chart, asked by a real API server's callers.

use std::time::Duration;

use livepatch_rig::http::Method;
use livepatch_rig::progress::{Waited, wait_for};
use serde_json::{Value, json};

use crate::installed::{GROUP, Installed, fresh, grant, node_livepatch, refused_by, rollout, set};

const NODE_SPEC: &str = "livepatch-node-spec";
const ROLLOUT_CONTROL: &str = "livepatch-rollout-control";

#[test]
fn the_policies_are_there_fail_closed_and_the_server_understands_them() {
    let cluster = Installed::shared();
    for name in ["livepatch-node-status", NODE_SPEC, ROLLOUT_CONTROL] {
        let kubectl = cluster.plane().admin();
        // The controller writes what its type check found when it has looked at the policy.
        let policy = kubectl
            .wait(
                &format!("the type check of {name}"),
                &["validatingadmissionpolicy", name],
                Duration::from_mins(1),
                |policy| match &policy["status"]["typeChecking"] {
                    Value::Null => Err(policy["status"].to_string()),
                    _ => Ok(()),
                },
            )
            .unwrap();
        assert_eq!(policy["status"]["typeChecking"], json!({}), "warnings of {name}");
        assert_eq!(policy["spec"]["failurePolicy"], "Fail");
        assert_eq!(policy["spec"]["matchConstraints"]["matchPolicy"], "Equivalent");
        let binding = kubectl.get(&["validatingadmissionpolicybinding", name]).unwrap();
        assert_eq!(
            binding["spec"],
            json!({"policyName": name, "validationActions": ["Deny"]})
        );
    }
}

#[test]
fn nobody_but_the_operator_makes_a_node_livepatch() {
    let cluster = Installed::shared();
    let (admin, name) = (cluster.admin(), fresh("made"));
    let object = node_livepatch(&name, "uid");
    let message = "a NodeLivepatch is made by the operator only";
    admin.forbidden(Method::POST, "nodelivepatches", &object, NODE_SPEC, message);
    // A server-side apply creates what is not there, although it is a PATCH.
    let refusal = admin
        .apply(&format!("{GROUP}/nodelivepatches/{name}"), &object)
        .unwrap_err();
    refused_by(&refusal, NODE_SPEC, message);
    // And so it is for those whom RBAC asks nothing.
    let refusal = cluster.plane().admin().create(&object.to_string()).unwrap_err();
    assert!(format!("{refusal:#}").contains(message), "{refusal:#}");
    cluster.operator().accepted(Method::POST, "nodelivepatches", &object);
}

#[test]
fn nobody_but_the_operator_grants_a_livepatch() {
    let cluster = Installed::shared();
    let (admin, operator) = (cluster.admin(), cluster.operator());
    let name = fresh("granted");
    operator.accepted(Method::POST, "nodelivepatches", &node_livepatch(&name, "uid"));
    let path = format!("nodelivepatches/{name}");
    let grants = json!({"spec": {"livepatches": [grant()]}});
    let message = "the spec of a NodeLivepatch is written by the operator only";
    admin.forbidden(Method::PATCH, &path, &grants, NODE_SPEC, message);
    admin.forbidden(
        Method::PATCH,
        &path,
        &json!({"spec": {"hold": "mine"}}),
        NODE_SPEC,
        message,
    );
    let mut whole = operator.get(&path);
    whole["spec"]["livepatches"] = json!([grant()]);
    admin.forbidden(Method::PUT, &path, &whole, NODE_SPEC, message);
    let mut applied = node_livepatch(&name, "uid");
    applied["spec"]["livepatches"] = json!([grant()]);
    let refusal = admin.apply(&format!("{GROUP}/{path}"), &applied).unwrap_err();
    refused_by(&refusal, NODE_SPEC, message);
    // The status is no way around.
    let told = admin.accepted(
        Method::PATCH,
        &format!("{path}/status"),
        &json!({"spec": {"livepatches": [grant()]}, "status": {"loadedCount": 1}}),
    );
    assert_eq!(told["spec"], json!({"nodeUID": "uid"}));

    operator.accepted(Method::PATCH, &path, &grants);
    // To take a grant away is a change as well.
    admin.forbidden(
        Method::PATCH,
        &path,
        &json!({"spec": {"livepatches": null}}),
        NODE_SPEC,
        message,
    );
    // What else an administrator does to an object stays possible.
    admin.accepted(
        Method::PATCH,
        &path,
        &json!({"metadata": {"annotations": {"seen": "yes"}, "labels": {"a": "b"}}}),
    );
    cluster.plane().admin().run(&["delete", "nlp", &name]).unwrap();
}

#[test]
fn the_operator_does_what_it_needs_and_no_more() {
    let cluster = Installed::shared();
    let operator = cluster.operator();
    let name = fresh("operator");
    cluster.admin().accepted(Method::POST, "livepatchsets", &set(&name));
    let status = json!({"status": {"observedGeneration": 1}});
    operator.accepted(Method::PATCH, &format!("livepatchsets/{name}/status"), &status);
    operator.accepted(Method::POST, "livepatchrollouts", &rollout(&name));
    operator.accepted(Method::PATCH, &format!("livepatchrollouts/{name}/status"), &status);
    operator.accepted(Method::DELETE, &format!("livepatchrollouts/{name}"), &Value::Null);
    operator.accepted(Method::POST, "nodelivepatches", &node_livepatch(&name, "uid"));
    operator.accepted(
        Method::PATCH,
        &format!("nodelivepatches/{name}"),
        &json!({"spec": {"hold": "x"}}),
    );
    operator.accepted(Method::DELETE, &format!("nodelivepatches/{name}"), &Value::Null);

    let policies = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies";
    let bindings = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings";
    let lease =
        json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "livepatch-operator"}});
    let leases = "/apis/coordination.k8s.io/v1/namespaces/livepatch-system/leases";
    let config_maps = "/api/v1/namespaces/livepatch-system/configmaps";
    let event = json!({
        "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"generateName": "a"}, "type": "Normal",
        "eventTime": "2026-01-02T03:04:05.000000Z", "reason": "Granted", "action": "Grant",
        "reportingController": "livepatch-operator", "reportingInstance": "a",
        "regarding": {"apiVersion": "livepatch.dev/v1alpha1", "kind": "LivepatchSet", "name": name},
    });
    for (method, path, body) in [
        (Method::GET, "/api/v1/nodes".to_owned(), Value::Null),
        (Method::GET, format!("{policies}/{NODE_SPEC}"), Value::Null),
        (Method::GET, format!("{bindings}/{NODE_SPEC}"), Value::Null),
        (
            Method::GET,
            format!("{config_maps}/livepatch-operator-limits"),
            Value::Null,
        ),
        (Method::POST, format!("{leases}?dryRun=All"), lease),
        (
            Method::POST,
            "/apis/events.k8s.io/v1/namespaces/default/events".to_owned(),
            event,
        ),
    ] {
        operator
            .send(method, &path, &body)
            .unwrap_or_else(|refusal| panic!("{path}: {refusal:?}"));
    }

    let spec = json!({"spec": {"rollout": {"maxConcurrent": 1}}});
    for (method, path, body) in [
        (Method::PATCH, format!("{GROUP}/livepatchsets/{name}"), spec),
        (Method::DELETE, format!("{GROUP}/livepatchsets/{name}"), Value::Null),
        (Method::PATCH, format!("{GROUP}/livepatchrollouts/{name}"), json!({})),
        (Method::PATCH, format!("{GROUP}/nodelivepatches/{name}/status"), status),
        (Method::PATCH, "/api/v1/nodes/any".to_owned(), json!({})),
        (Method::GET, "/api/v1/pods".to_owned(), Value::Null),
        (
            Method::GET,
            "/api/v1/namespaces/livepatch-system/secrets".to_owned(),
            Value::Null,
        ),
        (Method::GET, policies.to_owned(), Value::Null),
        (Method::GET, leases.to_owned(), Value::Null),
        (Method::GET, config_maps.to_owned(), Value::Null),
        (Method::GET, format!("{config_maps}/another"), Value::Null),
        (
            Method::PATCH,
            format!("{config_maps}/livepatch-operator-limits"),
            json!({}),
        ),
        (Method::GET, format!("{leases}/another"), Value::Null),
        (
            Method::POST,
            "/api/v1/namespaces/livepatch-system/pods".to_owned(),
            json!({}),
        ),
        (
            Method::POST,
            "/api/v1/namespaces/livepatch-system/serviceaccounts/livepatch-agent/token".to_owned(),
            json!({}),
        ),
    ] {
        let refusal = operator.send(method.clone(), &path, &body).unwrap_err();
        assert_eq!(refusal.code, 403, "{method} {path}: {refusal:?}");
        assert!(refusal.message.contains("cannot"), "not by RBAC: {refusal:?}");
    }
}

#[test]
fn nobody_but_the_operator_makes_a_rollout() {
    let cluster = Installed::shared();
    let (admin, name) = (cluster.admin(), fresh("made"));
    let message = "a LivepatchRollout is made by the operator only";
    admin.forbidden(
        Method::POST,
        "livepatchrollouts",
        &rollout(&name),
        ROLLOUT_CONTROL,
        message,
    );
    let path = format!("{GROUP}/livepatchrollouts/{name}");
    let refusal = admin.apply(&path, &rollout(&name)).unwrap_err();
    refused_by(&refusal, ROLLOUT_CONTROL, message);
}

#[test]
fn people_change_the_control_of_a_rollout_and_nothing_else_of_it() {
    let cluster = Installed::shared();
    let operator = cluster.operator();
    let name = fresh("controlled");
    operator.accepted(Method::POST, "livepatchrollouts", &rollout(&name));
    let path = format!("livepatchrollouts/{name}");
    for person in [cluster.admin(), cluster.person("livepatch-promote")] {
        let control = json!({"spec": {"control": {"state": "Paused", "promotedThrough": "canary"}}});
        person.accepted(Method::PATCH, &path, &control);
        let whole = person.get(&path);
        person.accepted(Method::PUT, &path, &whole);
        let applied = json!({
            "apiVersion": "livepatch.dev/v1alpha1", "kind": "LivepatchRollout", "metadata": {"name": name},
            "spec": {"control": {"state": "Run"}},
        });
        // A server-side apply says only what it means; setUID and template are there already.
        person.apply(&format!("{GROUP}/{path}"), &applied).unwrap();
        person.accepted(
            Method::PATCH,
            &path,
            &json!({"metadata": {"annotations": {"why": "tested"}}}),
        );

        let mut template = rollout(&name)["spec"]["template"].clone();
        template["source"]["oci"]["reference"] = json!(format!("evil.example.com/a@sha256:{}", "b".repeat(64)));
        for patch in [
            json!({"spec": {"template": template}}),
            json!({"spec": {"setUID": "5678"}}),
        ] {
            // The definition is asked before any policy.
            let refusal = person.refused(Method::PATCH, &path, &patch);
            assert!(refusal.message.contains("is immutable"), "{refusal:?}");
        }
        let metadata = "labels, finalizers and owner references of a LivepatchRollout are the operator's";
        for patch in [
            json!({"labels": {"livepatch.dev/set": "another"}}),
            json!({"labels": null}),
            json!({"finalizers": ["example.com/never"]}),
            json!({"ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "gone", "uid": "gone"}]}),
        ] {
            person.forbidden(
                Method::PATCH,
                &path,
                &json!({"metadata": patch}),
                ROLLOUT_CONTROL,
                metadata,
            );
        }
    }
    let mut template = rollout(&name)["spec"]["template"].clone();
    template["source"]["oci"]["reference"] = json!(format!("evil.example.com/a@sha256:{}", "b".repeat(64)));
    for subresource in ["", "/status"] {
        let whole = json!({"spec": {"template": template}});
        let _ = cluster
            .admin()
            .send(Method::PATCH, &format!("{GROUP}/{path}{subresource}"), &whole);
    }
    assert_eq!(
        operator.get(&path)["spec"]["template"],
        rollout(&name)["spec"]["template"]
    );
}

#[test]
fn each_role_for_people_gives_what_its_name_says() {
    let cluster = Installed::shared();
    let name = fresh("roles");
    cluster.admin().accepted(Method::POST, "livepatchsets", &set(&name));
    cluster
        .operator()
        .accepted(Method::POST, "livepatchrollouts", &rollout(&name));
    // view is Kubernetes' own role: the chart's is aggregated into it, by a controller.
    let viewer = cluster.person("view");
    wait_for("the role view to show sets", Duration::from_mins(1), || {
        let told = viewer.send(Method::GET, &format!("{GROUP}/livepatchsets"), &Value::Null);
        Ok(told.map_or_else(|refusal| Waited::NotYet(refusal.message), |_| Waited::Ready(())))
    })
    .unwrap();
    let (editor, promoter) = (cluster.person("livepatch-edit"), cluster.person("livepatch-promote"));
    let pause = json!({"spec": {"control": {"state": "Paused"}}});
    let spec = json!({"spec": {"rollout": {"maxConcurrent": 2}}});
    let (one_set, one_rollout) = (format!("livepatchsets/{name}"), format!("livepatchrollouts/{name}"));
    let another = set(&fresh("roles"));
    for (who, caller, may) in [
        ("view", &viewer, [false, false, false]),
        ("edit", &editor, [true, false, false]),
        ("promote", &promoter, [false, true, false]),
    ] {
        for object in [one_set.as_str(), one_rollout.as_str(), "nodelivepatches"] {
            caller.get(object);
        }
        let [sets, control, others] = may;
        for (method, path, body, allowed) in [
            (Method::PATCH, one_set.as_str(), &spec, sets),
            (Method::POST, "livepatchsets", &another, sets),
            (Method::PATCH, &one_rollout, &pause, control),
            (Method::DELETE, &one_rollout, &Value::Null, others),
            (Method::POST, "livepatchrollouts", &rollout("x"), others),
            (Method::PATCH, &format!("{one_set}/status"), &json!({}), others),
            (Method::PATCH, &format!("{one_rollout}/status"), &json!({}), others),
            (Method::POST, "nodelivepatches", &node_livepatch("x", "x"), others),
        ] {
            let told = caller.send(method.clone(), &format!("{GROUP}/{path}"), body);
            assert_eq!(told.is_ok(), allowed, "{who}: {method} {path}: {told:?}");
        }
    }
}

#[test]
fn the_garbage_collector_is_not_held_up() {
    let cluster = Installed::shared();
    let (admin, operator, kubectl) = (cluster.admin(), cluster.operator(), cluster.plane().admin());
    let gone = |kind: &str, name: &str| {
        wait_for(&format!("{kind} {name} to go"), Duration::from_mins(1), || {
            Ok(kubectl.find(&[kind, name])?.map_or(Waited::Ready(()), |object| {
                Waited::NotYet(object["metadata"].to_string())
            }))
        })
        .unwrap();
    };
    let owned = |cascade: &str| {
        let name = fresh("collected");
        let made = admin.accepted(Method::POST, "livepatchsets", &set(&name));
        let mut object = rollout(&name);
        object["metadata"]["ownerReferences"] = json!([{
            "apiVersion": "livepatch.dev/v1alpha1", "kind": "LivepatchSet", "name": name, "controller": true,
            "blockOwnerDeletion": true, "uid": made["metadata"]["uid"],
        }]);
        operator.accepted(Method::POST, "livepatchrollouts", &object);
        kubectl
            .run(&["delete", "lps", &name, "--wait=false", &format!("--cascade={cascade}")])
            .unwrap();
        name
    };
    for cascade in ["background", "foreground"] {
        let name = owned(cascade);
        gone("lpr", &name);
        gone("lps", &name);
    }
    let name = owned("orphan");
    gone("lps", &name);
    let orphan = admin.get(&format!("livepatchrollouts/{name}"));
    assert_eq!(orphan["metadata"]["ownerReferences"], Value::Null, "{orphan}");

    let node = fresh("collected");
    cluster.node(&node);
    kubectl.run(&["delete", "node", &node]).unwrap();
    gone("nlp", &node);
}
