//! The ControlPlanes and EtcdClusters that benchmarks apply.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::super::stage::NAMESPACE;

/// Addresses of machines that do not exist.
pub const SILENT: &str = "198.18.128.0/17";

/// A ControlPlane of three machines that do not exist; `number` is below 8000 and makes its
/// addresses its own.
pub fn without_machines(name: &str, number: usize) -> Value {
    json!({
        "apiVersion": "seedbed.dev/v1alpha1",
        "kind": "ControlPlane",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "version": "v1.37.1",
            "endpoint": {"host": format!("{name}.example.net")},
            "replicas": 3,
            "machines": inventory(number),
            "network": {"podCIDRs": ["10.244.0.0/16"], "serviceCIDRs": ["10.96.0.0/12"]},
        },
    })
}

/// An EtcdCluster on such machines of its own.
pub fn etcd_cluster(name: &str, number: usize) -> Value {
    json!({
        "apiVersion": "seedbed.dev/v1alpha1",
        "kind": "EtcdCluster",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"version": "3.7.0", "size": 3, "machines": inventory(number)},
    })
}

fn inventory(number: usize) -> [Value; 3] {
    machines(number).map(|(name, address)| json!({"name": name, "address": address}))
}

/// Names and addresses of its machines.
pub fn machines(number: usize) -> [(String, String); 3] {
    [1, 2, 3].map(|index| {
        let host = 256 + number * 4 + index;
        let address = format!("198.18.{}.{}", 128 + host / 256, host % 256);
        (format!("cp-{index}"), address)
    })
}

/// The ControlPlane of the demo, with machines, under another name.
pub fn with_machines(name: &str) -> Result<Value> {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/ha.yaml");
    let text = std::fs::read_to_string(&example)
        .with_context(|| format!("cannot read {}", example.display()))?;
    let mut object: Value = serde_saphyr::from_str(&text).context("examples/ha.yaml")?;
    object["metadata"]["name"] = name.into();
    object["metadata"]["namespace"] = NAMESPACE.into();
    Ok(object)
}
