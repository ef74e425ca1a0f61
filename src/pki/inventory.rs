//! Which certificates must exist, and what each one says.
//!
//! Sources: kubeadm's `cmd/kubeadm/app/phases/certs/certlist.go` (subjects, signers, usages),
//! `util/pkiutil/pki_helpers.go` (alternative names), `phases/kubeconfig` (identities).

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Ca, Leaf};
use crate::domain::{
    Cidr, ControlPlane, Etcd, EtcdCluster, EtcdCredentials, EtcdMembers, KubeVersion, Machine,
    NodeName, Profile,
};

/// Group that ClusterRoleBinding `kubeadm:cluster-admins` makes cluster administrators.
const CLUSTER_ADMINS: &str = "kubeadm:cluster-admins";
/// Group that passes every authorization check, with or without RBAC objects.
const SYSTEM_MASTERS: &str = "system:masters";

/// What a leaf certificate says. Two equal specs need only one certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertSpec {
    pub signer: Ca,
    pub subject: Subject,
    /// Without duplicates, sorted.
    pub dns_names: Vec<String>,
    /// Without duplicates, in kubeadm's order.
    pub ip_addresses: Vec<IpAddr>,
    /// Extended key usages, in kubeadm's order.
    pub usages: Vec<Usage>,
}

/// Subject of a certificate: the user name and the group for Kubernetes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    pub common_name: String,
    pub organization: Option<String>,
}

/// Extended key usage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Usage {
    ServerAuth,
    ClientAuth,
}

/// An identity of the operator itself. Its certificate is made in memory, lives shortly and is
/// never stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OperatorIdentity {
    /// Towards the target's API server, in `system:masters`: it makes the RBAC that everyone
    /// else's rights come from.
    TargetAdmin,
    /// Towards etcd.
    EtcdClient,
}

/// Why a certificate cannot be described.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InventoryError {
    #[error(
        "spec.network.serviceCIDRs: the first range has no address for the API server's Service; \
         give one of at least two addresses, such as 10.96.0.0/12"
    )]
    NoServiceAddress,
}

/// Everything that has to exist for one object.
#[derive(Clone, Debug, Default)]
pub struct Inventory {
    /// CAs of its own.
    pub cas: Vec<Ca>,
    /// A CA that another object has made.
    pub borrowed: Option<Ca>,
    pub service_account: bool,
    pub cluster_admin: bool,
    /// The leaves of each machine.
    pub machines: Vec<(NodeName, BTreeMap<Leaf, CertSpec>)>,
}

/// What a control plane needs.
pub fn of_control_plane(control_plane: &ControlPlane) -> Result<Inventory, InventoryError> {
    let (etcd, borrowed) = match &control_plane.etcd {
        Etcd::Stacked(_) => (Some(Ca::Etcd), None),
        Etcd::External(external) => match external.credentials {
            EtcdCredentials::Issued { .. } => (None, Some(Ca::Etcd)),
            EtcdCredentials::Given(_) => (None, None),
        },
    };
    let own = |ca: &Ca| *ca != Ca::Etcd || etcd.is_some();
    let leaves = |machine: &Machine| {
        let leaves = machine_leaves(control_plane, machine)?;
        Ok((machine.name.clone(), leaves))
    };
    Ok(Inventory {
        cas: Ca::ALL.into_iter().filter(own).collect(),
        borrowed,
        service_account: true,
        cluster_admin: true,
        machines: control_plane
            .machines
            .iter()
            .map(leaves)
            .collect::<Result<_, _>>()?,
    })
}

/// What an EtcdCluster on machines of its own needs.
pub fn of_etcd_cluster(cluster: &EtcdCluster) -> Inventory {
    let leaves = |machine: &Machine| {
        let leaves = etcd_machine_leaves(&cluster.members, machine);
        (machine.name.clone(), leaves)
    };
    Inventory {
        cas: vec![Ca::Etcd],
        machines: cluster.machines.iter().map(leaves).collect(),
        ..Inventory::default()
    }
}

/// The leaves of a machine that runs nothing but etcd, as kubeadm's guide to such machines has them.
pub fn etcd_machine_leaves(members: &EtcdMembers, machine: &Machine) -> BTreeMap<Leaf, CertSpec> {
    let server = etcd_member(machine, &members.server_cert_sans);
    let peer = etcd_member(machine, &members.peer_cert_sans);
    BTreeMap::from([
        (Leaf::EtcdServer, server),
        (Leaf::EtcdPeer, peer),
        (Leaf::EtcdHealthcheckClient, healthcheck_client()),
    ])
}

