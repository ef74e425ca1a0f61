//! Shapes that more than one kind uses.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{EnvVar, Taint};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rules;

/// A command-line argument of a component, rendered as `--name=value`.
///
/// An argument replaces every default of the same name; repeats are allowed and keep their order
/// (kubeadm v1beta4 `Arg`).
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Arg {
    /// Name of the flag without leading dashes, for example `audit-log-path`.
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(validation = rules::arg_name())]
    pub name: String,
    /// Value of the flag; may be empty.
    #[schemars(length(max = 8192))]
    pub value: String,
}

/// A path of the node's file system that is mounted into a static pod (kubeadm `HostPathMount`).
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct HostPathMount {
    /// Name of the volume inside the pod; the same name as a default volume replaces it.
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = rules::volume_name())]
    pub name: String,
    /// Absolute path on the node.
    #[schemars(length(min = 1, max = 1024))]
    #[x_kube(validation = rules::absolute_path("hostPath"))]
    pub host_path: String,
    /// Absolute path inside the container.
    #[schemars(length(min = 1, max = 1024))]
    #[x_kube(validation = rules::absolute_path("mountPath"))]
    pub mount_path: String,
    /// Mount read-only. Default false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_only: Option<bool>,
    /// Type of the host path (core/v1 `HostPathType`). Default: not checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_type: Option<HostPathType>,
}

/// core/v1 `HostPathType`.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize, JsonSchema)]
pub enum HostPathType {
    DirectoryOrCreate,
    Directory,
    FileOrCreate,
    File,
    Socket,
    CharDevice,
    BlockDevice,
}

impl HostPathType {
    /// The value as core/v1 spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DirectoryOrCreate => "DirectoryOrCreate",
            Self::Directory => "Directory",
            Self::FileOrCreate => "FileOrCreate",
            Self::File => "File",
            Self::Socket => "Socket",
            Self::CharDevice => "CharDevice",
            Self::BlockDevice => "BlockDevice",
        }
    }
}

/// A change to a rendered manifest or configuration, applied last (kubeadm's patches).
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Patch {
    /// What is patched.
    pub target: PatchTarget,
    /// How the patch is merged. Default Strategic.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub patch_type: Option<PatchType>,
    /// The patch as YAML or JSON text.
    #[schemars(length(min = 1, max = 32768))]
    pub patch: String,
}

/// Targets that kubeadm 1.37 knows.
#[derive(
    Clone, Copy, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema,
)]
pub enum PatchTarget {
    #[serde(rename = "kube-apiserver")]
    KubeApiserver,
    #[serde(rename = "kube-controller-manager")]
    KubeControllerManager,
    #[serde(rename = "kube-scheduler")]
    KubeScheduler,
    #[serde(rename = "etcd")]
    Etcd,
    #[serde(rename = "kubeletconfiguration")]
    KubeletConfiguration,
    #[serde(rename = "kubeproxydaemonset")]
    KubeProxyDaemonSet,
    #[serde(rename = "corednsdeployment")]
    CoreDnsDeployment,
}

/// How a patch is merged.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize, JsonSchema)]
pub enum PatchType {
    #[default]
    Strategic,
    Merge,
    #[serde(rename = "JSON")]
    Json,
}

/// A reference to an object by name, in the same namespace.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct LocalObjectReference {
    /// Name of the object.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = rules::object_name("name"))]
    pub name: String,
}

/// Additions to one control-plane component.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Component {
    /// Arguments that replace or follow the defaults.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub extra_args: Option<Vec<Arg>>,
    /// Environment variables of the container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::schema::env_vars")]
    pub extra_envs: Option<Vec<EnvVar>>,
    /// Host paths mounted into the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    #[x_kube(validation = rules::unique_mount_paths())]
    pub extra_volumes: Option<Vec<HostPathMount>>,
}

/// The kubelets of the machines.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Kubelet {
    /// Fields of `KubeletConfiguration` (kubelet.config.k8s.io/v1beta1) that replace the defaults.
    /// Unknown fields are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::schema::free_form_object")]
    pub config: Option<BTreeMap<String, serde_json::Value>>,
    /// Arguments of the kubelet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub extra_args: Option<Vec<Arg>>,
}

