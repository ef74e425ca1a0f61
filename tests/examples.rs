//! The examples resolve as they stand. That the API server accepts them, `crd_admission` checks.

use std::path::Path;

use seedbed::controllers::control_plane::resolve::{
    ContentKind, ContentRef, Inputs, references, resolve,
};
use seedbed::controllers::etcd_cluster::resolve as etcd_cluster;
use seedbed::controllers::fields::Contents;
use seedbed::controllers::node_pool::resolve as node_pool;
use seedbed::crd::{ControlPlane, EtcdCluster, NodePool};
use serde_json::Value;
use zeroize::Zeroizing;

fn documents(name: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("examples")
        .join(name);
    let text = std::fs::read_to_string(&path).unwrap();
    serde_saphyr::from_multiple(&text).unwrap()
}

/// The Secrets and ConfigMaps of the same file.
fn inputs(documents: &[Value]) -> Inputs {
    let mut inputs = Inputs::default();
    for document in documents {
        let (kind, data) = match document["kind"].as_str() {
            Some("Secret") => (ContentKind::Secret, &document["stringData"]),
            Some("ConfigMap") => (ContentKind::ConfigMap, &document["data"]),
            _ => continue,
        };
        for (key, value) in data.as_object().unwrap() {
            let reference = ContentRef {
                kind,
                name: document["metadata"]["name"].as_str().unwrap().to_owned(),
                key: key.clone(),
            };
            let content = Zeroizing::new(value.as_str().unwrap().as_bytes().to_vec());
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
        assert_eq!(
            found + pools(&name, &documents),
            1,
            "{name} has one ControlPlane, or pools of one"
        );
        etcd_clusters(&name, &documents);
        seen.push(name);
    }
    for name in [
        "external-etcd.yaml",
        "ha.yaml",
        "minimal.yaml",
        "production.yaml",
        "workers.yaml",
    ] {
        assert!(seen.iter().any(|seen| seen == name), "{name} is missing");
    }
}

/// Checks the EtcdClusters of a file, and that ControlPlanes refer to them.
fn etcd_clusters(name: &str, found: &[Value]) {
    let of_kind = |kind: &'static str| found.iter().filter(move |found| found["kind"] == kind);
    let clusters: Vec<EtcdCluster> = of_kind("EtcdCluster")
        .map(|document| {
            let object: EtcdCluster = serde_json::from_value(document.clone()).unwrap();
            let spec = serde_json::to_value(&object.spec).unwrap();
            assert_eq!(spec, document["spec"], "{name}");
            etcd_cluster::resolve(&object, &Contents::default())
                .unwrap_or_else(|problems| panic!("{name}: {problems:?}"));
            object
        })
        .collect();
    let known = |name: &Value| {
        let mut names = clusters.iter().map(|cluster| &cluster.metadata.name);
        names.any(|known| known.as_deref() == name.as_str())
    };
    for document in of_kind("ControlPlane") {
        let reference = &document["spec"]["etcd"]["clusterRef"]["name"];
        assert!(reference.is_null() || known(reference), "{name}");
    }
    let referred = of_kind("ControlPlane").any(|d| d["spec"]["etcd"]["clusterRef"].is_object());
    assert_eq!(clusters.is_empty(), !referred, "{name}");
}

/// Checks the NodePools of a file, which are all of the control plane of `ha.yaml`; 1 if there are
/// some.
fn pools(name: &str, found: &[Value]) -> usize {
    let control_plane: ControlPlane =
        serde_json::from_value(documents("ha.yaml")[0].clone()).unwrap();
    let mut pools = 0;
    for document in found
        .iter()
        .filter(|document| document["kind"] == "NodePool")
    {
        let object: NodePool = serde_json::from_value(document.clone()).unwrap();
        let spec = serde_json::to_value(&object.spec).unwrap();
        assert_eq!(spec, document["spec"], "{name}");
        let inputs = node_pool::Inputs {
            control_plane: Some(&control_plane),
            ..node_pool::Inputs::default()
        };
        node_pool::resolve(&object, &inputs)
            .unwrap_or_else(|problems| panic!("{name}: {problems:?}"));
        pools = 1;
    }
    pools
}
