//! Labels, keys and URLs that several stages agree on.

use std::collections::BTreeMap;

/// Label with the ControlPlane's name on everything that belongs to it.
pub const LABEL_CONTROL_PLANE: &str = "seedbed.dev/control-plane";
/// Label with the EtcdCluster's name on everything that belongs to one on machines of its own.
pub const LABEL_ETCD_CLUSTER: &str = "seedbed.dev/etcd-cluster";
/// Label with the machine's name on what belongs to one machine.
pub const LABEL_MACHINE: &str = "seedbed.dev/machine";
/// Label with the NodePool's name on what belongs to it: Secrets in the seed, Nodes in the target.
pub const LABEL_NODE_POOL: &str = "seedbed.dev/node-pool";
/// Label on a Node of a pool with the revision of the machine config that it has joined with.
pub const LABEL_NODE_REVISION: &str = "seedbed.dev/revision";
/// Label that says what a Secret is: `ca`, `certificates`, `kubeconfig`, `machine-config` or
/// `tokens`.
pub const LABEL_CONTENT: &str = "seedbed.dev/content";
/// Label of the Cluster API contract.
pub const LABEL_CLUSTER_NAME: &str = "cluster.x-k8s.io/cluster-name";
/// Value of [`LABEL_CONTENT`] on machine-config Secrets.
pub const CONTENT_MACHINE_CONFIG: &str = "machine-config";
/// Value of [`LABEL_CONTENT`] on the Secret with the bootstrap tokens of a node pool.
pub const CONTENT_TOKENS: &str = "tokens";
/// Key of that Secret.
pub const TOKENS_KEY: &str = "tokens.json";
/// Annotation with the public half of the bootstrap token that a worker's user data names.
pub const ANNOTATION_TOKEN_ID: &str = "seedbed.dev/token-id";
/// How long a token of a node pool is valid when its spec does not say.
pub const TOKEN_TTL: &str = "15m";
/// Finalizer of a NodePool: its Nodes are drained and deleted before it goes.
pub const NODE_POOL_FINALIZER: &str = "seedbed.dev/node-pool";
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
/// Annotation on a machine-config Secret: name of the etcd member that has started, and that
/// does not start on an empty disk any more by this config.
pub const ANNOTATION_KEEPS_DATA_OF: &str = "seedbed.dev/keeps-data-of";
/// Annotation on a ControlPlane or EtcdCluster: the machine of this name is imaged anew.
pub const ANNOTATION_REIMAGED: &str = "seedbed.dev/reimaged";
/// Key of the ledger ConfigMap.
pub const LEDGER_KEY: &str = "ledger.json";

/// Selector of the machine-config Secrets of a control plane.
pub fn machine_config_selector(control_plane: &str) -> String {
    machine_configs_under(LABEL_CONTROL_PLANE, control_plane)
}

/// Selector of the machine-config Secrets of the object that `label` names.
pub fn machine_configs_under(label: &str, name: &str) -> String {
    format!("{label}={name},{LABEL_CONTENT}={CONTENT_MACHINE_CONFIG}")
}

/// Selector of the machine-config Secrets of all control planes.
pub fn all_machine_configs() -> String {
    format!("{LABEL_CONTENT}={CONTENT_MACHINE_CONFIG},{LABEL_CONTROL_PLANE}")
}

/// Selector of the machine-config Secrets of a node pool.
pub fn worker_config_selector(pool: &str) -> String {
    format!("{LABEL_NODE_POOL}={pool},{LABEL_CONTENT}={CONTENT_MACHINE_CONFIG}")
}

/// Secret that a worker boots from: named as those of control-plane machines, so that no machine
/// can have two. `machine` is the pool's name where all of its machines share one.
pub fn worker_config(control_plane: &str, machine: &str) -> String {
    format!("{control_plane}-{machine}")
}

/// Secret with the bootstrap tokens of a node pool.
pub fn pool_tokens(control_plane: &str, pool: &str) -> String {
    format!("{control_plane}-{pool}-tokens")
}

/// Labels of what belongs to a node pool. Not [`LABEL_CONTROL_PLANE`]: whatever carries that is
/// read with every look at the control plane.
pub fn pool_labels(
    control_plane: &str,
    pool: &str,
    machine: Option<&str>,
    content: &str,
) -> BTreeMap<String, String> {
    let pairs = [
        (LABEL_NODE_POOL, Some(pool)),
        (LABEL_CLUSTER_NAME, Some(control_plane)),
        (LABEL_MACHINE, machine),
        (LABEL_CONTENT, Some(content)),
    ];
    pairs
        .into_iter()
        .filter_map(|(key, value)| Some((key.to_owned(), value?.to_owned())))
        .collect()
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
    labels_under(LABEL_CONTROL_PLANE, control_plane, machine, content)
}

/// Labels of what belongs to the object that `label` names: a ControlPlane or an EtcdCluster.
pub fn labels_under(
    label: &str,
    name: &str,
    machine: Option<&str>,
    content: &str,
) -> BTreeMap<String, String> {
    let pairs = [
        (label, Some(name)),
        (LABEL_CLUSTER_NAME, Some(name)),
        (LABEL_MACHINE, machine),
        (LABEL_CONTENT, Some(content)),
    ];
    pairs
        .into_iter()
        .filter_map(|(key, value)| Some((key.to_owned(), value?.to_owned())))
        .collect()
}
