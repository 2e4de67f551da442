//! What the generated definitions promise to the API server and to people.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use livepatch_crds::definitions;
use serde_json::Value;

fn schema(crd: &CustomResourceDefinition) -> Value {
    serde_json::to_value(&crd.spec.versions[0].schema).unwrap()["openAPIV3Schema"].clone()
}

fn walk(path: &str, schema: &Value, seen: &mut dyn FnMut(&str, &Value)) {
    seen(path, schema);
    if let Some(properties) = schema["properties"].as_object() {
        for (name, property) in properties {
            walk(&format!("{path}.{name}"), property, seen);
        }
    }
    for inner in ["items", "additionalProperties"] {
        if schema[inner].is_object() {
            walk(&format!("{path}[]"), &schema[inner], seen);
        }
    }
}

#[test]
fn every_list_map_and_string_is_bounded() {
    let mut unbounded = Vec::new();
    for crd in definitions() {
        walk(&crd.spec.names.kind, &schema(&crd), &mut |path, schema| {
            // The conditions' own strings are bounded by the operator, their schema is Kubernetes' own.
            if path.contains(".conditions[]") {
                return;
            }
            let bound = match schema["type"].as_str() {
                Some("array") => "maxItems",
                Some("string") if schema["enum"].is_null() && schema["format"].is_null() => "maxLength",
                Some("object") if schema["additionalProperties"].is_object() => "maxProperties",
                _ => return,
            };
            if schema[bound].is_null() {
                unbounded.push(format!("{path} has no {bound}"));
            }
        });
    }
    assert_eq!(unbounded, Vec::<String>::new());
}

#[test]
fn every_field_is_explained() {
    let mut silent = Vec::new();
    for crd in definitions() {
        walk(&crd.spec.names.kind, &schema(&crd), &mut |path, schema| {
            let field = path.contains('.') && !path.ends_with("[]") && !path.contains(".conditions[]");
            if field && path.split('.').nth(1) != Some("metadata") && schema["description"].is_null() {
                silent.push(path.to_owned());
            }
        });
    }
    assert_eq!(silent, Vec::<String>::new());
}

#[test]
fn conditions_are_a_map_by_type_and_statuses_are_subresources() {
    for crd in definitions() {
        let version = &crd.spec.versions[0];
        assert!(
            version.subresources.as_ref().is_some_and(|s| s.status.is_some()),
            "{}",
            crd.spec.names.kind
        );
        let conditions = schema(&crd)["properties"]["status"]["properties"]["conditions"].clone();
        assert_eq!(conditions["x-kubernetes-list-type"], "map");
        assert_eq!(conditions["x-kubernetes-list-map-keys"], serde_json::json!(["type"]));
        assert_eq!(
            crd.spec.names.categories.as_deref(),
            Some(&["livepatch".to_owned()][..])
        );
        assert_eq!(crd.spec.scope, "Cluster");
    }
}

#[test]
fn grants_are_one_atomic_list() {
    let [_, _, node] = definitions();
    let list = schema(&node)["properties"]["spec"]["properties"]["livepatches"].clone();
    assert_eq!(list["x-kubernetes-list-type"], "atomic");
}
