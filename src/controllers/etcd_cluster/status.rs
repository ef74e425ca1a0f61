//! What is known, written when it says something new.

use jiff::Timestamp;
use kube::ResourceExt;

use super::observe::Observed;
use super::plan::Plan;
use crate::controllers::conditions::{
    AVAILABLE, Conditions, ETCD_HEALTHY, PAUSED, READY, RECONCILING, Reason, STALLED,
};
use crate::controllers::names;
use crate::crd::{EtcdCluster, EtcdClusterStatus, MemberRole, MemberStatus};
use crate::kube_ext::events::EventSpec;
use crate::membership::{
    Answer, Freeze, MemberHealth, MemberView, Snapshot, health, lag_entries, quorum,
};

const TYPES: &[&str] = &[READY, RECONCILING, STALLED, AVAILABLE, ETCD_HEALTHY, PAUSED];
/// A member's figures are written anew when its database has grown or shrunk by this share.
const DB_SIZE_SHARE: i64 = 4;

/// The status as it shall be, and what of it is news.
pub fn status(
    observed: &Observed,
    plan: &Plan,
    now: Timestamp,
) -> (EtcdClusterStatus, Vec<EventSpec>) {
    let cluster = &observed.cluster;
    let stored = cluster.status.clone().unwrap_or_default();
    let conditions = conditions(observed, plan);
    let news = conditions.news(&stored.conditions);
    let members = rows(&observed.snapshot, &stored, now);
    let status = EtcdClusterStatus {
        observed_generation: cluster.metadata.generation,
        conditions: conditions.merged(&stored.conditions, cluster.metadata.generation, now),
        cluster_id: plan.cluster_id.map(|id| id.to_string()),
        replicas: plan
            .ledger
            .founding
            .as_ref()
            .map(|founding| count(founding.members.len())),
        ready_replicas: Some(count(plan.healthy)),
        healthy_members: Some(format!("{}/{}", plan.healthy, cluster.spec.size)),
        selector: Some(names::machine_config_selector(&cluster.name_any())),
        members,
        ledger: Some(plan.ledger.clone()),
        pending_operation: stored.pending_operation,
        decisions: stored.decisions,
    };
    (status, news)
}

/// The status of a paused cluster: what was known, and that nothing is done.
pub fn paused(cluster: &EtcdCluster, now: Timestamp) -> (EtcdClusterStatus, Vec<EventSpec>) {
    let mut conditions = Conditions::unknown(TYPES);
    conditions.set(PAUSED, true, Reason::Paused, "spec.paused is set");
    conditions.set(RECONCILING, false, Reason::Paused, "");
    conditions.set_ready(&[]);
    with_conditions(cluster, conditions, now)
}

/// The stored status with other conditions; those that are unknown keep what was known.
pub fn with_conditions(
    cluster: &EtcdCluster,
    mut conditions: Conditions,
    now: Timestamp,
) -> (EtcdClusterStatus, Vec<EventSpec>) {
    let stored = cluster.status.clone().unwrap_or_default();
    conditions.keep_unknown(&stored.conditions);
    let news = conditions.news(&stored.conditions);
    let generation = cluster.metadata.generation;
    let status = EtcdClusterStatus {
        observed_generation: generation,
        conditions: conditions.merged(&stored.conditions, generation, now),
        ..stored
    };
    (status, news)
}

