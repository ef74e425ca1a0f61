//! `kubeadm-config`, `kubelet-config` and `cluster-info` (kubeadm's `upload-config` and
//! `bootstrap-token` phases).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::desired::{BuildError, Desired, Stage};
use super::kubeadm_config::cluster_configuration;
use crate::domain::ControlPlane;

/// Marks a component's configuration as generated: kubeadm regenerates it on upgrade then, and
/// takes one without the mark for the user's own.
const COMPONENT_CONFIG_HASH: &str = "kubeadm.kubernetes.io/component-config.hash";

pub(super) fn objects(
    control_plane: &ControlPlane,
    ca_certificate_pem: &str,
) -> Result<Vec<Desired>, BuildError> {
    let configuration = cluster_configuration(control_plane);
    let kubeadm = config_map(
        "kube-system",
        "kubeadm-config",
        "ClusterConfiguration",
        to_yaml("ClusterConfiguration", &configuration)?,
    );
    let objects = [kubeadm, cluster_info(control_plane, ca_certificate_pem)?];
    Ok(objects
        .map(|object| Desired::new(Stage::Foundation, object))
        .into())
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
    let kubeconfig = json!({
        "apiVersion": "v1",
        "clusters": [{
            "cluster": {
                "certificate-authority-data": STANDARD.encode(ca_certificate_pem),
                "server": format!("https://{endpoint}"),
            },
            "name": "",
        }],
        "contexts": null,
        "current-context": "",
        "kind": "Config",
        "users": null,
    });
    let kubeconfig = to_yaml("cluster-info", &kubeconfig)?;
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

/// YAML as kubeadm stores it: block style, long strings on one line.
pub(super) fn to_yaml(what: &'static str, value: &impl Serialize) -> Result<String, BuildError> {
    let options = serde_saphyr::ser_options! { folded_wrap_chars: usize::MAX };
    serde_saphyr::to_string_with_options(value, options).map_err(|source| BuildError::Yaml {
        what,
        source: Box::new(source),
    })
}
