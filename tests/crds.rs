//! The installed CRDs and what is generated from them: the same as the types say, and in the form
//! that the Kubernetes API conventions ask for. `UPDATE=1 cargo test --test crds` rewrites them.

#[path = "crds/lint.rs"]
mod lint;
#[path = "crds/reference.rs"]
mod reference;

use std::path::{Path, PathBuf};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use seedbed::crd::all_crds;
use seedbed::yaml::to_yaml;

/// Largest CRD: `kubectl apply` copies the object into an annotation of at most 262,144 bytes, and
/// the copy is JSON with escaped quotes.
const LARGEST_CRD_BYTES: usize = 120 * 1024;

/// Folders with a copy of every CRD.
const COPIES: [&str; 2] = ["config/crd", "charts/seedbed/files/crds"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn file_name(crd: &CustomResourceDefinition) -> String {
    format!("{}_{}.yaml", crd.spec.group, crd.spec.names.plural)
}

fn text(crd: &CustomResourceDefinition) -> String {
    let yaml = to_yaml(crd).expect("a CRD is YAML");
    format!("# Generated from src/crd by `UPDATE=1 cargo test --test crds`; do not edit.\n{yaml}")
}

/// Compares a generated file with the stored one, or stores it.
#[track_caller]
fn check(path: &PathBuf, generated: &str) {
    if std::env::var_os("UPDATE").is_some() {
        std::fs::create_dir_all(path.parent().expect("has a folder")).expect("can be made");
        std::fs::write(path, generated).expect("can be written");
        return;
    }
    let stored = std::fs::read_to_string(path)
        .unwrap_or_else(|error| panic!("{}: {error}; run with UPDATE=1", path.display()));
    if let Some((number, (old, new))) = stored
        .lines()
        .chain([""])
        .zip(generated.lines().chain([""]))
        .enumerate()
        .find(|(_, (old, new))| old != new)
    {
        panic!(
            "{} differs from the types in line {}; run with UPDATE=1\n  stored: {old}\n  types:  {new}",
            path.display(),
            number + 1
        );
    }
    assert_eq!(
        stored,
        generated,
        "{} differs in length; run with UPDATE=1",
        path.display()
    );
}

#[test]
fn stored_copies_are_those_of_the_types() {
    for folder in COPIES {
        let folder = root().join(folder);
        for crd in all_crds() {
            check(&folder.join(file_name(&crd)), &text(&crd));
        }
    }
}

#[test]
fn every_crd_fits_client_side_apply() {
    for crd in all_crds() {
        let size = text(&crd).len();
        assert!(
            size <= LARGEST_CRD_BYTES,
            "{}: {size} bytes",
            file_name(&crd)
        );
    }
}

#[test]
fn schemas_follow_the_api_conventions() {
    let mut findings = Vec::new();
    for crd in all_crds() {
        findings.extend(lint::findings(&crd));
    }
    assert!(findings.is_empty(), "{}", findings.join("\n"));
}

#[test]
fn the_lint_sees_what_is_wrong() {
    let bad = serde_json::json!({
        "type": "object",
        "description": "Bad.",
        "properties": {
            "text": {"type": "string", "description": "No bound.", "default": "a"},
            "list": {"type": "array", "description": "No bound.", "items": {"type": "string", "nullable": true}},
            "count": {"type": "integer", "format": "uint32", "description": "Bad format."},
            "map": {"type": "object", "additionalProperties": {"type": "string", "maxLength": 1}},
            "someRef": {"type": "object", "description": "Leaves.", "properties": {"namespace": {"type": "boolean", "description": "No."}}},
        },
    });
    let found = lint::schema_findings("spec", &bad).join("\n");
    for words in [
        "spec.text: no maxLength",
        "spec.text: has a default",
        "spec.list: no maxItems",
        "spec.list: no list type",
        "spec.list[]: is nullable",
        "spec.count: format uint32",
        "spec.count: no minimum",
        "spec.map: no maxProperties",
        "spec.map: no description",
        "spec.someRef: names a namespace",
    ] {
        assert!(found.contains(words), "{words:?} is not among\n{found}");
    }
}

#[test]
fn names_are_those_that_people_type() {
    let rows: Vec<String> = all_crds()
        .iter()
        .map(|crd| {
            let names = &crd.spec.names;
            let short = names.short_names.clone().unwrap_or_default().join(",");
            let categories = names.categories.clone().unwrap_or_default().join(",");
            format!("{} {short} {categories}", names.kind)
        })
        .collect();
    assert_eq!(
        rows,
        [
            "ControlPlane cp seedbed",
            "EtcdCluster etcdc seedbed",
            "NodePool np seedbed"
        ]
    );
}

#[test]
fn every_kind_has_status_and_scale() {
    for crd in all_crds() {
        for version in &crd.spec.versions {
            let subresources = version.subresources.as_ref().expect("has subresources");
            assert!(subresources.status.is_some(), "{}", file_name(&crd));
            let scale = subresources.scale.as_ref().expect("has /scale");
            assert_eq!(
                scale.label_selector_path.as_deref(),
                Some(".status.selector")
            );
            assert_eq!(scale.status_replicas_path, ".status.replicas");
        }
    }
}

#[test]
fn the_field_reference_is_that_of_the_types() {
    check(
        &root().join("docs/api.md"),
        &reference::markdown(&all_crds()),
    );
}
