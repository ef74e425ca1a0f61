//! What the members' answers add up to: which cluster this is, and who is healthy.

use std::collections::{BTreeMap, BTreeSet};

use super::snapshot::{Answer, MemberView, Snapshot};
use crate::domain::{ClusterId, MemberId};

/// Entries that a healthy member's applied index may be behind its own committed index
/// (etcd-membership A.2).
const APPLY_LAG_LIMIT: u64 = 1_000;
/// Entries that a healthy member may be behind the leader (etcd-membership A.2).
const LEADER_LAG_LIMIT: u64 = 10_000;

/// Smallest number of voters that decide.
pub fn quorum(voters: usize) -> usize {
    voters / 2 + 1
}

/// Which cluster answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// Nobody has answered yet, now or before.
    Unknown,
    /// The one cluster.
    One(ClusterId),
    /// Something is off; nothing may be changed.
    Frozen(Freeze),
}

/// Why nothing may be changed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Freeze {
    /// Members of different clusters, or not of the recorded one (I18).
    SplitBrain(String),
    /// A slot answers under another ID than recorded, or strangers are listed (I8).
    IdentityMismatch(String),
}

impl Freeze {
    /// What a person reads.
    pub fn message(&self) -> &str {
        match self {
            Self::SplitBrain(text) | Self::IdentityMismatch(text) => text,
        }
    }
}

/// Derives the cluster from the answers and from what was recorded before.
///
/// `recorded_members` maps a machine to the member ID that the ledger holds for it.
pub fn identity(
    snapshot: &Snapshot,
    recorded: Option<ClusterId>,
    recorded_members: &BTreeMap<String, MemberId>,
) -> Identity {
    let mut clusters: BTreeMap<ClusterId, Vec<&str>> = BTreeMap::new();
    for (view, answer) in snapshot.answers() {
        clusters
            .entry(answer.cluster_id)
            .or_default()
            .push(&view.machine);
    }
    if clusters.len() > 1 {
        return Identity::Frozen(Freeze::SplitBrain(format!(
            "members answer with different cluster IDs: {}",
            listed(&clusters)
        )));
    }
    let answered = clusters.keys().next().copied();
    if let (Some(recorded), Some(answered)) = (recorded, answered)
        && recorded != answered
    {
        return Identity::Frozen(Freeze::SplitBrain(format!(
            "the ledger records cluster {recorded}, but {} answered",
            listed(&clusters)
        )));
    }
    if let Some(freeze) = stranger(snapshot, recorded_members) {
        return Identity::Frozen(freeze);
    }
    recorded
        .or(answered)
        .map_or(Identity::Unknown, Identity::One)
}

fn listed(clusters: &BTreeMap<ClusterId, Vec<&str>>) -> String {
    let parts: Vec<String> = clusters
        .iter()
        .map(|(id, machines)| format!("{id} on {}", machines.join(", ")))
        .collect();
    parts.join("; ")
}

/// Finds a slot under a foreign ID, a listed member that no slot expects, or two linearizable
/// lists that differ.
fn stranger(snapshot: &Snapshot, recorded: &BTreeMap<String, MemberId>) -> Option<Freeze> {
    for (view, answer) in snapshot.answers() {
        if let Some(id) = recorded.get(&view.machine)
            && *id != answer.member_id
        {
            return Some(Freeze::IdentityMismatch(format!(
                "machine {} answers as member {}, but the ledger records {id}",
                view.machine, answer.member_id
            )));
        }
    }
    let expected: BTreeSet<&str> = snapshot
        .members
        .iter()
        .map(|view| view.peer_url.as_str())
        .collect();
    let lists = snapshot
        .answers()
        .filter_map(|(view, answer)| Some((view, answer.members.as_ref().ok()?)));
    for (view, list) in lists {
        for member in list {
            if !member
                .peer_urls
                .iter()
                .any(|url| expected.contains(url.as_str()))
            {
                return Some(Freeze::IdentityMismatch(format!(
                    "{} lists member {} ({}) at {}, which is no machine of this cluster",
                    view.machine,
                    member.id,
                    member.name,
                    member.peer_urls.join(",")
                )));
            }
        }
    }
    None
}

/// Whether one member is healthy, and if not, why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemberHealth {
    Healthy,
    Unhealthy(String),
}

/// Judges one member by its own answer and the leader's (etcd-membership A.2, one sample).
pub fn health(view: &MemberView, snapshot: &Snapshot) -> MemberHealth {
    match &view.answer {
        Err(why) => MemberHealth::Unhealthy(why.clone()),
        Ok(answer) => {
            judge(answer, snapshot).map_or(MemberHealth::Healthy, MemberHealth::Unhealthy)
        }
    }
}

fn judge(answer: &Answer, snapshot: &Snapshot) -> Option<String> {
    let Some(leader) = answer.leader else {
        return Some("it knows no leader".to_owned());
    };
    if let Err(why) = &answer.members {
        return Some(format!("a linearizable read failed: {why}"));
    }
    if let Some((majority, term)) = majority_leader(snapshot)
        && (majority != leader || term != answer.raft_term)
    {
        return Some(format!(
            "it follows leader {leader} in term {}, the majority {majority} in term {term}",
            answer.raft_term
        ));
    }
    let apply_lag = answer.raft_index.saturating_sub(answer.raft_applied_index);
    if apply_lag > APPLY_LAG_LIMIT {
        return Some(format!("it is {apply_lag} entries behind in applying"));
    }
    let lag = lag_entries(answer, snapshot).unwrap_or(0);
    if lag > LEADER_LAG_LIMIT {
        return Some(format!("it is {lag} entries behind the leader"));
    }
    answer
        .errors
        .iter()
        .find(|error| error.contains("CORRUPT"))
        .map(|error| format!("it reports {error}"))
}

/// The leader and term that most answers agree on.
fn majority_leader(snapshot: &Snapshot) -> Option<(MemberId, u64)> {
    let mut votes: BTreeMap<(MemberId, u64), usize> = BTreeMap::new();
    for (_, answer) in snapshot.answers() {
        if let Some(leader) = answer.leader {
            *votes.entry((leader, answer.raft_term)).or_default() += 1;
        }
    }
    let (winner, count) = votes.into_iter().max_by_key(|(_, count)| *count)?;
    (count >= quorum(snapshot.members.len())).then_some(winner)
}

impl Answer {
    /// Whether this member is the leader by its own word.
    pub fn leads(&self) -> bool {
        self.leader == Some(self.member_id)
    }
}

/// Entries behind the leader's committed index; `None` while no leader has answered.
pub fn lag_entries(answer: &Answer, snapshot: &Snapshot) -> Option<u64> {
    let leader = snapshot
        .answers()
        .map(|(_, other)| other)
        .find(|other| other.leads())?;
    Some(leader.raft_index.saturating_sub(answer.raft_index))
}

#[cfg(test)]
mod tests;
