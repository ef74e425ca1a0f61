//! Rules of the Kubernetes API conventions, as kube-api-linter checks them on Go types.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::{Map, Value};

/// Findings that are meant: end of the path, rule, reason.
const EXCEPTIONS: [(&str, &str, &str); 2] = [
    (
        ".kubelet.config",
        "no maxProperties",
        "fields of KubeletConfiguration; bounded by the size of a request",
    ),
    (
        ".kubeProxy.config",
        "no maxProperties",
        "fields of KubeProxyConfiguration; bounded by the size of a request",
    ),
];

/// What is wrong with the schema of a kind, one line each.
pub fn findings(crd: &CustomResourceDefinition) -> Vec<String> {
    let kind = &crd.spec.names.kind;
    let mut found = Vec::new();
    for version in &crd.spec.versions {
        let schema = serde_json::to_value(version.schema.as_ref().expect("has a schema"))
            .expect("a schema is JSON");
        let properties = &schema["openAPIV3Schema"]["properties"];
        for part in ["spec", "status"] {
            found.extend(schema_findings(part, &properties[part]));
        }
    }
    found
        .into_iter()
        .map(|line| format!("{kind} {line}"))
        .collect()
}

/// What is wrong with a schema, one line each.
pub fn schema_findings(path: &str, schema: &Value) -> Vec<String> {
    let mut found = Vec::new();
    visit(path, schema, true, &mut found);
    found.retain(|line| {
        !EXCEPTIONS.iter().any(|(end, rule, _)| {
            line.split_once(": ")
                .is_some_and(|(p, r)| p.ends_with(end) && r == *rule)
        })
    });
    found
}

fn visit(path: &str, schema: &Value, described: bool, found: &mut Vec<String>) {
    let empty = Map::new();
    let fields = schema.as_object().unwrap_or(&empty);
    let has = |key: &str| fields.contains_key(key);
    let mut say = |ok: bool, text: &str| {
        if !ok {
            found.push(format!("{path}: {text}"));
        }
    };
    say(!has("default"), "has a default");
    say(!has("nullable"), "is nullable");
    say(!described || has("description"), "no description");
    let format = schema["format"].as_str().unwrap_or_default();
    match schema["type"].as_str() {
        Some("string") => say(
            has("maxLength") || has("enum") || has("format"),
            "no maxLength",
        ),
        Some("integer") => {
            say(
                matches!(format, "int32" | "int64"),
                &format!("format {format}"),
            );
            // Status holds what was observed; the bounds are for what people write.
            if path.starts_with("spec") {
                say(has("minimum") && has("maximum"), "no minimum and maximum");
            }
        }
        Some("array") => {
            say(has("maxItems"), "no maxItems");
            say(has("x-kubernetes-list-type"), "no list type");
        }
        Some("object") if has("properties") => {
            let reference = path.ends_with("Ref");
            let namespace = !schema["properties"]["namespace"].is_null();
            say(!(reference && namespace), "names a namespace");
        }
        Some("object") => say(has("maxProperties"), "no maxProperties"),
        Some("boolean") => {}
        other => say(false, &format!("type {other:?}")),
    }
    if let Some(properties) = schema["properties"].as_object() {
        for (name, nested) in properties {
            visit(&format!("{path}.{name}"), nested, true, found);
        }
    }
    for (key, mark) in [("items", "[]"), ("additionalProperties", "{}")] {
        if let Some(nested) = fields.get(key) {
            visit(&format!("{path}{mark}"), nested, false, found);
        }
    }
}
