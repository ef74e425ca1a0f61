//! Status of an `EtcdCluster`.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is known of the etcd cluster.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct EtcdClusterStatus {
    /// Generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Conditions by type.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "super::schema::conditions")]
    pub conditions: Vec<Condition>,
    /// etcd's cluster ID, hexadecimal, as soon as one member has answered.
    #[serde(default, rename = "clusterID", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub cluster_id: Option<String>,
    /// Voters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// Healthy voters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_replicas: Option<i32>,
    /// Healthy voters and the size of the spec, for the printer column: `2/3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub healthy_members: Option<String>,
    /// Label selector of the machine-config Secrets, for the scale subresource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub selector: Option<String>,
    /// One row a member.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub members: Vec<MemberStatus>,
    /// What the operator has decided and must never forget (written before it acts).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ledger: Option<Ledger>,
    /// The change of membership under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending_operation: Option<PendingOperation>,
    /// The last 20 decisions, newest last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub decisions: Vec<Decision>,
}

/// One member, from its own answer.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct MemberStatus {
    /// Name of the member.
    #[schemars(length(max = 128))]
    pub name: String,
    /// Member ID, hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub id: Option<String>,
    /// Name of the machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub machine: Option<String>,
    /// Role in Raft. Voter: counts for quorum. Learner: receives the log and does not count.
    /// Unstarted: listed, never started.
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
    #[schemars(length(max = 64))]
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
    #[schemars(length(max = 8), inner(length(min = 1, max = 1024)))]
    pub alarms: Vec<String>,
    /// Since when nothing has come back from it, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::schema::time")]
    pub silent_since: Option<String>,
    /// When these figures were read, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::schema::time")]
    pub last_probe_time: Option<String>,
    /// What is wrong or awaited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32768))]
    pub message: Option<String>,
}

/// Role of a member.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize, JsonSchema)]
pub enum MemberRole {
    Voter,
    Learner,
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
    #[schemars(length(max = 128))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["machine".into()]))]
    pub slots: Vec<Slot>,
    /// IDs of removed members, hexadecimal; their data must never start again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1024), inner(length(min = 1, max = 16)))]
    pub tombstones: Vec<String>,
    /// Generation of the newest member that is no founder; no name is ever used twice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_generation: Option<i64>,
    /// Machines whose new member has not started, and how often that was tried.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["machine".into()]))]
    pub joins: Vec<Join>,
    /// When a lost voter was last removed without anybody having asked for it, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::schema::time")]
    pub last_replacement: Option<String>,
    /// Machines that are imaged anew, as announced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reimaged: Option<Announcement>,
}

/// A machine that was given a member which did not start.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Join {
    /// Name of the machine.
    #[schemars(length(max = 63))]
    pub machine: String,
    /// Members that it was given in vain, one after the other.
    pub attempts: i32,
}

/// The announcement that machines are imaged anew, and which members it is about: those that were
/// there when it was first seen.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Announcement {
    /// Value of the annotation `seedbed.dev/reimaged`.
    #[schemars(length(max = 1024))]
    pub value: String,
    /// Generation of the newest member at that time; members after it are not meant.
    pub generation: i64,
}

/// How the cluster was founded: once, by these members, under this token.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Founding {
    /// `--initial-cluster-token`, unique to this founding. Not a credential.
    #[schemars(length(max = 128))]
    pub token: String,
    /// The founding members.
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub members: Vec<FoundingMember>,
}

/// A founding member, as in `--initial-cluster`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct FoundingMember {
    /// Name of the member.
    #[schemars(length(max = 128))]
    pub name: String,
    /// Its peer URL.
    #[serde(rename = "peerURL")]
    #[schemars(length(max = 512))]
    pub peer_url: String,
}

/// Which member a machine has.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Slot {
    /// Name of the machine.
    #[schemars(length(max = 63))]
    pub machine: String,
    /// 0: a founder. Later members are counted through the whole cluster.
    pub generation: i64,
    /// Name of the member. A founder is called like its machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub name: Option<String>,
    /// Its peer URL. A founder's stands in the founding.
    #[serde(default, rename = "peerURL", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub peer_url: Option<String>,
    /// Member ID, hexadecimal, as soon as it is known.
    #[serde(default, rename = "memberID", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub member_id: Option<String>,
    /// This member has answered at least once.
    pub started: bool,
    /// A member that was added as a learner votes. Founders always do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promoted: Option<bool>,
}

/// A change of membership under way.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PendingOperation {
    /// Kind of the operation: AddLearner, Promote, Remove or MoveLeader.
    #[schemars(length(max = 64))]
    pub kind: String,
    /// The machine it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub machine: Option<String>,
    /// The member it is about, hexadecimal.
    #[serde(default, rename = "memberID", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub member_id: Option<String>,
    /// Peer URL of a member to add.
    #[serde(default, rename = "peerURL", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub peer_url: Option<String>,
    /// Name of a member to add.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub name: Option<String>,
    /// Generation of a member to add.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<i64>,
    /// The member that leadership goes to, hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub target: Option<String>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub reason: Option<String>,
    /// Nobody asked for it: a voter is removed because it was found lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub automatic: Option<bool>,
    /// When it was recorded, RFC 3339.
    #[schemars(schema_with = "super::schema::time")]
    pub started_at: String,
    /// Tries so far, the running one included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<i32>,
    /// What the last try came to, if it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub message: Option<String>,
}

/// A decision and what it stood on.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Decision {
    /// When, RFC 3339.
    #[schemars(schema_with = "super::schema::time")]
    pub time: String,
    /// The step.
    #[schemars(length(max = 256))]
    pub step: String,
    /// The facts it stood on.
    #[schemars(length(max = 32768))]
    pub because: String,
    /// The invariant that holds a step back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub held_by: Option<String>,
}
