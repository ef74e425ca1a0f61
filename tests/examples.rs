//! The examples resolve as they stand. That the API server accepts them, `crd_admission` checks.

use std::path::Path;

use k8s_openapi::api::core::v1::Secret;
use seedbed::controllers::control_plane::resolve::{
    ContentKind, ContentRef, Inputs, references, resolve,
};
use seedbed::crd::ControlPlane;
use serde_json::Value;
use zeroize::Zeroizing;

fn documents(name: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("examples")
        .join(name);
    let text = std::fs::read_to_string(&path).unwrap();
    serde_saphyr::from_multiple(&text).unwrap()
}

/// The Secrets of the same file.
fn inputs(documents: &[Value]) -> Inputs {
    let mut inputs = Inputs::default();
    for document in documents
        .iter()
        .filter(|document| document["kind"] == "Secret")
    {
        let secret: Secret = serde_json::from_value(document.clone()).unwrap();
        for (key, value) in secret.string_data.unwrap_or_default() {
            let reference = ContentRef {
                kind: ContentKind::Secret,
                name: secret.metadata.name.clone().unwrap(),
                key,
            };
            let content = Zeroizing::new(value.into_bytes());
            inputs.contents.insert(reference, content);
        }
    }
    inputs
}

#[test]
fn every_example_resolves() {
    let mut seen = Vec::new();
    for entry in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples")).unwrap()
    {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let documents = documents(&name);
        let inputs = inputs(&documents);
        let mut found = 0;
        for document in documents
            .iter()
            .filter(|document| document["kind"] == "ControlPlane")
        {
            let object: ControlPlane = serde_json::from_value(document.clone()).unwrap();
            let unread: Vec<_> = references(&object.spec)
                .into_iter()
                .filter(|reference| !inputs.contents.contains_key(reference))
                .collect();
            assert!(unread.is_empty(), "{name} lacks {unread:?}");
            let resolved =
                resolve(&object, &inputs).unwrap_or_else(|problems| panic!("{name}: {problems:?}"));
            // Nothing is lost on the way through the types: no field is misspelt.
            let spec = serde_json::to_value(&object.spec).unwrap();
            assert_eq!(spec, document["spec"], "{name}");
            assert!(!resolved.defaults.is_empty());
            found += 1;
        }
        assert_eq!(found, 1, "{name} has one ControlPlane");
        seen.push(name);
    }
    seen.sort();
    assert_eq!(seen, ["ha.yaml", "minimal.yaml", "production.yaml"]);
}
