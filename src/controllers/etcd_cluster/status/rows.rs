//! One row a member. Pure.

use jiff::Timestamp;

use crate::controllers::etcd_cluster::observe::Observed;
use crate::controllers::etcd_cluster::plan::inputs::seconds;
use crate::controllers::etcd_cluster::plan::membership::Membership;
use crate::crd::{EtcdClusterStatus, MemberRole, MemberStatus};
use crate::membership::{Answer, MemberHealth, MemberView, Role, Snapshot, health, lag_entries};

/// A member's figures are written anew when its database has grown or shrunk by this share.
const DB_SIZE_SHARE: i64 = 4;

/// One row a member. A row whose words have not changed stays as it is stored, figures and time
/// included: a steady cluster is not written to.
pub fn rows(
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
    words(before) != words(fresh)
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
