//! What the members said in one round of questions.

use crate::domain::{ClusterId, MemberId};

/// The members' own answers, all of one round.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// One view a slot, in the ledger's order.
    pub members: Vec<MemberView>,
}

/// One slot: who is expected, and what it said for itself.
#[derive(Clone, Debug)]
pub struct MemberView {
    /// Name of the member, as in `--name`.
    pub name: String,
    /// Name of the machine.
    pub machine: String,
    /// Its peer URL.
    pub peer_url: String,
    /// Its answer, or why there is none (shown to people).
    pub answer: Result<Answer, String>,
}

/// A member's own answer: its Status, and the list of members it gave behind a linearizable read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub cluster_id: ClusterId,
    pub member_id: MemberId,
    /// The leader it knows of.
    pub leader: Option<MemberId>,
    pub raft_term: u64,
    pub raft_index: u64,
    pub raft_applied_index: u64,
    /// Size of the database file, in bytes.
    pub db_size_bytes: i64,
    pub version: String,
    pub is_learner: bool,
    /// Alarms and errors it reports of itself.
    pub errors: Vec<String>,
    /// The members by a linearizable read, or why that read failed. Without it the member has not
    /// proved that it reaches a quorum (etcd-membership I7).
    pub members: Result<Vec<ListedMember>, String>,
}

/// A member as the cluster lists it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ListedMember {
    pub id: MemberId,
    /// Empty until it has started once.
    pub name: String,
    pub peer_urls: Vec<String>,
    pub client_urls: Vec<String>,
    pub is_learner: bool,
}

impl ListedMember {
    /// It was added but never published its name or client URLs.
    pub fn unstarted(&self) -> bool {
        self.name.is_empty() && self.client_urls.is_empty()
    }
}

impl Snapshot {
    /// The views that have an answer.
    pub fn answers(&self) -> impl Iterator<Item = (&MemberView, &Answer)> {
        self.members
            .iter()
            .filter_map(|view| Some((view, view.answer.as_ref().ok()?)))
    }
}
