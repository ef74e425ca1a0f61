//! From the object and what was seen to the planner's words, and back for a recorded operation.

use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt;

use super::super::observe::{Mark, Observed};
use crate::controllers::{ledger as read, names};
use crate::crd::{
    Announcement, EtcdCluster, EtcdClusterStatus, Ledger, Machine, NodeLossAction, PendingOperation,
};
use crate::domain::{MemberId, parse_go_duration};
use crate::membership::{
    Candidate, Facts, Goal, Loss, Marks, Operation, Recorded, RecordedMember, Step,
};

/// `nodeLoss.timeout` where none is given.
const LOSS_TIMEOUT: Duration = Duration::from_secs(300);

/// The ledger, parsed.
pub fn recorded(observed: &Observed, status: &EtcdClusterStatus, ledger: &Ledger) -> Recorded {
    let silent_since = |name: &str| -> Option<Timestamp> {
        let row = status.members.iter().find(|row| row.name == name)?;
        row.silent_since.as_ref()?.parse().ok()
    };
    let kept = |machine: &str| observed.marks.get(machine)?.keeps_data_of.as_ref();
    let members = read::members(ledger).map(|member| RecordedMember {
        guarded: kept(&member.slot.machine) == Some(&member.name),
        machine: member.slot.machine.clone(),
        peer_url: member.peer_url,
        id: member_id(member.slot.member_id.as_deref()),
        silent_since: silent_since(&member.name),
        name: member.name,
    });
    let last_loss_removal = ledger.last_replacement.as_ref();
    Recorded {
        cluster_id: status.cluster_id.as_ref().and_then(|id| id.parse().ok()),
        members: members.collect(),
        last_generation: u64::try_from(last_generation(ledger)).unwrap_or(0),
        last_loss_removal: last_loss_removal.and_then(|time| time.parse().ok()),
        tombstones: ledger
            .tombstones
            .iter()
            .filter_map(|id| id.parse().ok())
            .collect(),
    }
}

/// The largest generation that was ever used.
pub fn last_generation(ledger: &Ledger) -> i64 {
    let slots = ledger.slots.iter().map(|slot| slot.generation);
    slots.chain(ledger.last_generation).max().unwrap_or(0)
}

pub fn member_id(text: Option<&str>) -> Option<MemberId> {
    text?.parse().ok()
}

/// What the spec and the marks on machines ask for.
pub fn goal(observed: &Observed, ledger: &Ledger) -> Goal {
    let spec = &observed.cluster.spec;
    let action = spec.node_loss.as_ref().and_then(|loss| loss.action);
    let candidate = |machine: &Machine| {
        let mark = observed
            .marks
            .get(&machine.name)
            .cloned()
            .unwrap_or_default();
        let join = ledger
            .joins
            .iter()
            .find(|join| join.machine == machine.name);
        Candidate {
            name: machine.name.clone(),
            peer_url: names::peer_url(&machine.address),
            failure_domain: machine.failure_domain.clone(),
            marks: Marks {
                release_requested: mark.release_requested,
                lost: mark.lost,
                reimaged: is_reimaged(ledger, &machine.name),
            },
            attempts: join.map_or(0, |join| u8::try_from(join.attempts).unwrap_or(u8::MAX)),
            came_back: false,
        }
    };
    Goal {
        size: usize::try_from(spec.size).unwrap_or(0),
        machines: spec.machines.iter().map(candidate).collect(),
        remove_lost: action.unwrap_or_default() == NodeLossAction::RemoveMember,
    }
}

/// Whether the announcement means the member that this machine has.
fn is_reimaged(ledger: &Ledger, machine: &str) -> bool {
    let Some(announced) = &ledger.reimaged else {
        return false;
    };
    let slot = read::slot(ledger, machine);
    let is_meant = slot.is_some_and(|slot| slot.generation <= announced.generation);
    is_meant && machines_of(&announced.value).any(|name| name == machine)
}

/// The machines that an announcement names, separated by commas or spaces.
fn machines_of(value: &str) -> impl Iterator<Item = &str> {
    value.split([',', ' ']).filter(|name| !name.is_empty())
}

