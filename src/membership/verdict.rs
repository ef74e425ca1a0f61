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
    let cluster = match one_cluster(snapshot, recorded) {
        Ok(cluster) => cluster,
        Err(freeze) => return Identity::Frozen(freeze),
    };
    let freeze = misplaced(snapshot, recorded_members).or_else(|| stranger(snapshot));
    freeze.map_or_else(
        || cluster.map_or(Identity::Unknown, Identity::One),
        Identity::Frozen,
    )
}

/// The cluster that answers, and was recorded if any was (I18).
pub(super) fn one_cluster(
    snapshot: &Snapshot,
    recorded: Option<ClusterId>,
) -> Result<Option<ClusterId>, Freeze> {
    let mut clusters: BTreeMap<ClusterId, Vec<&str>> = BTreeMap::new();
    for (view, answer) in snapshot.answers() {
        clusters
            .entry(answer.cluster_id)
            .or_default()
            .push(&view.machine);
    }
    if clusters.len() > 1 {
        return Err(Freeze::SplitBrain(format!(
            "members answer with different cluster IDs: {}",
            listed(&clusters)
        )));
    }
    let answered = clusters.keys().next().copied();
    if let (Some(recorded), Some(answered)) = (recorded, answered)
        && recorded != answered
    {
        return Err(Freeze::SplitBrain(format!(
            "the ledger records cluster {recorded}, but {} answered",
            listed(&clusters)
        )));
    }
    Ok(recorded.or(answered))
}

fn listed(clusters: &BTreeMap<ClusterId, Vec<&str>>) -> String {
    let parts: Vec<String> = clusters
        .iter()
        .map(|(id, machines)| format!("{id} on {}", machines.join(", ")))
        .collect();
    parts.join("; ")
}

/// Finds a machine that answers under another ID than recorded (I8).
pub(super) fn misplaced(
    snapshot: &Snapshot,
    recorded: &BTreeMap<String, MemberId>,
) -> Option<Freeze> {
    snapshot.answers().find_map(|(view, answer)| {
        let id = recorded.get(&view.machine)?;
        (*id != answer.member_id).then(|| {
            Freeze::IdentityMismatch(format!(
                "machine {} answers as member {}, but the ledger records {id}",
                view.machine, answer.member_id
            ))
        })
    })
}

/// Finds a listed member that no slot expects (I8).
fn stranger(snapshot: &Snapshot) -> Option<Freeze> {
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
    if let Err(why) = &answer.members
        && !answer.is_learner
    {
        // A learner refuses linearizable reads by design.
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
    let corrupt = |error: &&String| corrupt_member(error).is_some_and(|id| concerns(id, answer));
    answer
        .errors
        .iter()
        .find(corrupt)
        .map(|error| format!("it reports {error}"))
}

/// An alarm without a culprit concerns every member.
fn concerns(id: MemberId, answer: &Answer) -> bool {
    id == MemberId(0) || id == answer.member_id
}

/// The member whose data etcd calls damaged in this text; 0 if etcd cannot tell which one it is.
/// Every member reports the alarms of all, as `memberID:<decimal> alarm:CORRUPT`.
pub(super) fn corrupt_member(error: &str) -> Option<MemberId> {
    if !error.contains("CORRUPT") {
        return None;
    }
    let id = error.split("memberID:").nth(1);
    let digits = id.and_then(|id| id.split_whitespace().next());
    Some(MemberId(digits.and_then(|id| id.parse().ok()).unwrap_or(0)))
}

/// The leader and term that a majority of the voters follows.
pub(super) fn majority_leader(snapshot: &Snapshot) -> Option<(MemberId, u64)> {
    let mut votes: BTreeMap<(MemberId, u64), usize> = BTreeMap::new();
    for (_, answer) in snapshot.answers() {
        if let Some(leader) = answer.leader
            && !answer.is_learner
        {
            *votes.entry((leader, answer.raft_term)).or_default() += 1;
        }
    }
    let (winner, count) = votes.into_iter().max_by_key(|(_, count)| *count)?;
    (count >= quorum(voters(snapshot))).then_some(winner)
}

/// Voters by any list of this round; without one, everybody that was asked.
fn voters(snapshot: &Snapshot) -> usize {
    let list = snapshot
        .answers()
        .find_map(|(_, answer)| answer.members.as_ref().ok());
    list.map_or(snapshot.members.len(), |list| {
        list.iter().filter(|member| !member.is_learner).count()
    })
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
