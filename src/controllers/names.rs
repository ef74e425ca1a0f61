//! Labels, keys and URLs that several stages agree on.

use std::collections::BTreeMap;

/// Label with the ControlPlane's name on everything that belongs to it.
pub const LABEL_CONTROL_PLANE: &str = "seedbed.dev/control-plane";
/// Label with the machine's name on what belongs to one machine.
pub const LABEL_MACHINE: &str = "seedbed.dev/machine";
/// Label that says what a Secret is: `ca`, `certificates`, `kubeconfig` or `machine-config`.
pub const LABEL_CONTENT: &str = "seedbed.dev/content";
/// Label of the Cluster API contract.
pub const LABEL_CLUSTER_NAME: &str = "cluster.x-k8s.io/cluster-name";
/// Value of [`LABEL_CONTENT`] on machine-config Secrets.
pub const CONTENT_MACHINE_CONFIG: &str = "machine-config";
/// Annotation with the revision of a machine config.
pub const ANNOTATION_REVISION: &str = "seedbed.dev/revision";
/// Annotation with the files of a machine config: a JSON object of path to SHA-256.
pub const ANNOTATION_FILES: &str = "seedbed.dev/files";
/// Annotation on a machine-config Secret: the machine is confirmed gone; why.
pub const ANNOTATION_MACHINE_LOST: &str = "seedbed.dev/machine-lost";
/// Annotation on a machine-config Secret: the machine shall be taken away or imaged anew; why.
pub const ANNOTATION_RELEASE_REQUESTED: &str = "seedbed.dev/release-requested";
/// Annotation on a machine-config Secret, by the operator: since when the machine may be taken
/// away, RFC 3339.
pub const ANNOTATION_RELEASED: &str = "seedbed.dev/released";
/// Annotation on a machine-config Secret: name of the added etcd member that does not start on an
/// empty disk any more by this config.
pub const ANNOTATION_KEEPS_DATA_OF: &str = "seedbed.dev/keeps-data-of";
/// Annotation on a ControlPlane or EtcdCluster: the machine of this name is imaged anew.
pub const ANNOTATION_REIMAGED: &str = "seedbed.dev/reimaged";
/// Key of the ledger ConfigMap.
pub const LEDGER_KEY: &str = "ledger.json";

/// Selector of the machine-config Secrets of a control plane.
pub fn machine_config_selector(control_plane: &str) -> String {
    format!("{LABEL_CONTROL_PLANE}={control_plane},{LABEL_CONTENT}={CONTENT_MACHINE_CONFIG}")
}

/// Selector of the machine-config Secrets of all control planes.
pub fn all_machine_configs() -> String {
    format!("{LABEL_CONTENT}={CONTENT_MACHINE_CONFIG}")
}

/// Name of the ConfigMap that mirrors an EtcdCluster's ledger.
pub fn etcd_ledger(cluster: &str) -> String {
    format!("{cluster}-etcd-ledger")
}

/// Peer URL of the etcd member on a machine.
pub fn peer_url(address: &str) -> String {
    etcd_url(address, 2380)
}

/// Client URL of the member with this peer URL.
pub fn client_url(peer_url: &str) -> String {
    peer_url
        .strip_suffix(":2380")
        .map_or_else(|| peer_url.to_owned(), |host| format!("{host}:2379"))
}

fn etcd_url(address: &str, port: u16) -> String {
    let host_port = crate::domain::HostPort {
        host: address.to_owned(),
        port,
    };
    format!("https://{host_port}")
}

/// Labels of what belongs to a control plane.
pub fn labels(
    control_plane: &str,
    machine: Option<&str>,
    content: &str,
) -> BTreeMap<String, String> {
    let pairs = [
        (LABEL_CONTROL_PLANE, Some(control_plane)),
        (LABEL_CLUSTER_NAME, Some(control_plane)),
        (LABEL_MACHINE, machine),
        (LABEL_CONTENT, Some(content)),
    ];
    pairs
        .into_iter()
        .filter_map(|(key, value)| Some((key.to_owned(), value?.to_owned())))
        .collect()
}
