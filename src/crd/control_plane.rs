//! `ControlPlane`: a highly available Kubernetes control plane on machines.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{EnvVar, Taint};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Arg, Certificates, Component, ControlPlaneStatus, HostPathMount, Kubelet, LocalObjectReference,
    Machine, MachineConfig, NodeLoss, Patch, rules,
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
    derive = "PartialEq",
    doc = "A highly available Kubernetes control plane on machines.",
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
    printcolumn(name = "Version", type_ = "string", json_path = ".status.version"),
    printcolumn(name = "Replicas", type_ = "string", json_path = ".status.readyMachines"),
    printcolumn(name = "Etcd", type_ = "string", json_path = ".status.etcdMembers"),
    printcolumn(
        name = "Certs",
        type_ = "string",
        json_path = ".status.certificates.earliestExpiry",
        description = "When the first certificate expires."
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Endpoint",
        type_ = "string",
        json_path = ".status.endpoint",
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
    validation = rules::name_fits_labels(),
    validation = rules::one_way_cluster_name()
)]
#[x_kube(
    validation = rules::within_inventory("replicas"),
    validation = rules::endpoint_required(),
    validation = rules::machines_outside_ranges(),
    validation = rules::one_way("endpoint.host", "''"),
    validation = rules::one_way("network.podCIDRs", "[]"),
    validation = rules::one_way("network.serviceCIDRs", "['10.96.0.0/12']"),
    validation = rules::one_way("network.dnsDomain", "'cluster.local'"),
    validation = rules::one_way("etcd.dataDir", "'/var/lib/etcd'"),
    validation = rules::one_way("etcd.clusterRef.name", "''"),
    validation = rules::one_way_presence("etcd.external"),
    validation = rules::one_way("certificates.keyAlgorithm", "'ECDSA-P256'"),
    validation = rules::one_way("certificates.directory", "'/etc/kubernetes/pki'")
)]
#[serde(rename_all = "camelCase")]
pub struct ControlPlaneSpec {
    /// Kubernetes version, an exact patch release such as `v1.37.1`.
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(validation = rules::kubernetes_version())]
    #[x_kube(validation = rules::kubernetes_version_step())]
    pub version: String,
    /// Name of the cluster in kubeconfigs and `--cluster-name`. Default: the object's name. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = rules::dns_name("clusterName"))]
    pub cluster_name: Option<String>,
    /// Where clients reach the API: a load balancer, virtual IP or DNS name
    /// (kubeadm `controlPlaneEndpoint`). May be left out with one machine in the inventory only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<Endpoint>,
    /// Number of machines that serve: 1, 3, 5 or 7.
    #[schemars(range(min = 1, max = 7))]
    #[x_kube(validation = rules::odd_count("replicas"))]
    pub replicas: i32,
    /// The inventory. More machines than replicas are hot spares.
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    #[x_kube(validation = rules::unique_addresses())]
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
    #[schemars(schema_with = "super::schema::taints")]
    pub taints: Option<Vec<Taint>>,
    /// Patches, applied in order; a machine's own follow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub patches: Option<Vec<Patch>>,
    /// Certificates and keys. CAs of your own: create the Secrets `<name>-ca`, `<name>-etcd`,
    /// `<name>-proxy` and `<name>-sa` beforehand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificates: Option<Certificates>,
    /// Which files a machine gets. Kubeadm: every file as kubeadm writes it. Standard: the same
    /// manifests with least-privilege files. Hardened: Standard and the flags of the CIS benchmark.
    /// Default Standard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<Profile>,
    /// Repository of the images. Default `registry.k8s.io`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    #[x_kube(validation = rules::image_repository("imageRepository"))]
    pub image_repository: Option<String>,
    /// kubeadm's own feature gates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
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
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = rules::endpoint_host())]
    pub host: String,
    /// Port. Default 6443.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<i32>,
}

/// Address ranges and DNS domain. Immutable.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rules::ranges_apart())]
pub struct Network {
    /// Ranges of pod addresses: one, or two of different families. Default none.
    #[serde(default, rename = "podCIDRs", skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::schema::cidrs")]
    #[x_kube(validation = rules::cidrs("podCIDRs"))]
    #[x_kube(validation = rules::cidr_families("podCIDRs"))]
    #[x_kube(validation = rules::pod_cidr_size())]
    pub pod_cidrs: Option<Vec<String>>,
    /// Ranges of service addresses: one, or two of different families. Default `[10.96.0.0/12]`.
    #[serde(
        default,
        rename = "serviceCIDRs",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(schema_with = "super::schema::cidrs")]
    #[x_kube(validation = rules::at_least_one("serviceCIDRs"))]
    #[x_kube(validation = rules::cidrs("serviceCIDRs"))]
    #[x_kube(validation = rules::cidr_families("serviceCIDRs"))]
    #[x_kube(validation = rules::service_cidr_size())]
    pub service_cidrs: Option<Vec<String>>,
    /// Domain of services. Default `cluster.local`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = rules::dns_name("dnsDomain"))]
    pub dns_domain: Option<String>,
}