/// The leaves that a machine of a control plane must have.
pub fn machine_leaves(
    control_plane: &ControlPlane,
    machine: &Machine,
) -> Result<BTreeMap<Leaf, CertSpec>, InventoryError> {
    let first = control_plane.machines.first().map(|first| &first.name);
    let first = control_plane.initial_machine.as_ref().or(first);
    let is_first = first == Some(&machine.name);
    Leaf::ALL
        .into_iter()
        .filter(|leaf| has_leaf(control_plane, is_first, *leaf))
        .map(|leaf| Ok((leaf, leaf_spec(control_plane, machine, leaf)?)))
        .collect()
}

/// Whether a machine holds a leaf. `Standard` leaves out what no component on the machine uses:
/// probes of etcd need no client certificate, and administrators have Secret
/// `<name>-kubeconfig`. kubeadm writes `super-admin.conf` on the machine of `init` only, and nothing
/// about etcd where that is external; a client of an EtcdCluster gets its certificate all the same.
fn has_leaf(control_plane: &ControlPlane, is_first_machine: bool, leaf: Leaf) -> bool {
    let like_kubeadm = control_plane.profile == Profile::Kubeadm;
    let (stacked, issued) = match &control_plane.etcd {
        Etcd::Stacked(_) => (true, true),
        Etcd::External(external) => {
            let issued = matches!(external.credentials, EtcdCredentials::Issued { .. });
            (false, issued)
        }
    };
    match leaf {
        Leaf::EtcdServer | Leaf::EtcdPeer => stacked,
        Leaf::EtcdHealthcheckClient => stacked && like_kubeadm,
        Leaf::ApiServerEtcdClient => issued,
        Leaf::AdminKubeconfig => like_kubeadm,
        Leaf::SuperAdminKubeconfig => like_kubeadm && is_first_machine,
        _ => true,
    }
}

/// What one leaf of a machine says.
pub fn leaf_spec(
    control_plane: &ControlPlane,
    machine: &Machine,
    leaf: Leaf,
) -> Result<CertSpec, InventoryError> {
    let node = machine.name.as_str();
    let sans = |of: fn(&EtcdMembers) -> &Vec<String>| {
        let members = control_plane.etcd.stacked();
        members.map_or(&[][..], |members| of(members))
    };
    Ok(match leaf {
        Leaf::ApiServer => api_server(control_plane, machine)?,
        Leaf::ApiServerKubeletClient => client(
            Ca::Cluster,
            "kube-apiserver-kubelet-client",
            kubelet_client_organization(control_plane.version),
        ),
        Leaf::ApiServerEtcdClient => client(Ca::Etcd, "kube-apiserver-etcd-client", None),
        Leaf::FrontProxyClient => client(Ca::FrontProxy, "front-proxy-client", None),
        Leaf::EtcdServer => etcd_member(machine, sans(|members| &members.server_cert_sans)),
        Leaf::EtcdPeer => etcd_member(machine, sans(|members| &members.peer_cert_sans)),
        Leaf::EtcdHealthcheckClient => healthcheck_client(),
        Leaf::AdminKubeconfig => cluster_admin(),
        Leaf::SuperAdminKubeconfig => {
            client(Ca::Cluster, "kubernetes-super-admin", Some(SYSTEM_MASTERS))
        }
        Leaf::ControllerManagerKubeconfig => {
            client(Ca::Cluster, "system:kube-controller-manager", None)
        }
        Leaf::SchedulerKubeconfig => client(Ca::Cluster, "system:kube-scheduler", None),
        Leaf::KubeletKubeconfig => client(
            Ca::Cluster,
            &format!("system:node:{node}"),
            Some("system:nodes"),
        ),
    })
}

/// The user of `admin.conf` and of Secret `<name>-kubeconfig`: `kubernetes-admin`, whose rights
/// come from ClusterRoleBinding `kubeadm:cluster-admins` and can be taken away with it.
pub fn cluster_admin() -> CertSpec {
    client(Ca::Cluster, "kubernetes-admin", Some(CLUSTER_ADMINS))
}

fn healthcheck_client() -> CertSpec {
    client(Ca::Etcd, "kube-etcd-healthcheck-client", None)
}

/// A client certificate of the operator's own.
pub fn operator_client(identity: OperatorIdentity) -> CertSpec {
    match identity {
        OperatorIdentity::TargetAdmin => {
            client(Ca::Cluster, "seedbed-operator", Some(SYSTEM_MASTERS))
        }
        OperatorIdentity::EtcdClient => client(Ca::Etcd, "seedbed-operator", None),
    }
}

