//! `kubeadm-config`, `kubelet-config` and `cluster-info` (kubeadm's `upload-config` and
//! `bootstrap-token` phases).

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::desired::{BuildError, Desired, Stage};
use super::kubeadm_config::cluster_configuration;
use crate::domain::ControlPlane;
use crate::manifests::{self, kubelet_configuration};
use crate::yaml::to_yaml;

/// Marks a component's configuration as generated: kubeadm regenerates it on upgrade then, and
/// takes one without the mark for the user's own.
const COMPONENT_CONFIG_HASH: &str = "kubeadm.kubernetes.io/component-config.hash";

pub(super) fn objects(
    control_plane: &ControlPlane,
    ca_certificate_pem: &str,
) -> Result<Vec<Desired>, BuildError> {
    let objects = [
        config_map(
            "kube-system",
            "kubeadm-config",
            "ClusterConfiguration",
            to_yaml(&cluster_configuration(control_plane))?,
        ),
        kubelet_config(control_plane)?,
        cluster_info(control_plane, ca_certificate_pem)?,
    ];
    Ok(objects
        .map(|object| Desired::new(Stage::Foundation, object))
        .into())
}

/// What all kubelets of the cluster share; `kubeadm join` and `kubeadm upgrade node` read it.
fn kubelet_config(control_plane: &ControlPlane) -> Result<Value, BuildError> {
    let configuration = to_yaml(&kubelet_configuration(control_plane)?)?;
    let mut object = config_map("kube-system", "kubelet-config", "kubelet", configuration);
    if control_plane.kubelet.config.is_empty() {
        sign(&mut object);
    }
    Ok(object)
}

/// What a joining node reads without credentials: the API's address and the CA. Only this key is
/// ours: the controller manager's bootstrap signer adds a signature for each token.
fn cluster_info(
    control_plane: &ControlPlane,
    ca_certificate_pem: &str,
) -> Result<Value, BuildError> {
    let endpoint = control_plane
        .public_endpoint()
        .ok_or(BuildError::NoMachine)?;
    let kubeconfig = manifests::cluster_info(&format!("https://{endpoint}"), ca_certificate_pem)?;
    Ok(config_map(
        "kube-public",
        "cluster-info",
        "kubeconfig",
        kubeconfig,
    ))
}

fn config_map(namespace: &str, name: &str, key: &str, content: String) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace},
        "data": {key: content},
    })
}

/// Adds kubeadm's hash of a ConfigMap whose content the user did not supply
/// (`ChecksumForConfigMap`: SHA-256 over the values in the order of their keys).
pub(super) fn sign(config_map: &mut Value) {
    let mut hash = Sha256::new();
    // The map is sorted by key.
    for value in config_map["data"]
        .as_object()
        .into_iter()
        .flat_map(Map::values)
    {
        hash.update(value.as_str().unwrap_or_default());
    }
    let hex: String = hash
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    config_map["metadata"]["annotations"] = json!({COMPONENT_CONFIG_HASH: format!("sha256:{hex}")});
}
