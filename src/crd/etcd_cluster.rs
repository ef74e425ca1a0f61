//! `EtcdCluster`: the members of one etcd, stacked or on machines of its own.

use k8s_openapi::api::core::v1::EnvVar;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::{Arg, Certificates, Kubelet, Machine, MachineConfig, NodeLoss, Patch};

/// One etcd cluster.
///
/// A ControlPlane with stacked etcd makes and owns one; edits to that one are put back.
#[derive(Clone, Debug, CustomResource, Deserialize, PartialEq, Serialize, KubeSchema)]
#[kube(
    group = "seedbed.dev",
    version = "v1alpha1",
    kind = "EtcdCluster",
    namespaced,
    status = "EtcdClusterStatus",
    shortname = "etcdc",
    category = "seedbed",
    derive = "PartialEq"
)]
#[serde(rename_all = "camelCase")]
pub struct EtcdClusterSpec {
    /// etcd version such as `3.7.0`; the image tag follows from it.
    pub version: String,
    /// Number of voters: 1, 3, 5 or 7.
    pub size: i32,
    /// The inventory. More machines than `size` are spares.
    pub machines: Vec<Machine>,
    /// Repository of the image. Default `registry.k8s.io`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_repository: Option<String>,
    /// Tag of the image. Default `<version>-0`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_tag: Option<String>,
    /// Folder of the data on the node. Default `/var/lib/etcd`. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_dir: Option<String>,
    /// Arguments of etcd.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extra_args: Option<Vec<Arg>>,
    /// Environment variables of etcd.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extra_envs: Option<Vec<EnvVar>>,
    /// Further subject alternative names of the server certificates.
    #[serde(
        default,
        rename = "serverCertSANs",
        skip_serializing_if = "Option::is_none"
    )]
    pub server_cert_sans: Option<Vec<String>>,
    /// Further subject alternative names of the peer certificates.
    #[serde(
        default,
        rename = "peerCertSANs",
        skip_serializing_if = "Option::is_none"
    )]
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
    pub patches: Option<Vec<Patch>>,
    /// How files and commands reach the machines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine_config: Option<MachineConfig>,
    /// Stop acting on this object; what exists stays. Default false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<bool>,
}

/// What is known of the etcd cluster.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct EtcdClusterStatus {
    /// Generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Conditions by type.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = kube::core::ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// etcd's cluster ID, hexadecimal, as soon as one member has answered.
    #[serde(default, rename = "clusterID", skip_serializing_if = "Option::is_none")]
    pub cluster_id: Option<String>,
    /// Voters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// Healthy voters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_replicas: Option<i32>,
    /// Label selector of the machine-config Secrets, for the scale subresource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// One row a member.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = kube::core::ListMerge::Map(vec!["name".into()]))]
    pub members: Vec<MemberStatus>,
    /// What the operator has decided and must never forget (written before it acts).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ledger: Option<Ledger>,
    /// The change of membership under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending_operation: Option<PendingOperation>,
    /// The last 20 decisions, newest last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub decisions: Vec<Decision>,
}

/// One member, from its own answer.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct MemberStatus {
    /// Name of the member.
    pub name: String,
    /// Member ID, hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Name of the machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<String>,
    /// Role in Raft.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<MemberRole>,
    /// It is the leader, by its own word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<bool>,
    /// Healthy, by its own answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthy: Option<bool>,
    /// Version of the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Raft term.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raft_term: Option<i64>,
    /// Committed Raft index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raft_index: Option<i64>,
    /// Applied Raft index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raft_applied_index: Option<i64>,
    /// Entries behind the leader.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag_entries: Option<i64>,
    /// Size of the database file, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub db_size_bytes: Option<i64>,
    /// Alarms of this member: NOSPACE, CORRUPT.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alarms: Vec<String>,
    /// When these figures were read, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_probe_time: Option<String>,
    /// What is wrong or awaited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// Role of a member.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize, JsonSchema)]
pub enum MemberRole {
    /// Counts for quorum.
    Voter,
    /// Receives the log, does not count.
    Learner,
    /// Listed, never started.
    Unstarted,
}

/// What the operator has decided and must never forget.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Ledger {
    /// How the cluster was founded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub founding: Option<Founding>,
    /// Which member a machine has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = kube::core::ListMerge::Map(vec!["machine".into()]))]
    pub slots: Vec<Slot>,
    /// IDs of removed members, hexadecimal; their data must never start again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tombstones: Vec<String>,
}

/// How the cluster was founded: once, by these members, under this token.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Founding {
    /// `--initial-cluster-token`, unique to this founding. Not a credential.
    pub token: String,
    /// The founding members.
    #[x_kube(merge_strategy = kube::core::ListMerge::Map(vec!["name".into()]))]
    pub members: Vec<FoundingMember>,
}

/// A founding member, as in `--initial-cluster`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct FoundingMember {
    /// Name of the member.
    pub name: String,
    /// Its peer URL.
    #[serde(rename = "peerURL")]
    pub peer_url: String,
}

/// Which member a machine has.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Slot {
    /// Name of the machine.
    pub machine: String,
    /// Counts the members this machine has had; 0 is the founder.
    pub generation: i64,
    /// Member ID, hexadecimal, as soon as it is known.
    #[serde(default, rename = "memberID", skip_serializing_if = "Option::is_none")]
    pub member_id: Option<String>,
    /// This member has answered at least once.
    pub started: bool,
}

/// A change of membership under way.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PendingOperation {
    /// Kind of the operation: AddLearner, Promote, Remove or MoveLeader.
    pub kind: String,
    /// The machine it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<String>,
    /// The member it is about, hexadecimal.
    #[serde(default, rename = "memberID", skip_serializing_if = "Option::is_none")]
    pub member_id: Option<String>,
    /// Peer URL of a member to add.
    #[serde(default, rename = "peerURL", skip_serializing_if = "Option::is_none")]
    pub peer_url: Option<String>,
    /// When it was recorded, RFC 3339.
    pub started_at: String,
    /// Tries so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<i32>,
}

/// A decision and what it stood on.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Decision {
    /// When, RFC 3339.
    pub time: String,
    /// The step.
    pub step: String,
    /// The facts it stood on.
    pub because: String,
    /// The invariant that holds a step back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_by: Option<String>,
}