fn client(signer: Ca, common_name: &str, organization: Option<&str>) -> CertSpec {
    CertSpec {
        signer,
        subject: Subject {
            common_name: common_name.to_owned(),
            organization: organization.map(str::to_owned),
        },
        dns_names: Vec::new(),
        ip_addresses: Vec::new(),
        usages: vec![Usage::ClientAuth],
    }
}

/// First patch release of each minor whose `apiserver-kubelet-client` is in no group: from there on
/// its rights come from ClusterRoleBinding `kubeadm:apiserver-kubelet-client`
/// (kubernetes/kubernetes PR 138957 and its cherry-picks).
const KUBELET_CLIENT_WITHOUT_GROUP: [(u32, u32); 4] = [(33, 12), (34, 8), (35, 5), (36, 1)];

fn kubelet_client_organization(version: KubeVersion) -> Option<&'static str> {
    let with_group = match KUBELET_CLIENT_WITHOUT_GROUP
        .iter()
        .find(|(minor, _)| *minor == version.minor)
    {
        Some((_, patch)) => version.patch < *patch,
        None => version.minor < 37,
    };
    with_group.then_some(CLUSTER_ADMINS)
}

fn api_server(control_plane: &ControlPlane, machine: &Machine) -> Result<CertSpec, InventoryError> {
    let mut names = AltNames::default();
    names.add_dns(machine.name.as_str());
    names.add_dns("kubernetes");
    names.add_dns("kubernetes.default");
    names.add_dns("kubernetes.default.svc");
    names.add_dns(&format!(
        "kubernetes.default.svc.{}",
        control_plane.dns_domain
    ));
    let service_address = control_plane
        .service_cidrs
        .first()
        .and_then(|cidr: &Cidr| cidr.nth_address(1))
        .ok_or(InventoryError::NoServiceAddress)?;
    names.add_ip(service_address);
    names.add_ip(machine.address);
    if let Some(endpoint) = &control_plane.endpoint {
        names.add(&endpoint.host);
    }
    for name in &control_plane.api_server.cert_sans {
        // kubeadm lower-cases these and only these.
        names.add(&name.to_ascii_lowercase());
    }
    Ok(CertSpec {
        signer: Ca::Cluster,
        subject: Subject {
            common_name: "kube-apiserver".to_owned(),
            organization: None,
        },
        dns_names: names.dns.into_iter().collect(),
        ip_addresses: names.ips,
        usages: vec![Usage::ServerAuth],
    })
}

/// `etcd/server` and `etcd/peer` differ in the user's additions only. Both are client certificates
/// as well: members dial each other, and etcd's own gateway dials itself with its server
/// certificate.
fn etcd_member(machine: &Machine, additions: &[String]) -> CertSpec {
    let mut names = AltNames::default();
    names.add_dns(machine.name.as_str());
    names.add_dns("localhost");
    names.add_ip(machine.address);
    names.add_ip(Ipv4Addr::LOCALHOST.into());
    names.add_ip(Ipv6Addr::LOCALHOST.into());
    for name in additions {
        names.add(name);
    }
    CertSpec {
        signer: Ca::Etcd,
        subject: Subject {
            common_name: machine.name.to_string(),
            organization: None,
        },
        dns_names: names.dns.into_iter().collect(),
        ip_addresses: names.ips,
        usages: vec![Usage::ServerAuth, Usage::ClientAuth],
    }
}

/// Alternative names as kubeadm's `RemoveDuplicateAltNames` leaves them: DNS names sorted, IP
/// addresses in the order they came.
#[derive(Default)]
struct AltNames {
    dns: BTreeSet<String>,
    ips: Vec<IpAddr>,
}

impl AltNames {
    /// Adds what is an IP address as one, and everything else as a DNS name.
    fn add(&mut self, name: &str) {
        match name.parse() {
            Ok(ip) => self.add_ip(ip),
            Err(_) => self.add_dns(name),
        }
    }

    fn add_dns(&mut self, name: &str) {
        self.dns.insert(name.to_owned());
    }

    fn add_ip(&mut self, ip: IpAddr) {
        // An IPv4-mapped IPv6 address and the IPv4 address are one and the same for Go.
        let ip = ip.to_canonical();
        if !self.ips.contains(&ip) {
            self.ips.push(ip);
        }
    }
}

#[cfg(test)]
mod tests;
