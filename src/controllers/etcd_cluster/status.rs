//! What is known, written when it says something new.

use jiff::Timestamp;
use kube::ResourceExt;

use super::observe::Observed;
use super::plan::Plan;
use super::plan::inputs::seconds;
use super::plan::membership::{Membership, with_news};
use crate::controllers::conditions::{
    AVAILABLE, Conditions, ETCD_HEALTHY, FOUNDED, MEMBERSHIP_SETTLED, ODD_MEMBERS, PAUSED,
    QUORUM_HEALTHY, READY, RECONCILING, Reason, STALLED,
};
use crate::controllers::names;
use crate::crd::{EtcdCluster, EtcdClusterStatus, MemberRole, MemberStatus};
use crate::kube_ext::events::EventSpec;
use crate::membership::{
    Answer, Freeze, MemberHealth, MemberView, Role, Snapshot, health, lag_entries, quorum,
};

const TYPES: &[&str] = &[
    READY,
    RECONCILING,
    STALLED,
    AVAILABLE,
    ETCD_HEALTHY,
    QUORUM_HEALTHY,
    ODD_MEMBERS,
    FOUNDED,
    MEMBERSHIP_SETTLED,
    PAUSED,
];
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
    let conditions = conditions(observed, plan, &stored);
    let mut news = conditions.news(&stored.conditions);
    let membership = plan.membership.as_ref();
    news.extend(membership.into_iter().flat_map(steps));
    let members = rows(observed, membership, &stored, now);
    let new_decisions = membership.map_or(&[][..], |membership| &membership.news);
    let status = EtcdClusterStatus {
        observed_generation: cluster.metadata.generation,
        conditions: conditions.merged(&stored.conditions, cluster.metadata.generation, now),
        cluster_id: plan.cluster_id.map(|id| id.to_string()),
        replicas: (plan.voters > 0 || plan.ledger.founding.is_some())
            .then(|| count(voters(observed, plan))),
        ready_replicas: Some(count(plan.healthy)),
        healthy_members: Some(format!("{}/{}", plan.healthy, cluster.spec.size)),
        selector: Some(names::machine_config_selector(&cluster.name_any())),
        members,
        ledger: Some(plan.ledger.clone()),
        pending_operation: match membership {
            Some(membership) => membership.pending.clone(),
            None => stored.pending_operation,
        },
        decisions: with_news(&stored.decisions, new_decisions),
    };
    (status, news)
}

/// Voters by the round of questions; where none could be asked, the ledger's members.
fn voters(observed: &Observed, plan: &Plan) -> usize {
    if observed.snapshot.members.is_empty() {
        plan.ledger.slots.len()
    } else {
        plan.voters
    }
}

