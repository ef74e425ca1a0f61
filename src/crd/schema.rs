//! Hand-written pieces of schema and what is done to every generated CRD.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::core::Rule;
use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

use super::rules;

/// An object whose fields belong to another API; unknown ones are kept.
pub fn free_form_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "x-kubernetes-preserve-unknown-fields": true,
    })
}

/// A point in time, RFC 3339.
pub fn time(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "format": "date-time", "maxLength": 40})
}

/// One or two address ranges; which are allowed, rules say.
pub fn cidrs(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 2,
        "items": {"type": "string", "minLength": 1, "maxLength": 49},
    })
}

/// Labels of a Node.
pub fn labels(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 64,
        "additionalProperties": {"type": "string", "maxLength": 63},
    })
}

/// Applied defaults by field path.
pub fn resolved(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 128,
        "additionalProperties": {"type": "string", "maxLength": 1024},
    })
}

/// `[]core/v1.Taint` with the bounds that core/v1 keeps in code.
pub fn taints(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 32,
        "items": {
            "type": "object",
            "required": ["key", "effect"],
            "properties": {
                "key": {
                    "type": "string", "minLength": 1, "maxLength": 317,
                    "description": "Key, a qualified name such as `example.net/dedicated`.",
                },
                "value": {
                    "type": "string", "maxLength": 63,
                    "description": "Value, a label value; may be empty.",
                },
                "effect": {
                    "type": "string", "enum": ["NoSchedule", "PreferNoSchedule", "NoExecute"],
                    "description": "What happens to pods that do not tolerate the taint.",
                },
            },
        },
    })
}

/// `[]core/v1.EnvVar` without the sources that a static pod cannot read.
pub fn env_vars(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 128,
        "items": {
            "type": "object",
            "required": ["name"],
            "x-kubernetes-validations": [rule(&rules::one_env_source())],
            "properties": {
                "name": {
                    "type": "string", "minLength": 1, "maxLength": 256,
                    "description": "Name of the variable. The last of one name wins.",
                    "x-kubernetes-validations": [rule(&rules::env_name())],
                },
                "value": {
                    "type": "string", "maxLength": 8192,
                    "description": "Value of the variable.",
                },
                "valueFrom": env_source(),
            },
        },
    })
}

fn env_source() -> Value {
    let text = |max: u32, description: &str| json!({"type": "string", "maxLength": max, "description": description});
    json!({
        "type": "object",
        "description": "Where the value comes from: exactly one.",
        "x-kubernetes-validations": [rule(&rules::static_pod_source())],
        "properties": {
            "fieldRef": {
                "type": "object",
                "description": "A field of the static pod, such as `status.podIP`.",
                "required": ["fieldPath"],
                "properties": {
                    "apiVersion": text(16, "Version of the path's schema. Default `v1`."),
                    "fieldPath": text(253, "Path of the field."),
                },
            },
            "resourceFieldRef": {
                "type": "object",
                "description": "A resource of the container, such as `limits.cpu`.",
                "required": ["resource"],
                "properties": {
                    "containerName": text(63, "Name of the container. Default: this one."),
                    "resource": text(63, "Name of the resource."),
                    "divisor": text(32, "Unit of the value, a quantity. Default `1`."),
                },
            },
        },
    })
}

/// `[]metav1.Condition` with metav1's bounds.
pub fn conditions(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 32,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "required": ["type", "status", "lastTransitionTime", "reason", "message"],
            "properties": {
                "type": {
                    "type": "string", "maxLength": 316,
                    "description": "Type of the condition.",
                },
                "status": {
                    "type": "string", "enum": ["True", "False", "Unknown"],
                    "description": "Status of the condition.",
                },
                "observedGeneration": {
                    "type": "integer", "format": "int64", "minimum": 0,
                    "description": "Generation of the spec that the condition speaks of.",
                },
                "lastTransitionTime": {
                    "type": "string", "format": "date-time",
                    "description": "When the status last changed.",
                },
                "reason": {
                    "type": "string", "minLength": 1, "maxLength": 1024,
                    "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$",
                    "description": "Why, as one word for programs.",
                },
                "message": {
                    "type": "string", "maxLength": 32768,
                    "description": "Why, for people.",
                },
            },
        },
    })
}

fn rule(rule: &Rule) -> Value {
    serde_json::to_value(rule).expect("a rule is a flat object of strings")
}

/// Brings a generated CRD into the form that is installed.
///
/// # Panics
/// If the generator makes something that is no CRD; a test generates every kind.
pub fn finish(crd: &CustomResourceDefinition) -> CustomResourceDefinition {
    let mut value = serde_json::to_value(crd).expect("a CRD serialises");
    for version in value["spec"]["versions"]
        .as_array_mut()
        .into_iter()
        .flatten()
    {
        tidy(&mut version["schema"]["openAPIV3Schema"]);
    }
    serde_json::from_value(value).expect("a tidied CRD is a CRD")
}

/// Takes out what the generator adds and Kubernetes does not want: formats of unsigned integers
/// (unknown to it), `nullable`, `title`, and defaults, which would be stored and so never change
/// for old objects. Lists that say nothing are replaced as a whole.
fn tidy(schema: &mut Value) {
    let Some(fields) = schema.as_object_mut() else {
        return;
    };
    fields.retain(|key, _| !matches!(key.as_str(), "default" | "nullable" | "title"));
    if fields
        .get("format")
        .and_then(Value::as_str)
        .is_some_and(|f| f.starts_with("uint"))
    {
        fields.remove("format");
    }
    if fields.get("type") == Some(&json!("array")) {
        fields
            .entry("x-kubernetes-list-type")
            .or_insert_with(|| json!("atomic"));
    }
    if let Some(Value::Object(properties)) = fields.get_mut("properties") {
        properties.values_mut().for_each(tidy);
    }
    for nested in ["items", "additionalProperties"] {
        if let Some(nested) = fields.get_mut(nested) {
            tidy(nested);
        }
    }
}
