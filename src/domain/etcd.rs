//! Where a control plane keeps its state, etcd on machines of its own, and who its members are.

use std::time::Duration;

use k8s_openapi::api::core::v1::EnvVar;

use super::{Kubelet, Machine, NodeName, UserFile};
use crate::crd::{Arg, KeyAlgorithm, MachineConfigFormat};

/// Where the API servers of a control plane keep their state.
#[derive(Clone, Debug)]
pub enum Etcd {
    /// In members on the machines that serve.
    Stacked(EtcdMembers),
    /// Elsewhere.
    External(ExternalEtcd),
}

impl Etcd {
    /// The settings of members on the control plane's own machines.
    pub fn stacked(&self) -> Option<&EtcdMembers> {
        match self {
            Self::Stacked(members) => Some(members),
            Self::External(_) => None,
        }
    }

    /// The etcd that runs elsewhere.
    pub fn external(&self) -> Option<&ExternalEtcd> {
        match self {
            Self::Stacked(_) => None,
            Self::External(external) => Some(external),
        }
    }
}

/// What all members of one etcd have in common.
#[derive(Clone, Debug)]
pub struct EtcdMembers {
    pub data_dir: String,
    /// Full image reference.
    pub image: String,
    pub extra_args: Vec<Arg>,
    pub extra_envs: Vec<EnvVar>,
    pub server_cert_sans: Vec<String>,
    pub peer_cert_sans: Vec<String>,
}

/// An etcd on other machines, as its clients see it (kubeadm `etcd.external`).
#[derive(Clone, Debug)]
pub struct ExternalEtcd {
    /// Client URLs. Empty while the EtcdCluster that is referred to is not founded.
    pub endpoints: Vec<String>,
    /// Path of the CA's certificate on the node; `None` without TLS.
    pub ca_file: Option<String>,
    /// Paths of the client's certificate and key on the node.
    pub client: Option<ClientFiles>,
    pub credentials: EtcdCredentials,
}

/// Paths of a client certificate and its key on the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientFiles {
    pub certificate: String,
    pub key: String,
}

/// Where the files that the API servers show to an etcd elsewhere come from.
#[derive(Clone, Debug)]
pub enum EtcdCredentials {
    /// Each machine has a client certificate of its own, signed by the CA of this EtcdCluster.
    Issued { cluster: String },
    /// The user's Secret. Empty: the files are on the machines, by the user's own means.
    Given(Vec<UserFile>),
}

/// An EtcdCluster on machines of its own, with every default applied and every value parsed.
#[derive(Clone, Debug)]
pub struct EtcdCluster {
    /// Name of the object in the seed; prefix of every Secret.
    pub name: String,
    /// Namespace of the object in the seed.
    pub namespace: String,
    /// Machines that have a member; before the founding, those that shall found.
    pub machines: Vec<Machine>,
    /// Machines of the inventory that nothing runs on.
    pub spares: Vec<Machine>,
    pub members: EtcdMembers,
    pub kubelet: Kubelet,
    /// Full reference of the sandbox image.
    pub pause_image: String,
    pub key_algorithm: KeyAlgorithm,
    pub leaf_validity: Duration,
    pub ca_validity: Duration,
    /// Folder of certificates on the node, absolute, without a trailing slash.
    pub certificates_dir: String,
    /// Files, commands and limits of the machine config.
    pub user_data_format: MachineConfigFormat,
    pub files: Vec<UserFile>,
    pub pre_commands: Vec<String>,
    pub post_commands: Vec<String>,
    pub os_preparation: bool,
    pub size_budget_bytes: usize,
}

/// The members of an etcd cluster, as the ledger holds them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Founding {
    /// `--initial-cluster-token`.
    pub token: String,
    /// `--initial-cluster`, in the ledger's order.
    pub members: Vec<Member>,
    pub state: InitialClusterState,
}

impl Founding {
    /// That of a control plane whose machines have no members: its etcd is elsewhere.
    pub fn of_nobody() -> Self {
        Self {
            token: String::new(),
            members: Vec::new(),
            state: InitialClusterState::Existing,
        }
    }

    /// The member of a machine.
    pub fn member_of(&self, machine: &NodeName) -> Option<&Member> {
        let mut members = self.members.iter();
        members.find(|member| member.machine == machine.as_str())
    }
}

/// A member of `--initial-cluster`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Name of its machine.
    pub machine: String,
    /// `--name`. A founder's is that of its machine.
    pub name: String,
    pub peer_url: String,
    /// It has answered at least once: its data must never be missing again
    /// (etcd-membership I9).
    pub started: bool,
    /// It was added to a running cluster: data that its machine still has is another member's
    /// (etcd-membership I10).
    pub added: bool,
}

impl Member {
    /// The member that a machine has when it founds a cluster.
    pub fn founder(machine: &Machine) -> Self {
        Self {
            machine: machine.name.to_string(),
            name: machine.name.to_string(),
            peer_url: machine.peer_url(),
            started: false,
            added: false,
        }
    }
}

/// `--initial-cluster-state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InitialClusterState {
    /// Until the cluster ID is known.
    New,
    /// From then on.
    Existing,
}
