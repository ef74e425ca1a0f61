//! The field reference `docs/api.md`, from the schema.

use std::fmt::Write;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::Value;

const INTRODUCTION: &str = "\
<!-- Generated from src/crd by `UPDATE=1 cargo test --test crds`; do not edit. -->
# API reference: `seedbed.dev/v1alpha1`

Every field with its bounds. `[]` stands for an element of a list, `{}` for a value of a map. Defaults
are applied by the operator and shown in `status.resolved`; they are never written into the spec.
Durations are Go durations such as `15m` or `8760h`. References are by name, in the same namespace.
Rules that the API server checks stand below each table.
";

/// The reference of all kinds.
pub fn markdown(crds: &[CustomResourceDefinition]) -> String {
    let mut out = INTRODUCTION.to_owned();
    for crd in crds {
        let names = &crd.spec.names;
        let short = names.short_names.clone().unwrap_or_default().join(", ");
        let version = crd.spec.versions.first().expect("has a version");
        let schema = serde_json::to_value(version.schema.as_ref().expect("has a schema"))
            .expect("a schema is JSON");
        let root = &schema["openAPIV3Schema"];
        let description = root["description"].as_str().unwrap_or_default();
        let _ = write!(out, "\n## {} (`{short}`)\n\n{description}\n", names.kind);
        for part in ["spec", "status"] {
            let _ = write!(
                out,
                "\n### {} {part}\n\n| Field | Type | Meaning |\n|---|---|---|\n",
                names.kind
            );
            rows(part, &root["properties"][part], &mut out);
        }
        let mut rules = Vec::new();
        collect_rules("", root, &mut rules);
        let _ = write!(out, "\n### {} rules\n\n", names.kind);
        for (path, message) in rules {
            let _ = writeln!(out, "- `{path}`: {message}");
        }
    }
    out
}

fn rows(path: &str, schema: &Value, out: &mut String) {
    let required: Vec<&str> = schema["required"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let at = format!("{path}.{name}");
        let mark = if required.contains(&name.as_str()) {
            "**required** "
        } else {
            ""
        };
        let text = field["description"].as_str().unwrap_or_default();
        let text = text
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
            .replace('|', "\\|");
        let _ = writeln!(out, "| `{at}` | {mark}{} | {text} |", kind(field));
        rows(&at, field, out);
        rows(&format!("{at}[]"), &field["items"], out);
    }
}

fn kind(field: &Value) -> String {
    let bound = |low: &str, high: &str| {
        let text = |value: &Value| value.as_f64().map(|number| number.to_string());
        match (text(&field[low]), text(&field[high])) {
            (Some(low), Some(high)) => format!(", {low} to {high}"),
            (None, Some(high)) => format!(", at most {high}"),
            (Some(low), None) => format!(", at least {low}"),
            (None, None) => String::new(),
        }
    };
    if let Some(values) = field["enum"].as_array() {
        let names: Vec<&str> = values.iter().filter_map(Value::as_str).collect();
        return names.join(", ");
    }
    match field["type"].as_str().unwrap_or_default() {
        "string" if field["format"] == "date-time" => "time, RFC 3339".to_owned(),
        "string" => format!("string{}", bound("minLength", "maxLength")),
        "integer" => format!("integer{}", bound("minimum", "maximum")),
        "array" => {
            let keys = field["x-kubernetes-list-map-keys"].as_array();
            let key = keys.and_then(|keys| keys.first()).and_then(Value::as_str);
            let by = key.map_or(String::new(), |key| format!(" by `{key}`"));
            let items = kind(&field["items"]);
            format!("list{by} of {items}{}", bound("minItems", "maxItems"))
        }
        "object" if !field["additionalProperties"].is_null() => {
            let values = kind(&field["additionalProperties"]);
            format!("map to {values}{}", bound("minProperties", "maxProperties"))
        }
        "object" if field["x-kubernetes-preserve-unknown-fields"] == true => {
            "object, any fields".to_owned()
        }
        other => other.to_owned(),
    }
}

fn collect_rules(path: &str, schema: &Value, out: &mut Vec<(String, String)>) {
    for rule in schema["x-kubernetes-validations"]
        .as_array()
        .into_iter()
        .flatten()
    {
        let at = if path.is_empty() { "object" } else { path };
        out.push((
            at.to_owned(),
            rule["message"].as_str().unwrap_or_default().to_owned(),
        ));
    }
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let at = if path.is_empty() {
            name.clone()
        } else {
            format!("{path}.{name}")
        };
        collect_rules(&at, field, out);
    }
    if !schema["items"].is_null() {
        collect_rules(&format!("{path}[]"), &schema["items"], out);
    }
}