/// A machine of the inventory.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Machine {
    /// The Node's name: a DNS-1123 subdomain.
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = rules::node_name())]
    #[x_kube(validation = rules::free_secret_name())]
    pub name: String,
    /// IP address at which the other machines and the operator reach this one.
    #[schemars(length(min = 1, max = 45))]
    #[x_kube(validation = rules::machine_address())]
    pub address: String,
    /// Rack, zone or host group; voters are spread over them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = rules::label_value("failureDomain"))]
    pub failure_domain: Option<String>,
    /// The operating system's hostname where it is not the name; sets `--hostname-override`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(validation = rules::hostname())]
    pub hostname: Option<String>,
    /// Socket of the container runtime. Default `unix:///run/containerd/containerd.sock`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    #[x_kube(validation = rules::cri_socket())]
    pub cri_socket: Option<String>,
    /// Labels of the Node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::schema::labels")]
    pub labels: Option<BTreeMap<String, String>>,
    /// Taints of the Node. Absent: those of the ControlPlane; `[]`: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::schema::taints")]
    pub taints: Option<Vec<Taint>>,
    /// Folders of CA certificates on this machine that the API server and the controller manager
    /// mount; kubeadm mounts those that exist, a renderer cannot look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 1024)))]
    #[x_kube(validation = rules::absolute_paths("caDirectories"))]
    pub ca_directories: Option<Vec<String>>,
    /// `resolvConf` of the kubelet, for example `/run/systemd/resolve/resolv.conf`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    #[x_kube(validation = rules::absolute_path("resolvConf"))]
    pub resolv_conf: Option<String>,
    /// Arguments of this machine's kubelet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub kubelet_extra_args: Option<Vec<Arg>>,
    /// Patches of this machine, applied after those of the ControlPlane.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub patches: Option<Vec<Patch>>,
    /// Port of the API server on this machine. Default 6443. Control planes only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    #[x_kube(validation = rules::bind_port())]
    pub bind_port: Option<i32>,
}

/// Certificates and keys.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Certificates {
    /// Algorithm of every key. Default ECDSA-P256. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_algorithm: Option<KeyAlgorithm>,
    /// Validity of leaf certificates, a Go duration. Default 8760h (one year).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(validation = rules::duration("leafValidity", "10m", "876000h"))]
    pub leaf_validity: Option<String>,
    /// Validity of CA certificates, a Go duration. Default 87600h (ten years).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(validation = rules::duration("caValidity", "10m", "876000h"))]
    pub ca_validity: Option<String>,
    /// Folder of certificates on the node. Default `/etc/kubernetes/pki`. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    #[x_kube(validation = rules::folder("directory"))]
    pub directory: Option<String>,
    /// Which CA keys the machines hold. ClusterCA: the cluster CA's only, which the controller
    /// manager signs kubelet certificates with. All: every CA's, as kubeadm. Default ClusterCA
    /// (profile Kubeadm: All).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_keys_on_nodes: Option<CaKeysOnNodes>,
}

/// Key algorithms (kubeadm `encryptionAlgorithm`).
#[derive(
    Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema,
)]
pub enum KeyAlgorithm {
    #[default]
    #[serde(rename = "ECDSA-P256")]
    EcdsaP256,
    #[serde(rename = "ECDSA-P384")]
    EcdsaP384,
    #[serde(rename = "RSA-2048")]
    Rsa2048,
    #[serde(rename = "RSA-3072")]
    Rsa3072,
    #[serde(rename = "RSA-4096")]
    Rsa4096,
}

impl KeyAlgorithm {
    /// The name as the API spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::EcdsaP256 => "ECDSA-P256",
            Self::EcdsaP384 => "ECDSA-P384",
            Self::Rsa2048 => "RSA-2048",
            Self::Rsa3072 => "RSA-3072",
            Self::Rsa4096 => "RSA-4096",
        }
    }
}

/// Which CA keys the machines hold.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize, JsonSchema)]
pub enum CaKeysOnNodes {
    #[default]
    #[serde(rename = "ClusterCA")]
    ClusterCa,
    All,
    None,
}

/// When and how a lost etcd member is removed.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeLoss {
    /// Silence after which a member counts as lost, a Go duration of 1m to 24h. Default 5m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(validation = rules::duration("timeout", "1m", "24h"))]
    pub timeout: Option<String>,
    /// What happens then. RemoveMember: it is removed where quorum allows, and a spare takes its
    /// place. ReportOnly: conditions and events only. Default RemoveMember.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<NodeLossAction>,
}

/// What happens to a lost member.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize, JsonSchema)]
pub enum NodeLossAction {
    #[default]
    RemoveMember,
    ReportOnly,
}
