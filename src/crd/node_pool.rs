//! `NodePool`: machines that join a control plane as workers.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Taint;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::{Arg, Kubelet, LocalObjectReference, MachineConfig, Patch, rules};

/// Workers of one ControlPlane: listed machines, or any number of machines from one Secret.
#[derive(Clone, Debug, CustomResource, Deserialize, PartialEq, Serialize, KubeSchema)]
#[kube(
    group = "seedbed.dev",
    version = "v1alpha1",
    kind = "NodePool",
    namespaced,
    status = "NodePoolStatus",
    shortname = "np",
    category = "seedbed",
    derive = "PartialEq",
    doc = "Workers of one ControlPlane: listed machines, or any number of machines from one Secret.",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(
        name = "Control Plane",
        type_ = "string",
        json_path = ".spec.controlPlaneRef.name"
    ),
    printcolumn(name = "Desired", type_ = "integer", json_path = ".status.replicas"),
    printcolumn(name = "Joined", type_ = "integer", json_path = ".status.joinedReplicas"),
    printcolumn(name = "Nodes Ready", type_ = "integer", json_path = ".status.readyReplicas"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
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
    validation = rules::one_kind_of_pool(),
    validation = rules::replicas_of_listed_pool()
)]
#[serde(rename_all = "camelCase")]
pub struct NodePoolSpec {
    /// The ControlPlane to join. Immutable.
    #[x_kube(validation = rules::immutable("controlPlaneRef"))]
    pub control_plane_ref: LocalObjectReference,
    /// Kubernetes version of the kubelets. Default: the control plane's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(validation = rules::kubelet_version())]
    pub version: Option<String>,
    /// Listed pool: the machines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub machines: Option<Vec<Worker>>,
    /// Open pool: how many Nodes it may have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 5000))]
    pub max_nodes: Option<i32>,
    /// Listed pool: how many of the machines are used. Default all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 512))]
    pub replicas: Option<i32>,
    /// Labels of the Nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::schema::labels")]
    pub labels: Option<BTreeMap<String, String>>,
    /// Taints of the Nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::schema::taints")]
    pub taints: Option<Vec<Taint>>,
    /// Kubelets of the machines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubelet: Option<Kubelet>,
    /// Patches with target kubeletconfiguration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    #[x_kube(validation = rules::patch_targets(&["kubeletconfiguration"]))]
    pub patches: Option<Vec<Patch>>,
    /// Bootstrap tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<Token>,
    /// How a machine that is taken out is drained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain: Option<Drain>,
    /// Kubelet serving certificates signed by the cluster CA. Default false.
    #[serde(
        default,
        rename = "serverTLSBootstrap",
        skip_serializing_if = "Option::is_none"
    )]
    pub server_tls_bootstrap: Option<bool>,
    /// How files and commands reach the machines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine_config: Option<MachineConfig>,
    /// Stop acting on this object; what exists stays. Default false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<bool>,
}

/// A worker of a listed pool.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Worker {
    /// The Node's name: a DNS-1123 subdomain.
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = rules::node_name())]
    pub name: String,
    /// Rack, zone or host group.
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
    /// Labels of the Node, beside those of the pool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::schema::labels")]
    pub labels: Option<BTreeMap<String, String>>,
    /// Taints of the Node. Absent: those of the pool; `[]`: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::schema::taints")]
    pub taints: Option<Vec<Taint>>,
    /// `resolvConf` of the kubelet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    #[x_kube(validation = rules::absolute_path("resolvConf"))]
    pub resolv_conf: Option<String>,
    /// Arguments of this machine's kubelet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub kubelet_extra_args: Option<Vec<Arg>>,
    /// Patches of this machine, applied after those of the pool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub patches: Option<Vec<Patch>>,
}

/// Bootstrap tokens of a pool.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Token {
    /// Lifetime of a token, a Go duration of 1m to 24h. Default 15m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(validation = rules::duration("ttl", "1m", "24h"))]
    pub ttl: Option<String>,
}

/// How a machine is drained.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Drain {
    /// How long evictions may be refused, a Go duration. Default 10m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(validation = rules::duration("timeout", "1s", "24h"))]
    pub timeout: Option<String>,
}

/// What is known of the pool.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodePoolStatus {
    /// Generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Conditions by type.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "super::schema::conditions")]
    pub conditions: Vec<Condition>,
    /// Machines the pool should have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// Machines whose Node exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub joined_replicas: Option<i32>,
    /// Machines whose Node is Ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_replicas: Option<i32>,
    /// Machines that run the version and revision of the spec.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub up_to_date_replicas: Option<i32>,
    /// Label selector of the machine-config Secrets, for the scale subresource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub selector: Option<String>,
    /// Listed pool: one row a machine.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 512))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub machines: Vec<WorkerStatus>,
    /// Open pool: name of the machine-config Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub secret_name: Option<String>,
    /// Open pool: when the token in it expires, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::schema::time")]
    pub token_expiry: Option<String>,
}

/// A worker of a listed pool.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkerStatus {
    /// Name of the machine.
    #[schemars(length(max = 63))]
    pub name: String,
    /// Name of its machine-config Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub secret_name: Option<String>,
    /// Revision of the machine config: a hash of what the machine should be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub revision: Option<String>,
    /// When its token expires, RFC 3339; absent once it has joined.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::schema::time")]
    pub token_expiry: Option<String>,
    /// Its Node exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub joined: Option<bool>,
    /// Its Node is Ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_ready: Option<bool>,
    /// Version of its kubelet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub kubelet_version: Option<String>,
    /// What is wrong or awaited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32768))]
    pub message: Option<String>,
}