/// Where the state is kept: the stacked fields, `clusterRef`, or `external`. Immutable choice.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rules::one_kind_of_etcd())]
pub struct EtcdSource {
    /// Stacked: folder of the data on the node. Default `/var/lib/etcd`. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    #[x_kube(validation = rules::folder("dataDir"))]
    pub data_dir: Option<String>,
    /// Stacked: repository of the etcd image. Default `spec.imageRepository`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    #[x_kube(validation = rules::image_repository("imageRepository"))]
    pub image_repository: Option<String>,
    /// Stacked: tag of the etcd image. Default: what kubeadm of this version uses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    #[x_kube(validation = rules::image_tag())]
    pub image_tag: Option<String>,
    /// Stacked: arguments of etcd.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub extra_args: Option<Vec<Arg>>,
    /// Stacked: environment variables of etcd.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::schema::env_vars")]
    pub extra_envs: Option<Vec<EnvVar>>,
    /// Stacked: further subject alternative names of the server certificates.
    #[serde(
        default,
        rename = "serverCertSANs",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(length(max = 64), inner(length(min = 1, max = 253)))]
    #[x_kube(validation = rules::sans("serverCertSANs"))]
    pub server_cert_sans: Option<Vec<String>>,
    /// Stacked: further subject alternative names of the peer certificates.
    #[serde(
        default,
        rename = "peerCertSANs",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(length(max = 64), inner(length(min = 1, max = 253)))]
    #[x_kube(validation = rules::sans("peerCertSANs"))]
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

impl ControlPlaneSpec {
    /// Whether etcd runs on the control plane's own machines.
    pub fn has_stacked_etcd(&self) -> bool {
        let etcd = self.etcd.as_ref();
        !etcd.is_some_and(|etcd| etcd.cluster_ref.is_some() || etcd.external.is_some())
    }

    /// Name of the EtcdCluster that holds the state of the ControlPlane `name`: its own, or the one
    /// that it refers to. `None` for an etcd that Seedbed does not manage.
    pub fn etcd_cluster<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        let etcd = self.etcd.as_ref();
        match etcd.and_then(|etcd| etcd.cluster_ref.as_ref()) {
            Some(reference) => Some(&reference.name),
            None if etcd.is_some_and(|etcd| etcd.external.is_some()) => None,
            None => Some(name),
        }
    }
}

/// An etcd that Seedbed does not manage (kubeadm `etcd.external`).
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rules::external_files())]
pub struct ExternalEtcd {
    /// Client URLs.
    #[schemars(length(min = 1, max = 16), inner(length(min = 1, max = 512)))]
    #[x_kube(validation = rules::client_urls())]
    pub endpoints: Vec<String>,
    /// Secret with `ca.crt`, `tls.crt` and `tls.key` of an etcd client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = rules::object_name("secretName"))]
    pub secret_name: Option<String>,
    /// Path of the CA certificate on the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    #[x_kube(validation = rules::absolute_path("caFile"))]
    pub ca_file: Option<String>,
    /// Path of the client certificate on the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    #[x_kube(validation = rules::absolute_path("certFile"))]
    pub cert_file: Option<String>,
    /// Path of the client key on the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    #[x_kube(validation = rules::absolute_path("keyFile"))]
    pub key_file: Option<String>,
}

/// kube-apiserver.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApiServer {
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
    /// Further subject alternative names of the serving certificate: IP addresses, DNS names,
    /// wildcards such as `*.example.net`.
    #[serde(default, rename = "certSANs", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128), inner(length(min = 1, max = 253)))]
    #[x_kube(validation = rules::sans("certSANs"))]
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
    #[schemars(length(min = 1, max = 255))]
    #[x_kube(validation = rules::image_repository("imageRepository"))]
    pub image_repository: Option<String>,
    /// Tag of the image. Default: what kubeadm of this version uses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    #[x_kube(validation = rules::image_tag())]
    pub image_tag: Option<String>,
}

/// Which files a machine gets, and how strict they are.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize, JsonSchema)]
pub enum Profile {
    Kubeadm,
    #[default]
    Standard,
    Hardened,
}

/// A feature gate of kubeadm.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct FeatureGate {
    /// Name of the gate.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// On or off.
    pub enabled: bool,
}
