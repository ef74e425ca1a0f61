//! Patches of a kubelet's configuration.

use json_patch::PatchOperation;
use serde_json::Value;

use crate::crd::PatchType;

/// One document of a patch, parsed.
#[derive(Clone, Debug, PartialEq)]
pub struct KubeletPatch {
    /// Where it stands in the spec: `spec.patches[0]`.
    pub path: String,
    pub change: PatchChange,
}

/// What a patch changes.
#[derive(Clone, Debug, PartialEq)]
pub enum PatchChange {
    /// A merge that knows the directive `$patch`. Upstream's types give no list of
    /// `KubeletConfiguration` a merge key, so lists are replaced whole, as with [`Self::Merge`].
    Strategic(Value),
    /// RFC 7386.
    Merge(Value),
    /// RFC 6902.
    Json(Vec<PatchOperation>),
}

/// Why a text is no patch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatchFault {
    #[error("is neither YAML nor JSON: {0}; correct it")]
    Text(String),
    #[error("has no document; write a patch or remove the entry")]
    Empty,
    #[error(
        "is not a mapping, but a patch of type {0} names the fields to change; write them as \
         `field: value`, or set type to JSON for a list of operations"
    )]
    NotAMapping(&'static str),
    #[error(
        "is not a list of operations (RFC 6902): {0}; write entries of op, path and value, or set \
         type to Strategic for a mapping of fields"
    )]
    NotOperations(String),
    #[error(
        "uses the directive {directive:?}, and KubeletConfiguration has only use for `$patch: \
         replace` and `$patch: delete`; write the fields as they shall be"
    )]
    Directive { directive: String },
}

impl PatchChange {
    /// Reads every document of `text`; empty ones are skipped, as kubeadm does.
    pub fn parse(kind: PatchType, text: &str) -> Result<Vec<Self>, PatchFault> {
        // Scalars as kubeadm reads them: `0644` is octal, `no` is false.
        let options = serde_saphyr::options! {
            with_snippet: false,
            legacy_octal_numbers: true,
        };
        let documents: Vec<Value> = serde_saphyr::from_multiple_with_options(text, options)
            .map_err(|error| PatchFault::Text(error.to_string()))?;
        let documents = documents.into_iter().filter(|value| !value.is_null());
        let changes: Vec<Self> = documents
            .map(|document| Self::of(kind, document))
            .collect::<Result<_, _>>()?;
        if changes.is_empty() {
            return Err(PatchFault::Empty);
        }
        Ok(changes)
    }

    fn of(kind: PatchType, document: Value) -> Result<Self, PatchFault> {
        match kind {
            PatchType::Json => serde_json::from_value(document)
                .map(Self::Json)
                .map_err(|error| PatchFault::NotOperations(error.to_string())),
            PatchType::Merge if document.is_object() => Ok(Self::Merge(document)),
            PatchType::Strategic if document.is_object() => {
                directives(&document)?;
                Ok(Self::Strategic(document))
            }
            PatchType::Merge => Err(PatchFault::NotAMapping("Merge")),
            PatchType::Strategic => Err(PatchFault::NotAMapping("Strategic")),
        }
    }
}

/// Refuses every directive but the two that mean something without merge keys.
fn directives(value: &Value) -> Result<(), PatchFault> {
    let Value::Object(fields) = value else {
        return Ok(());
    };
    for (name, value) in fields {
        let known = name == "$patch" && matches!(value.as_str(), Some("replace" | "delete"));
        if name.starts_with('$') && !known {
            let directive = match value.as_str() {
                Some(text) => format!("{name}: {text}"),
                None => name.clone(),
            };
            return Err(PatchFault::Directive { directive });
        }
        directives(value)?;
    }
    Ok(())
}
