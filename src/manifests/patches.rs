//! Patches of a kubelet's configuration, as kubeadm applies them: last, and in their order.

use json_patch::{merge, patch};
use serde_json::Value;

use super::ManifestError;
use crate::domain::{KubeletPatch, PatchChange};

const API_VERSION: &str = "kubelet.config.k8s.io/v1beta1";
const KIND: &str = "KubeletConfiguration";

/// Applies all of them.
///
/// # Errors
/// The first patch that does not fit, with its place in the spec.
pub(super) fn apply(config: &mut Value, patches: &[KubeletPatch]) -> Result<(), ManifestError> {
    for KubeletPatch { path, change } in patches {
        let fails = |fault: String| ManifestError::Patch {
            path: path.clone(),
            fault,
        };
        match change {
            PatchChange::Strategic(change) => strategic(config, change),
            PatchChange::Merge(change) => merge(config, change),
            PatchChange::Json(operations) => {
                patch(config, operations).map_err(|error| fails(error.to_string()))?;
            }
        }
        if config["apiVersion"] != API_VERSION || config["kind"] != KIND {
            return Err(fails(format!(
                "the result is no {KIND} of {API_VERSION} any more"
            )));
        }
    }
    Ok(())
}

/// A merge in which `$patch: replace` puts a mapping in place of another, and `$patch: delete`
/// empties one (`handleDirectiveInMergeMap` of apimachinery).
fn strategic(target: &mut Value, change: &Value) {
    let Value::Object(fields) = change else {
        *target = change.clone();
        return;
    };
    match fields.get("$patch").and_then(Value::as_str) {
        Some("delete") => {
            *target = Value::Object(serde_json::Map::new());
            return;
        }
        Some(_) => *target = Value::Object(serde_json::Map::new()),
        None if !target.is_object() => *target = Value::Object(serde_json::Map::new()),
        None => {}
    }
    let Value::Object(target) = target else {
        return;
    };
    for (name, value) in fields.iter().filter(|(name, _)| *name != "$patch") {
        if value.is_null() {
            target.remove(name);
        } else {
            strategic(target.entry(name).or_insert(Value::Null), value);
        }
    }
}
