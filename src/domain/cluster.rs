//! The control plane with every default applied and every value parsed.
//!
//! `controllers/control_plane/resolve.rs` and `seedbed render` make it; `pki`, `manifests`,
//! `machine_config` and `target` read it and nothing else, so no renderer knows a default.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use k8s_openapi::api::core::v1::{EnvVar, Taint};
use zeroize::Zeroizing;

use super::{Cidr, Etcd, KubeVersion, KubeletPatch, NodeName};
use crate::crd::{Arg, HostPathMount, KeyAlgorithm, MachineConfigFormat};

/// A control plane as it shall be.
#[derive(Clone, Debug)]
pub struct ControlPlane {
    /// Name of the object in the seed; prefix of every Secret.
    pub name: String,
    /// Namespace of the object in the seed.
    pub namespace: String,
    /// Name of the cluster in kubeconfigs and `--cluster-name`.
    pub cluster_name: String,
    pub version: KubeVersion,
    /// `controlPlaneEndpoint`; `None` only with a single machine, whose address serves then.
    pub endpoint: Option<HostPort>,
    /// Machines that serve, in the order of the inventory. With stacked etcd, after the founding:
    /// those that have an etcd member.
    pub machines: Vec<Machine>,
    /// Machines of the inventory that nothing runs on.
    pub spares: Vec<Machine>,
    /// The first founder, where kubeadm would have run `init`. `None` before the founding: the
    /// first machine.
    pub initial_machine: Option<NodeName>,
    pub pod_cidrs: Vec<Cidr>,
    /// At least one.
    pub service_cidrs: Vec<Cidr>,
    pub dns_domain: String,
    pub etcd: Etcd,
    pub api_server: ApiServer,
    pub controller_manager: Component,
    pub scheduler: Component,
    pub kubelet: Kubelet,
    pub kube_proxy: KubeProxy,
    pub core_dns: CoreDns,
    pub key_algorithm: KeyAlgorithm,
    pub leaf_validity: Duration,
    pub ca_validity: Duration,
    /// Folder of certificates on the node, absolute, without a trailing slash.
    pub certificates_dir: String,
    pub ca_keys_on_nodes: CaKeyPlacement,
    pub profile: Profile,
    pub image_repository: String,
    /// Format, files, commands and limits of the machine config.
    pub user_data_format: MachineConfigFormat,
    pub files: Vec<UserFile>,
    pub pre_commands: Vec<String>,
    pub post_commands: Vec<String>,
    pub os_preparation: bool,
    pub size_budget_bytes: usize,
}

/// A host (IP address or DNS name) and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    pub host: String,
    pub port: u16,
}

impl fmt::Display for HostPort {
    /// `host:port`, an IPv6 address in brackets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// A machine of the inventory.
#[derive(Clone, Debug)]
pub struct Machine {
    pub name: NodeName,
    pub address: IpAddr,
    pub failure_domain: Option<String>,
    /// `--hostname-override` is rendered when the operating system's hostname differs from the name.
    pub hostname: Option<String>,
    pub cri_socket: String,
    pub labels: BTreeMap<String, String>,
    /// Inherited or its own; empty: none.
    pub taints: Vec<Taint>,
    pub ca_directories: Vec<String>,
    pub resolv_conf: Option<String>,
    pub kubelet_extra_args: Vec<Arg>,
    /// The control plane's, then its own.
    pub kubelet_patches: Vec<KubeletPatch>,
    pub bind_port: u16,
}

impl Machine {
    /// Where this machine's own API server listens: `address:bindPort`.
    pub fn api_endpoint(&self) -> HostPort {
        HostPort {
            host: self.address.to_string(),
            port: self.bind_port,
        }
    }

    /// `https://address:2380`.
    pub fn peer_url(&self) -> String {
        format!(
            "https://{}",
            HostPort {
                host: self.address.to_string(),
                port: 2380
            }
        )
    }

    /// `https://address:2379`.
    pub fn client_url(&self) -> String {
        format!(
            "https://{}",
            HostPort {
                host: self.address.to_string(),
                port: 2379
            }
        )
    }
}

impl ControlPlane {
    /// The API's host and port for clients: the endpoint, else the first machine's own.
    pub fn public_endpoint(&self) -> Option<HostPort> {
        self.endpoint
            .clone()
            .or_else(|| self.machines.first().map(Machine::api_endpoint))
    }
}

/// Additions to a component.
#[derive(Clone, Debug, Default)]
pub struct Component {
    pub extra_args: Vec<Arg>,
    pub extra_envs: Vec<EnvVar>,
    pub extra_volumes: Vec<HostPathMount>,
}

/// kube-apiserver.
#[derive(Clone, Debug, Default)]
pub struct ApiServer {
    pub component: Component,
    pub cert_sans: Vec<String>,
}

/// Kubelets of the control-plane machines.
#[derive(Clone, Debug, Default)]
pub struct Kubelet {
    /// Fields that replace defaults of `KubeletConfiguration`.
    pub config: BTreeMap<String, serde_json::Value>,
    pub extra_args: Vec<Arg>,
}

/// kube-proxy.
#[derive(Clone, Debug, Default)]
pub struct KubeProxy {
    pub disabled: bool,
    /// Fields that replace defaults of `KubeProxyConfiguration`.
    pub config: BTreeMap<String, serde_json::Value>,
}

/// CoreDNS.
#[derive(Clone, Debug, Default)]
pub struct CoreDns {
    pub disabled: bool,
    /// Repository given by the user; `None`: derived as kubeadm does.
    pub image_repository: Option<String>,
    pub image_tag: Option<String>,
}

/// Which CA keys the machines hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CaKeyPlacement {
    /// The cluster CA's only.
    ClusterCa,
    /// Every CA's, as kubeadm.
    All,
}

/// Which files a machine gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// Every file as kubeadm writes it.
    Kubeadm,
    /// Least privilege.
    Standard,
}

/// A file that the user brings, its content already read. No `Debug` of the content: it may come
/// from a Secret.
#[derive(Clone)]
pub struct UserFile {
    pub path: String,
    pub mode: u32,
    pub owner: String,
    pub content: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for UserFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UserFile")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}
