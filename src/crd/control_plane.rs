//! `ControlPlane`: a highly available Kubernetes control plane on machines.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{EnvVar, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::{
    Arg, Certificates, Component, HostPathMount, Kubelet, LocalObjectReference, Machine,
    MachineConfig, NodeLoss, Patch,
};

/// The control plane of one cluster.
#[derive(Clone, Debug, CustomResource, Deserialize, PartialEq, Serialize, KubeSchema)]
#[kube(
    group = "seedbed.dev",
    version = "v1alpha1",
    kind = "ControlPlane",
    namespaced,
    status = "ControlPlaneStatus",
    shortname = "cp",
    category = "seedbed",
    derive = "PartialEq"
)]
#[serde(rename_all = "camelCase")]
pub struct ControlPlaneSpec {
    /// Kubernetes version, an exact patch release such as `v1.37.1`.
    pub version: String,
    /// Name of the cluster in kubeconfigs and `--cluster-name`. Default: the object's name. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_name: Option<String>,
    /// Where clients reach the API: a load balancer, virtual IP or DNS name
    /// (kubeadm `controlPlaneEndpoint`). May be left out with one machine in the inventory only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<Endpoint>,
    /// Number of machines that serve: 1, 3, 5 or 7.
    pub replicas: i32,
    /// The inventory. More machines than replicas are hot spares.
    pub machines: Vec<Machine>,
    /// Address ranges and DNS domain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<Network>,
    /// Where the state is kept. Default: stacked etcd on the same machines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etcd: Option<EtcdSource>,
    /// kube-apiserver.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_server: Option<ApiServer>,
    /// kube-controller-manager.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub controller_manager: Option<Component>,
    /// kube-scheduler.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduler: Option<Component>,
    /// Kubelets of the control-plane machines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubelet: Option<Kubelet>,
    /// kube-proxy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kube_proxy: Option<KubeProxy>,
    /// CoreDNS.
    #[serde(default, rename = "coreDNS", skip_serializing_if = "Option::is_none")]
    pub core_dns: Option<CoreDns>,
    /// Taints of control-plane Nodes. Absent: `node-role.kubernetes.io/control-plane:NoSchedule`;
    /// `[]`: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taints: Option<Vec<Taint>>,
    /// Patches, applied in order; a machine's own follow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patches: Option<Vec<Patch>>,
    /// Certificates and keys. CAs of your own: create the Secrets `<name>-ca`, `<name>-etcd`,
    /// `<name>-proxy` and `<name>-sa` beforehand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificates: Option<Certificates>,
    /// Which files a machine gets. Default Standard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<Profile>,
    /// Repository of the images. Default `registry.k8s.io`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_repository: Option<String>,
    /// kubeadm's own feature gates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feature_gates: Option<Vec<FeatureGate>>,
    /// How files and commands reach the machines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine_config: Option<MachineConfig>,
    /// Stop acting on this object; what exists stays. Default false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<bool>,
}

/// Host and port of an API.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint {
    /// IP address or DNS name. Immutable.
    pub host: String,
    /// Port. Default 6443.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<i32>,
}

/// Address ranges and DNS domain. Immutable.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Network {
    /// Ranges of pod addresses: one, or two of different families. Default none.
    #[serde(default, rename = "podCIDRs", skip_serializing_if = "Option::is_none")]
    pub pod_cidrs: Option<Vec<String>>,
    /// Ranges of service addresses: one, or two of different families. Default `[10.96.0.0/12]`.
    #[serde(
        default,
        rename = "serviceCIDRs",
        skip_serializing_if = "Option::is_none"
    )]
    pub service_cidrs: Option<Vec<String>>,
    /// Domain of services. Default `cluster.local`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns_domain: Option<String>,
}

/// Where the state is kept: the stacked fields, `clusterRef`, or `external`. Immutable choice.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct EtcdSource {
    /// Stacked: folder of the data on the node. Default `/var/lib/etcd`. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_dir: Option<String>,
    /// Stacked: repository of the etcd image. Default `spec.imageRepository`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_repository: Option<String>,
    /// Stacked: tag of the etcd image. Default: what kubeadm of this version uses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_tag: Option<String>,
    /// Stacked: arguments of etcd.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extra_args: Option<Vec<Arg>>,
    /// Stacked: environment variables of etcd.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extra_envs: Option<Vec<EnvVar>>,
    /// Stacked: further subject alternative names of the server certificates.
    #[serde(
        default,
        rename = "serverCertSANs",
        skip_serializing_if = "Option::is_none"
    )]
    pub server_cert_sans: Option<Vec<String>>,
    /// Stacked: further subject alternative names of the peer certificates.
    #[serde(
        default,
        rename = "peerCertSANs",
        skip_serializing_if = "Option::is_none"
    )]
    pub peer_cert_sans: Option<Vec<String>>,
    /// Stacked: when and how a lost member is removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_loss: Option<NodeLoss>,
    /// An EtcdCluster on machines of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_ref: Option<LocalObjectReference>,
    /// An etcd that Seedbed does not manage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external: Option<ExternalEtcd>,
}

