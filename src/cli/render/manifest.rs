//! Reading the manifest: one ControlPlane and what its files refer to.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::controllers::control_plane::resolve::{ContentKind, ContentRef, Inputs};
use crate::crd::ControlPlane;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use serde::de::DeserializeOwned;
use serde_json::Value;
use zeroize::Zeroizing;

const API_VERSION: &str = "seedbed.dev/v1alpha1";

#[derive(Debug, thiserror::Error)]
pub(super) enum ManifestError {
    #[error("{0} cannot be read")]
    Read(PathBuf, #[source] std::io::Error),
    #[error("{0} is not YAML")]
    NotYaml(PathBuf, #[source] Box<serde_saphyr::Error>),
    #[error("{0} holds no ControlPlane of {API_VERSION}; render takes one")]
    NoControlPlane(PathBuf),
    #[error("{0} holds several ControlPlanes: {1}; give each a file of its own")]
    Several(PathBuf, String),
    #[error("{kind} {name:?} has a field of the wrong type")]
    Type {
        kind: &'static str,
        name: String,
        #[source]
        source: serde_path_to_error::Error<serde_json::Error>,
    },
    #[error("ControlPlane {name:?}: unknown field {field}; check its spelling and place")]
    UnknownField { name: String, field: String },
}

/// What the file holds.
pub(super) struct Manifest {
    pub(super) control_plane: ControlPlane,
    others: Vec<Value>,
}

/// Reads `path`, or standard input for `-`.
pub(super) fn read(path: &Path) -> Result<Manifest, ManifestError> {
    let mut text = String::new();
    let read = if path == Path::new("-") {
        std::io::stdin().read_to_string(&mut text)
    } else {
        std::fs::File::open(path).and_then(|mut file| file.read_to_string(&mut text))
    };
    read.map_err(|error| ManifestError::Read(path.to_owned(), error))?;
    // A message must not quote the manifest: it may hold Secrets.
    let options = serde_saphyr::options! { with_snippet: false };
    let documents: Vec<Value> = serde_saphyr::from_multiple_with_options(&text, options)
        .map_err(|error| ManifestError::NotYaml(path.to_owned(), Box::new(error)))?;
    let (mut own, others): (Vec<_>, Vec<_>) = documents
        .into_iter()
        .filter(|document| !document.is_null())
        .partition(|document| is(document, API_VERSION, "ControlPlane"));
    let Some(document) = own.pop() else {
        return Err(ManifestError::NoControlPlane(path.to_owned()));
    };
    if !own.is_empty() {
        let names: Vec<_> = own.iter().chain([&document]).map(name).collect();
        return Err(ManifestError::Several(path.to_owned(), names.join(", ")));
    }
    let control_plane = typed("ControlPlane", &document)?;
    check_fields(&document, &control_plane)?;
    Ok(Manifest {
        control_plane,
        others,
    })
}

impl Manifest {
    /// The contents that `references` name, as far as the file holds them.
    pub(super) fn inputs(
        &self,
        references: &BTreeSet<ContentRef>,
    ) -> Result<Inputs, ManifestError> {
        let mut inputs = Inputs::default();
        for reference in references {
            let kind = match reference.kind {
                ContentKind::Secret => "Secret",
                ContentKind::ConfigMap => "ConfigMap",
            };
            let mut found = self.others.iter().filter(|document| {
                is(document, "v1", kind)
                    && name(document) == reference.name
                    && self.is_same_namespace(document)
            });
            let Some(document) = found.next() else {
                continue;
            };
            let bytes = match reference.kind {
                ContentKind::Secret => secret_bytes(typed(kind, document)?, &reference.key),
                ContentKind::ConfigMap => config_map_bytes(typed(kind, document)?, &reference.key),
            };
            if let Some(bytes) = bytes {
                inputs
                    .contents
                    .insert(reference.clone(), Zeroizing::new(bytes));
            }
        }
        Ok(inputs)
    }

    /// Objects without a namespace are taken to be applied into the same one.
    fn is_same_namespace(&self, document: &Value) -> bool {
        let given = document
            .pointer("/metadata/namespace")
            .and_then(Value::as_str);
        let own = self.control_plane.metadata.namespace.as_deref();
        given.is_none() || own.is_none() || given == own
    }
}

fn secret_bytes(secret: Secret, key: &str) -> Option<Vec<u8>> {
    // As the API server merges them.
    let text = secret.string_data.and_then(|mut data| data.remove(key));
    let bytes = || Some(secret.data?.remove(key)?.0);
    text.map(String::into_bytes).or_else(bytes)
}

fn config_map_bytes(config_map: ConfigMap, key: &str) -> Option<Vec<u8>> {
    let text = config_map.data.and_then(|mut data| data.remove(key));
    let bytes = || Some(config_map.binary_data?.remove(key)?.0);
    text.map(String::into_bytes).or_else(bytes)
}

fn is(document: &Value, api_version: &str, kind: &str) -> bool {
    document["apiVersion"] == api_version && document["kind"] == kind
}

fn name(document: &Value) -> &str {
    let name = document.pointer("/metadata/name").and_then(Value::as_str);
    name.unwrap_or_default()
}

fn typed<T: DeserializeOwned>(kind: &'static str, document: &Value) -> Result<T, ManifestError> {
    serde_path_to_error::deserialize(document).map_err(|source| ManifestError::Type {
        kind,
        name: name(document).to_owned(),
        source,
    })
}

/// An API server refuses or drops unknown fields; here a misspelt one would silently do nothing.
fn check_fields(document: &Value, control_plane: &ControlPlane) -> Result<(), ManifestError> {
    let known = serde_json::to_value(&control_plane.spec).unwrap_or_default();
    match unknown_field("spec", &document["spec"], &known) {
        None => Ok(()),
        Some(field) => Err(ManifestError::UnknownField {
            name: name(document).to_owned(),
            field,
        }),
    }
}

/// The first field of `given` that is not in `known`, what was understood of it.
fn unknown_field(path: &str, given: &Value, known: &Value) -> Option<String> {
    match (given, known) {
        (Value::Object(given), Value::Object(known)) => {
            let mut given = given.iter().filter(|(_, value)| !value.is_null());
            given.find_map(|(name, value)| {
                let path = format!("{path}.{name}");
                match known.get(name) {
                    None => Some(path),
                    Some(known) => unknown_field(&path, value, known),
                }
            })
        }
        (Value::Array(given), Value::Array(known)) => {
            let mut pairs = given.iter().zip(known).enumerate();
            pairs.find_map(|(i, (given, known))| {
                unknown_field(&format!("{path}[{i}]"), given, known)
            })
        }
        _ => None,
    }
}