fn count(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

fn conditions(observed: &Observed, plan: &Plan) -> Conditions {
    let mut conditions = Conditions::unknown(TYPES);
    conditions.set(PAUSED, false, Reason::NotPaused, "");
    let trouble = trouble(plan);
    match &trouble {
        Some((reason, text)) => {
            conditions.set(STALLED, true, *reason, text.clone());
            conditions.set(RECONCILING, false, Reason::Blocked, text.clone());
            conditions.set(ETCD_HEALTHY, false, *reason, text.clone());
        }
        None => conditions.set(STALLED, false, Reason::NotStalled, ""),
    }
    let members = observed.snapshot.members.len();
    let serves = members > 0 && plan.healthy >= quorum(members);
    if trouble.is_none() {
        let (reason, text) = progress(observed, plan);
        let whole = members > 0 && plan.healthy == members;
        conditions.set(ETCD_HEALTHY, whole, reason, text.clone());
        let idle = if whole { Reason::Idle } else { reason };
        conditions.set(RECONCILING, !whole, idle, text);
    }
    let (reason, text) = if serves {
        (Reason::AsDesired, String::new())
    } else {
        progress(observed, plan)
    };
    conditions.set(AVAILABLE, serves, reason, text);
    conditions.set_ready(&[AVAILABLE, ETCD_HEALTHY]);
    conditions
}

fn trouble(plan: &Plan) -> Option<(Reason, String)> {
    if let Some(why) = &plan.halt {
        return Some((Reason::FoundingHalted, why.clone()));
    }
    let freeze = plan.freeze.as_ref()?;
    let reason = match freeze {
        Freeze::SplitBrain(_) => Reason::SplitBrain,
        Freeze::IdentityMismatch(_) => Reason::IdentityMismatch,
    };
    Some((reason, freeze.message().to_owned()))
}

/// How far the cluster is, with every member that is not healthy and why.
fn progress(observed: &Observed, plan: &Plan) -> (Reason, String) {
    if plan.left_over {
        let text = "the ledger ConfigMap of an earlier cluster of this name has yet to be deleted";
        return (Reason::AwaitingDeletion, text.to_owned());
    }
    if let Some(why) = &observed.unasked {
        return (Reason::MissingInput, why.clone());
    }
    let snapshot = &observed.snapshot;
    let members = snapshot.members.len();
    if members == 0 {
        return (
            Reason::AwaitingFounding,
            "the founding has just been recorded".to_owned(),
        );
    }
    if plan.healthy == members {
        return (
            Reason::AsDesired,
            format!("{members} of {members} voters are healthy"),
        );
    }
    let started = plan.ledger.slots.iter().filter(|slot| slot.started).count();
    let sick = snapshot
        .members
        .iter()
        .filter_map(|view| match health(view, snapshot) {
            MemberHealth::Healthy => None,
            MemberHealth::Unhealthy(why) => Some(format!("{}: {why}", view.name)),
        });
    let text = format!(
        "{} of {members} voters are healthy; {}",
        plan.healthy,
        sick.collect::<Vec<_>>().join("; ")
    );
    let reason = if started == 0 {
        Reason::AwaitingMachines
    } else if started < members {
        Reason::MachinesStarting
    } else if plan.healthy < quorum(members) {
        Reason::QuorumLost
    } else {
        Reason::Degraded
    };
    (reason, text)
}

/// One row a member. A row whose words have not changed stays as it is stored, figures and time
/// included: a steady cluster is not written to.
fn rows(snapshot: &Snapshot, stored: &EtcdClusterStatus, now: Timestamp) -> Vec<MemberStatus> {
    let row = |view: &MemberView| {
        let fresh = row(view, snapshot, now);
        let before = stored
            .members
            .iter()
            .find(|member| member.name == view.name);
        match before {
            Some(before) if !differs(before, &fresh) => before.clone(),
            _ => fresh,
        }
    };
    snapshot.members.iter().map(row).collect()
}

fn differs(before: &MemberStatus, fresh: &MemberStatus) -> bool {
    let words = |member: &MemberStatus| MemberStatus {
        raft_index: None,
        raft_applied_index: None,
        lag_entries: None,
        db_size_bytes: None,
        last_probe_time: None,
        ..member.clone()
    };
    let size = |member: &MemberStatus| member.db_size_bytes.unwrap_or(0);
    let moved = (size(before) - size(fresh)).abs() > size(before) / DB_SIZE_SHARE;
    words(before) != words(fresh)
        || (moved && fresh.healthy == Some(true) && size(fresh) > 100 << 20)
}

fn row(view: &MemberView, snapshot: &Snapshot, now: Timestamp) -> MemberStatus {
    let mut row = MemberStatus {
        name: view.name.clone(),
        machine: Some(view.machine.clone()),
        healthy: Some(false),
        last_probe_time: Some(seconds(now)),
        ..MemberStatus::default()
    };
    match health(view, snapshot) {
        MemberHealth::Healthy => row.healthy = Some(true),
        MemberHealth::Unhealthy(why) => row.message = Some(why),
    }
    if let Ok(answer) = &view.answer {
        own_words(&mut row, answer, snapshot);
    }
    row
}

fn own_words(row: &mut MemberStatus, answer: &Answer, snapshot: &Snapshot) {
    let number = |value: u64| Some(i64::try_from(value).unwrap_or(i64::MAX));
    row.id = Some(answer.member_id.to_string());
    row.role = Some(if answer.is_learner {
        MemberRole::Learner
    } else {
        MemberRole::Voter
    });
    row.leader = Some(answer.leads());
    row.version = Some(answer.version.clone());
    row.raft_term = number(answer.raft_term);
    row.raft_index = number(answer.raft_index);
    row.raft_applied_index = number(answer.raft_applied_index);
    row.lag_entries = lag_entries(answer, snapshot).and_then(number);
    row.db_size_bytes = Some(answer.db_size_bytes);
    row.alarms = answer.errors.clone();
}

fn seconds(now: Timestamp) -> String {
    Timestamp::from_second(now.as_second())
        .unwrap_or(now)
        .to_string()
}
