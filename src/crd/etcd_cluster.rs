//! `EtcdCluster`: the members of one etcd, stacked or on machines of its own.

use k8s_openapi::api::core::v1::EnvVar;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::{
    Arg, Certificates, EtcdClusterStatus, Kubelet, Machine, MachineConfig, NodeLoss, Patch, rules,
};

/// One etcd cluster.
///
/// A ControlPlane with stacked etcd makes and owns one; edits to that one are put back. One that you
/// make runs on machines of its own, and ControlPlanes refer to it.
#[derive(Clone, Debug, CustomResource, Deserialize, PartialEq, Serialize, KubeSchema)]
#[kube(
    group = "seedbed.dev",
    version = "v1alpha1",
    kind = "EtcdCluster",
    namespaced,
    status = "EtcdClusterStatus",
    shortname = "etcdc",
    category = "seedbed",
    derive = "PartialEq",
    doc = "One etcd cluster. A ControlPlane with stacked etcd makes and owns one; edits to that one are put back. One that you make runs on machines of its own, and ControlPlanes refer to it.",
    scale(
        spec_replicas_path = ".spec.size",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(name = "Version", type_ = "string", json_path = ".spec.version"),
    printcolumn(
        name = "Members",
        type_ = "string",
        json_path = ".status.healthyMembers",
        description = "Healthy voters and the size of the spec."
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Cluster ID",
        type_ = "string",
        json_path = ".status.clusterID",
        priority = 1
    ),
    printcolumn(
        name = "Paused",
        type_ = "boolean",
        json_path = ".spec.paused",
        priority = 1
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        priority = 1
    ),
    validation = rules::name_fits_labels()
)]
#[x_kube(
    validation = rules::within_inventory("size"),
    validation = rules::one_way("dataDir", "'/var/lib/etcd'"),
    validation = rules::one_way("certificates.keyAlgorithm", "'ECDSA-P256'"),
    validation = rules::one_way("certificates.directory", "'/etc/kubernetes/pki'")
)]
#[serde(rename_all = "camelCase")]
pub struct EtcdClusterSpec {
    /// etcd version such as `3.7.0`; the image tag follows from it.
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(validation = rules::etcd_version())]
    pub version: String,
    /// Number of voters: 1, 3, 5 or 7.
    #[schemars(range(min = 1, max = 7))]
    #[x_kube(validation = rules::odd_count("size"))]
    pub size: i32,
    /// The inventory. More machines than `size` are spares.
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    #[x_kube(validation = rules::unique_addresses())]
    pub machines: Vec<Machine>,
    /// Repository of the image. Default `registry.k8s.io`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    #[x_kube(validation = rules::image_repository("imageRepository"))]
    pub image_repository: Option<String>,
    /// Tag of the image. Default `<version>-0`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    #[x_kube(validation = rules::image_tag())]
    pub image_tag: Option<String>,
    /// Folder of the data on the node. Default `/var/lib/etcd`. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    #[x_kube(validation = rules::folder("dataDir"))]
    pub data_dir: Option<String>,
    /// Arguments of etcd.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub extra_args: Option<Vec<Arg>>,
    /// Environment variables of etcd.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::schema::env_vars")]
    pub extra_envs: Option<Vec<EnvVar>>,
    /// Further subject alternative names of the server certificates.
    #[serde(
        default,
        rename = "serverCertSANs",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(length(max = 64), inner(length(min = 1, max = 253)))]
    #[x_kube(validation = rules::sans("serverCertSANs"))]
    pub server_cert_sans: Option<Vec<String>>,
    /// Further subject alternative names of the peer certificates.
    #[serde(
        default,
        rename = "peerCertSANs",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(length(max = 64), inner(length(min = 1, max = 253)))]
    #[x_kube(validation = rules::sans("peerCertSANs"))]
    pub peer_cert_sans: Option<Vec<String>>,
    /// Certificates and keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificates: Option<Certificates>,
    /// When and how a lost member is removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_loss: Option<NodeLoss>,
    /// Kubelets of the machines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubelet: Option<Kubelet>,
    /// Patches with target etcd or kubeletconfiguration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    #[x_kube(validation = rules::patch_targets(&["etcd", "kubeletconfiguration"]))]
    pub patches: Option<Vec<Patch>>,
    /// How files and commands reach the machines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine_config: Option<MachineConfig>,
    /// Stop acting on this object; what exists stays. Default false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<bool>,
}
