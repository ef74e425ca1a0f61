//! Values that are parsed once and are right from then on, and the control plane made of them.
//!
//! Answers "is this text a node name, a version, a range?" and holds [`ControlPlane`], the spec
//! with every default applied. Never does IO, never knows where a value came from: the caller adds
//! the field path to an error. A new kind of value gets a file here, its parser and its tests.

mod cidr;
mod cluster;
mod duration;
mod etcd;
mod etcd_id;
mod kubelet_patch;
mod names;
mod node_pool;
mod version;

pub use cidr::{Cidr, CidrError};
pub use cluster::{
    ApiServer, CaKeyPlacement, Component, ControlPlane, CoreDns, HostPort, KubeProxy, Kubelet,
    Machine, Profile, UserFile,
};
pub use duration::{DurationError, parse_go_duration};
pub use etcd::{
    ClientFiles, Etcd, EtcdCluster, EtcdCredentials, EtcdMembers, ExternalEtcd, Founding,
    InitialClusterState, Member,
};
pub use etcd_id::{ClusterId, EtcdIdError, MemberId};
pub use kubelet_patch::{KubeletPatch, PatchChange, PatchFault};
pub use names::{NameError, NodeName, dns_subdomain, dns_subdomain_or_wildcard};
pub use node_pool::{NodePool, Worker, Workers};
pub use version::{KubeVersion, VersionError};