/// An etcd that Seedbed does not manage (kubeadm `etcd.external`).
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExternalEtcd {
    /// Client URLs.
    pub endpoints: Vec<String>,
    /// Secret with `ca.crt`, `tls.crt` and `tls.key` of an etcd client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_name: Option<String>,
    /// Path of the CA certificate on the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<String>,
    /// Path of the client certificate on the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cert_file: Option<String>,
    /// Path of the client key on the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_file: Option<String>,
}

/// kube-apiserver.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApiServer {
    /// Arguments that replace or follow the defaults.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extra_args: Option<Vec<Arg>>,
    /// Environment variables of the container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extra_envs: Option<Vec<EnvVar>>,
    /// Host paths mounted into the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extra_volumes: Option<Vec<HostPathMount>>,
    /// Further subject alternative names of the serving certificate: IP addresses, DNS names,
    /// wildcards such as `*.example.net`.
    #[serde(default, rename = "certSANs", skip_serializing_if = "Option::is_none")]
    pub cert_sans: Option<Vec<String>>,
}

/// kube-proxy.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct KubeProxy {
    /// Do not install kube-proxy. Default false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled: Option<bool>,
    /// Fields of `KubeProxyConfiguration` (kubeproxy.config.k8s.io/v1alpha1) that replace the
    /// defaults. Unknown fields are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::schema::free_form_object")]
    pub config: Option<BTreeMap<String, serde_json::Value>>,
}

/// CoreDNS.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct CoreDns {
    /// Do not install CoreDNS. Default false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled: Option<bool>,
    /// Repository of the image. Default `<spec.imageRepository>/coredns` as kubeadm forms it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_repository: Option<String>,
    /// Tag of the image. Default: what kubeadm of this version uses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_tag: Option<String>,
}

/// Which files a machine gets, and how strict they are.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize, JsonSchema)]
pub enum Profile {
    /// Every file as kubeadm writes it.
    Kubeadm,
    /// The same manifests with least-privilege files.
    #[default]
    Standard,
    /// Standard and the flags of the CIS benchmark.
    Hardened,
}

/// A feature gate of kubeadm.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct FeatureGate {
    /// Name of the gate.
    pub name: String,
    /// On or off.
    pub enabled: bool,
}

/// What is known of the control plane.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ControlPlaneStatus {
    /// Generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Conditions by type.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = kube::core::ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// Lowest version that runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Machines that serve or are about to, without spares.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// Machines whose API server answers and whose Node is Ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_replicas: Option<i32>,
    /// Label selector of the machine-config Secrets, for the scale subresource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// URL of the API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Name of the EtcdCluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etcd_cluster: Option<String>,
    /// Healthy voters and members, for the printer column: `3/3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etcd_members: Option<String>,
    /// One row a machine.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = kube::core::ListMerge::Map(vec!["name".into()]))]
    pub machines: Vec<MachineStatus>,
    /// Certificates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificates: Option<CertificatesStatus>,
    /// Every image with its tag that the cluster needs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<String>,
    /// Defaults that were applied, by field path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolved: Option<BTreeMap<String, String>>,
}

/// A machine of the control plane.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct MachineStatus {
    /// Name of the machine.
    pub name: String,
    /// Name of its machine-config Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_name: Option<String>,
    /// Revision of the machine config: a hash of what the machine should be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// Its API server answers `/readyz` on the machine's own address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_server_ready: Option<bool>,
    /// Its Node is Ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_ready: Option<bool>,
    /// Version of its kubelet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubelet_version: Option<String>,
    /// ID of its etcd member, hexadecimal.
    #[serde(
        default,
        rename = "etcdMemberID",
        skip_serializing_if = "Option::is_none"
    )]
    pub etcd_member_id: Option<String>,
    /// A hot spare: nothing runs on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spare: Option<bool>,
    /// What is wrong or awaited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// Certificates of the control plane.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct CertificatesStatus {
    /// When the first certificate expires, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub earliest_expiry: Option<String>,
    /// Which certificate that is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub earliest_expiry_of: Option<String>,
}