/// Steps and what became of them, as events.
fn steps(membership: &Membership) -> impl Iterator<Item = EventSpec> {
    membership.news.iter().map(|row| {
        let held = row.held_by.as_ref();
        EventSpec {
            warning: held.is_some(),
            reason: if held.is_some() {
                Reason::StepHeld.as_str()
            } else {
                Reason::MembershipChanging.as_str()
            },
            action: "ChangingMembership",
            note: match held {
                Some(by) => format!("{} is held by {by}: {}", row.step, row.because),
                None => format!("{}: {}", row.step, row.because),
            },
        }
    })
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

fn conditions(observed: &Observed, plan: &Plan, stored: &EtcdClusterStatus) -> Conditions {
    let mut conditions = Conditions::unknown(TYPES);
    conditions.set(PAUSED, false, Reason::NotPaused, "");
    let trouble = trouble(plan);
    match &trouble {
        Some((reason, text)) => {
            conditions.set(STALLED, true, *reason, text.clone());
            conditions.set(RECONCILING, false, Reason::Blocked, text.clone());
            conditions.set(ETCD_HEALTHY, false, *reason, text.clone());
            conditions.set(MEMBERSHIP_SETTLED, false, *reason, text.clone());
        }
        None => conditions.set(STALLED, false, Reason::NotStalled, ""),
    }
    let (reason, text) = progress(observed, plan);
    if trouble.is_none() {
        let whole = is_whole(observed, plan);
        conditions.set(ETCD_HEALTHY, whole, reason, text.clone());
        let settled = settled(&mut conditions, plan, stored);
        match (whole, settled) {
            (false, _) => conditions.set(RECONCILING, true, reason, text.clone()),
            (true, Some((reason, why))) => conditions.set(RECONCILING, true, reason, why),
            (true, None) => conditions.set(RECONCILING, false, Reason::Idle, text.clone()),
        }
    }
    let serves = plan.voters > 0 && plan.healthy >= quorum(plan.voters);
    let when = |serves: bool| match serves {
        true => (Reason::AsDesired, String::new()),
        false => (reason, text.clone()),
    };
    let (why, words) = when(serves);
    conditions.set(AVAILABLE, serves, why, words.clone());
    conditions.set(QUORUM_HEALTHY, serves, why, words);
    let (why, words) = when(plan.cluster_id.is_some());
    conditions.set(FOUNDED, plan.cluster_id.is_some(), why, words);
    odd_members(&mut conditions, plan);
    conditions.set_ready(&[AVAILABLE, ETCD_HEALTHY]);
    conditions
}

/// Says whether something is to be done about the members; what, if so.
fn settled(
    conditions: &mut Conditions,
    plan: &Plan,
    stored: &EtcdClusterStatus,
) -> Option<(Reason, String)> {
    let membership = plan.membership.as_ref()?;
    if membership.is_settled() {
        conditions.set(MEMBERSHIP_SETTLED, true, Reason::AsDesired, "");
        return None;
    }
    let said = stored
        .conditions
        .iter()
        .find(|c| c.type_ == MEMBERSHIP_SETTLED);
    // One round that shows too little is no news.
    let shaky = membership.facts.members.is_none() && plan.healthy >= quorum(plan.voters);
    if let Some(said) = said.filter(|_| shaky || membership.is_unsure()) {
        conditions.adopt(MEMBERSHIP_SETTLED, said);
        let changing = said.status == "False";
        return changing.then(|| (Reason::MembershipChanging, said.message.clone()));
    }
    let reason = if membership.is_changing() {
        Reason::MembershipChanging
    } else if membership.decision.held.is_empty() {
        Reason::Degraded
    } else {
        Reason::StepHeld
    };
    let text = membership.explanation();
    conditions.set(MEMBERSHIP_SETTLED, false, reason, text.clone());
    Some((reason, text))
}

fn odd_members(conditions: &mut Conditions, plan: &Plan) {
    if plan.voters == 0 {
        return;
    }
    if plan.voters % 2 == 1 {
        return conditions.set(ODD_MEMBERS, true, Reason::AsDesired, "");
    }
    let overdue = plan
        .membership
        .as_ref()
        .is_some_and(|m| m.facts.even_overdue);
    let text = format!(
        "{} voters survive no more failures than {}{}",
        plan.voters,
        plan.voters - 1,
        if overdue {
            "; it has been so for more than 15 minutes"
        } else {
            ""
        }
    );
    conditions.set(ODD_MEMBERS, false, Reason::EvenMembers, text);
}

/// Every voter is healthy, and there are as many as wanted. A cluster that is being founded has
/// as many as its founding says. And no machine would start its member on an empty disk (I9).
fn is_whole(observed: &Observed, plan: &Plan) -> bool {
    let size = usize::try_from(observed.cluster.spec.size).unwrap_or(0);
    let enough = plan.membership.is_none() || plan.voters == size;
    plan.voters > 0 && plan.healthy == plan.voters && enough && plan.unguarded().next().is_none()
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
    let voters = plan.voters;
    if voters == 0 {
        return (
            Reason::AwaitingFounding,
            "the founding has just been recorded".to_owned(),
        );
    }
    let mut text = format!("{} of {voters} voters are healthy", plan.healthy);
    if is_whole(observed, plan) {
        return (Reason::AsDesired, text);
    }
    let size = usize::try_from(observed.cluster.spec.size).unwrap_or(0);
    if plan.membership.is_some() && voters != size {
        text += &format!(", {size} are wanted");
    }
    let snapshot = &observed.snapshot;
    for view in &snapshot.members {
        if let MemberHealth::Unhealthy(why) = health(view, snapshot) {
            let hint = observed.hint(&view.machine);
            text += &format!("; {}: {why}{hint}", view.name);
        }
    }
    text.extend(plan.unguarded().map(|why| format!("; {why}")));
    (progress_reason(plan), text)
}

/// Why the cluster is not whole.
fn progress_reason(plan: &Plan) -> Reason {
    let slots = &plan.ledger.slots;
    let started = slots.iter().filter(|slot| slot.started).count();
    let founding = slots
        .iter()
        .any(|slot| slot.generation == 0 && !slot.started);
    let changing = plan
        .membership
        .as_ref()
        .is_some_and(Membership::is_changing);
    if started == 0 {
        Reason::AwaitingMachines
    } else if founding {
        Reason::MachinesStarting
    } else if plan.healthy < quorum(plan.voters) {
        Reason::QuorumLost
    } else if changing {
        Reason::MembershipChanging
    } else if plan.healthy == plan.voters && plan.unguarded().next().is_some() {
        Reason::MachinesStarting
    } else {
        Reason::Degraded
    }
}

/// One row a member. A row whose words have not changed stays as it is stored, figures and time
/// included: a steady cluster is not written to.
fn rows(
    observed: &Observed,
    membership: Option<&Membership>,
    stored: &EtcdClusterStatus,
    now: Timestamp,
) -> Vec<MemberStatus> {
    let snapshot = &observed.snapshot;
    let row = |view: &MemberView| {
        let fresh = row(view, snapshot, membership, now);
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
    // The first look at a member may have been before its leader answered.
    let lag_is_new = before.lag_entries.is_none() && fresh.lag_entries.is_some();
    words(before) != words(fresh)
        || lag_is_new
        || (moved && fresh.healthy == Some(true) && size(fresh) > 100 << 20)
}

fn row(
    view: &MemberView,
    snapshot: &Snapshot,
    membership: Option<&Membership>,
    now: Timestamp,
) -> MemberStatus {
    let mut row = MemberStatus {
        name: view.name.clone(),
        machine: Some(view.machine.clone()),
        healthy: Some(false),
        last_probe_time: Some(seconds(now)),
        ..MemberStatus::default()
    };
    let listed = membership
        .into_iter()
        .flat_map(|known| known.facts.listed());
    if let Some(member) = listed.clone().find(|member| member.name == view.name) {
        row.role = Some(match member.role {
            _ if !member.started => MemberRole::Unstarted,
            Role::Voter => MemberRole::Voter,
            Role::Learner => MemberRole::Learner,
        });
    }
    let silences = membership.map(|known| &known.silent_since);
    row.silent_since = silences.and_then(|silences| silences.get(&view.name).cloned());
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