/// The announcement as the ledger shall hold it.
pub fn announcement(cluster: &EtcdCluster, ledger: &Ledger) -> Option<Announcement> {
    let value = cluster.annotations().get(names::ANNOTATION_REIMAGED)?;
    let known = ledger.reimaged.as_ref();
    let known = known.filter(|announced| announced.value == *value);
    Some(known.cloned().unwrap_or_else(|| Announcement {
        value: value.chars().take(1024).collect(),
        generation: last_generation(ledger),
    }))
}

/// Silence after which a member counts as lost.
pub fn loss_timeout(cluster: &EtcdCluster) -> Duration {
    let given = cluster.spec.node_loss.as_ref();
    let given = given.and_then(|loss| parse_go_duration(loss.timeout.as_ref()?).ok());
    given.unwrap_or(LOSS_TIMEOUT)
}

/// The operation as the status records it.
pub fn pending(step: &Step, facts: &Facts, because: &str, now: Timestamp) -> PendingOperation {
    let mut pending = PendingOperation {
        kind: step.kind().to_owned(),
        reason: Some(because.chars().take(4096).collect()),
        started_at: seconds(now),
        attempts: Some(0),
        ..PendingOperation::default()
    };
    match step {
        Step::AddLearner {
            machine,
            name,
            peer_url,
        } => {
            pending.machine = Some(machine.clone());
            pending.name = Some(name.clone());
            pending.peer_url = Some(peer_url.clone());
            pending.generation = i64::try_from(facts.next_generation).ok();
        }
        Step::Promote { id, machine } => {
            pending.machine = Some(machine.clone());
            pending.member_id = Some(id.to_string());
        }
        Step::MoveLeader { from, to } => {
            pending.member_id = Some(from.to_string());
            pending.target = Some(to.to_string());
        }
        Step::Remove { id, machine, why } => {
            pending.machine = machine.clone();
            pending.member_id = Some(id.to_string());
            pending.reason = Some(why.chars().take(4096).collect());
            let member = facts.member(*id).filter(|member| member.votes());
            let lost = member.and_then(|member| member.loss.as_ref());
            pending.automatic = lost.is_some_and(Loss::automatic).then_some(true);
        }
    }
    pending
}

/// The operation that the status records; an error for one that this release does not know.
pub fn operation(pending: &PendingOperation) -> Result<Operation, String> {
    let lacks = |what: &str| {
        format!(
            "status.pendingOperation of kind {:?} has no usable {what}; clear it when \
             `etcdctl member list` shows what you expect",
            pending.kind
        )
    };
    let id = |text: &Option<String>| member_id(text.as_deref());
    let machine = || pending.machine.clone().ok_or_else(|| lacks("machine"));
    let member = || id(&pending.member_id).ok_or_else(|| lacks("memberID"));
    let step = match pending.kind.as_str() {
        "AddLearner" => Step::AddLearner {
            machine: machine()?,
            name: pending.name.clone().ok_or_else(|| lacks("name"))?,
            peer_url: pending.peer_url.clone().ok_or_else(|| lacks("peerURL"))?,
        },
        "Promote" => Step::Promote {
            id: member()?,
            machine: machine()?,
        },
        "MoveLeader" => Step::MoveLeader {
            from: member()?,
            to: id(&pending.target).ok_or_else(|| lacks("target"))?,
        },
        "Remove" => Step::Remove {
            id: member()?,
            machine: pending.machine.clone(),
            why: pending.reason.clone().unwrap_or_default(),
        },
        _ => return Err(lacks("kind")),
    };
    Ok(Operation { step })
}

/// A time without fractions, as status shows it.
pub fn seconds(now: Timestamp) -> String {
    Timestamp::from_second(now.as_second())
        .unwrap_or(now)
        .to_string()
}

/// What an annotation of a machine-config Secret says of its machine.
pub fn mark(annotations: &std::collections::BTreeMap<String, String>) -> Mark {
    let said = |key: &str| annotations.get(key).cloned();
    Mark {
        lost: said(names::ANNOTATION_MACHINE_LOST),
        release_requested: said(names::ANNOTATION_RELEASE_REQUESTED),
        keeps_data_of: said(names::ANNOTATION_KEEPS_DATA_OF),
    }
}
