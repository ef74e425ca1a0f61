//! What follows from it. Pure.
//!
//! Here is the founding; once a member has answered, `membership` goes on from there.

pub mod inputs;
mod ledger;
pub mod machines;
pub mod membership;

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use self::membership::Membership;
use super::mirror::{Mirror, MirrorRecord};
use super::observe::{Observed, founders};
use crate::controllers::pace::pause;
use crate::crd::{EtcdClusterStatus, Founding, Ledger, Slot};
use crate::domain::ClusterId;
use crate::membership::{
    FoundingFacts, FoundingStep, Freeze, Identity, LedgerRecord, MemberHealth, Memory, Operation,
    founding_step, health, identity,
};

/// What is to be done, and what is known.
#[derive(Debug)]
pub struct Plan {
    /// The ledger ConfigMap to write, create-only when `mirror_is_new`.
    pub mirror: Option<MirrorRecord>,
    pub mirror_is_new: bool,
    /// The ledger as the status shall hold it.
    pub ledger: Ledger,
    pub cluster_id: Option<ClusterId>,
    /// Why nothing may be done.
    pub halt: Option<String>,
    /// The record of an earlier cluster of this name has yet to be deleted.
    pub left_over: bool,
    pub freeze: Option<Freeze>,
    /// What is done about the members; `None` until one has answered.
    pub membership: Option<Membership>,
    /// Voters that are healthy by their own answers.
    pub healthy: usize,
    /// Voters.
    pub voters: usize,
    /// The shortest pause until the next look.
    pub requeue: Duration,
}

impl Plan {
    /// How long until the next look, when the status has not changed for `quiet`. With members it
    /// is never longer than for healthy ones, and ends with the next timer that does: what has
    /// only been waited for is done at once.
    pub fn pause(&self, quiet: Duration) -> Duration {
        let Some(membership) = &self.membership else {
            return pause(self.requeue, quiet);
        };
        let pause = pause(self.requeue, quiet).min(STEADY);
        let due = membership.due_in.map(|due| due.max(SHORTEST));
        due.map_or(pause, |due| due.min(pause))
    }
}

impl Plan {
    /// What lets a machine start its member on an empty disk, one sentence a member.
    pub fn unguarded(&self) -> impl Iterator<Item = String> {
        self.membership.iter().flat_map(Membership::unguarded)
    }

    /// Notes what a try came to, while the operation is still on record.
    pub fn tried(&mut self, operation: &Operation, message: &str) {
        let Some(membership) = &mut self.membership else {
            return;
        };
        if let Some(pending) = &mut membership.pending
            && inputs::operation(pending).as_ref() == Ok(operation)
        {
            pending.message = Some(message.chars().take(4096).collect());
        }
    }
}

/// A healthy cluster is asked again after this time.
const STEADY: Duration = Duration::from_secs(15);
/// While members are starting, and right after a change.
const STARTING: Duration = Duration::from_secs(1);
/// When a timer is about to end.
const SHORTEST: Duration = Duration::from_millis(100);
/// While machines have yet to boot.
const AWAITING: Duration = Duration::from_secs(3);
/// While a change of membership is under way or wanted.
const CHANGING: Duration = Duration::from_secs(2);

/// Plans the next writes.
pub fn plan(observed: &Observed, memory: &mut Memory, now: Timestamp) -> Plan {
    let empty = EtcdClusterStatus::default();
    let status = observed.cluster.status.as_ref().unwrap_or(&empty);
    let recorded = status.ledger.clone().unwrap_or_default();
    let step = match &observed.mirror {
        Mirror::Agrees(_) => FoundingStep::Done,
        Mirror::LeftOver => return waiting(recorded, status),
        Mirror::Unreadable(why) => {
            FoundingStep::Halt(format!("the founding record cannot be read: {why}"))
        }
        mirror => founding_step(&FoundingFacts {
            ledger: recorded.founding.clone(),
            mirror: if let Mirror::Read(record) = mirror {
                Some(record.founding.clone())
            } else {
                None
            },
            published: observed.published,
            answered: observed.answered,
        }),
    };
    let time = Time { memory, now };
    match step {
        FoundingStep::Halt(why) => halted(recorded, status, why),
        FoundingStep::Record => record(founders(&observed.cluster), recorded),
        FoundingStep::RestoreStatus(record) => {
            let known = record.cluster_id.as_deref().and_then(|id| id.parse().ok());
            let ledger = mirrored(&observed.mirror).unwrap_or(recorded);
            founded(observed, record.founding, ledger, known, time)
        }
        FoundingStep::RestoreMirror(founding) => {
            let plan = founded(observed, founding, recorded, cluster_id(status), time);
            Plan {
                mirror_is_new: true,
                ..plan
            }
        }
        FoundingStep::Done => match recorded.founding.clone() {
            Some(founding) => founded(observed, founding, recorded, cluster_id(status), time),
            None => halted(recorded, status, "the ledger holds no founding".to_owned()),
        },
    }
}

/// What earlier rounds saw, and the time of this one.
struct Time<'a> {
    memory: &'a mut Memory,
    now: Timestamp,
}

fn mirrored(mirror: &Mirror) -> Option<Ledger> {
    match mirror {
        Mirror::Read(record) => record.ledger.clone(),
        _ => None,
    }
}

fn cluster_id(status: &EtcdClusterStatus) -> Option<ClusterId> {
    status.cluster_id.as_deref().and_then(|id| id.parse().ok())
}

fn halted(ledger: Ledger, status: &EtcdClusterStatus, why: String) -> Plan {
    Plan {
        mirror: None,
        mirror_is_new: false,
        cluster_id: cluster_id(status),
        ledger,
        halt: Some(why),
        left_over: false,
        freeze: None,
        membership: None,
        healthy: 0,
        voters: 0,
        requeue: STEADY,
    }
}

/// Founds nothing and restores nothing until the other record is gone.
fn waiting(ledger: Ledger, status: &EtcdClusterStatus) -> Plan {
    Plan {
        left_over: true,
        requeue: AWAITING,
        halt: None,
        ..halted(ledger, status, String::new())
    }
}

/// Writes the record down; nobody is asked before it is there.
fn record(founding: Founding, mut ledger: Ledger) -> Plan {
    ledger.slots = slots(&founding);
    ledger.founding = Some(founding.clone());
    Plan {
        mirror: Some(MirrorRecord {
            founding: LedgerRecord {
                founding,
                cluster_id: None,
            },
            ledger: Some(ledger.clone()),
        }),
        mirror_is_new: true,
        ledger,
        cluster_id: None,
        halt: None,
        left_over: false,
        freeze: None,
        membership: None,
        healthy: 0,
        voters: 0,
        requeue: AWAITING,
    }
}

/// Takes the answers into the ledger: the cluster's ID (I16), each slot's member ID, and what
/// became of changes.
fn founded(
    observed: &Observed,
    founding: Founding,
    mut ledger: Ledger,
    known: Option<ClusterId>,
    time: Time<'_>,
) -> Plan {
    ledger.founding = Some(founding.clone());
    if ledger.slots.is_empty() && known.is_none() {
        ledger.slots = slots(&founding);
    }
    let (cluster_id, membership, trouble) = match known {
        None => first_answer(observed, &mut ledger),
        Some(id) => {
            let (membership, trouble) = later(observed, id, &mut ledger, time);
            (Some(id), membership, trouble)
        }
    };
    let record = MirrorRecord {
        founding: LedgerRecord {
            founding,
            cluster_id: cluster_id.map(|id| id.to_string()),
        },
        ledger: Some(ledger.clone()),
    };
    let in_place = match &observed.mirror {
        Mirror::Agrees(found) | Mirror::Read(found) => **found == record,
        Mirror::Missing | Mirror::LeftOver | Mirror::Unreadable(_) => false,
    };
    let (voters, healthy) = count(observed, membership.as_ref());
    let (freeze, halt) = match trouble {
        Some(Trouble::Freeze(freeze)) => (Some(freeze), None),
        Some(Trouble::Halt(why)) => (None, Some(why)),
        None => (None, None),
    };
    Plan {
        mirror: (!in_place).then_some(record),
        mirror_is_new: false,
        requeue: pace(observed, membership.as_ref(), healthy),
        ledger,
        cluster_id,
        halt,
        left_over: false,
        freeze,
        membership,
        healthy,
        voters,
    }
}

/// Why nothing may be changed.
enum Trouble {
    Freeze(Freeze),
    Halt(String),
}

/// Looks for the first answer to a founding.
fn first_answer(
    observed: &Observed,
    ledger: &mut Ledger,
) -> (Option<ClusterId>, Option<Membership>, Option<Trouble>) {
    match identity(&observed.snapshot, None, &BTreeMap::new()) {
        Identity::Unknown => (None, None, None),
        Identity::One(id) => {
            ledger::answered(ledger, &observed.snapshot);
            (Some(id), None, None)
        }
        Identity::Frozen(freeze) => (None, None, Some(Trouble::Freeze(freeze))),
    }
}

/// Looks after the members of a cluster that has answered before.
fn later(
    observed: &Observed,
    id: ClusterId,
    ledger: &mut Ledger,
    time: Time<'_>,
) -> (Option<Membership>, Option<Trouble>) {
    let empty = EtcdClusterStatus::default();
    let status = observed.cluster.status.as_ref().unwrap_or(&empty);
    let status = EtcdClusterStatus {
        cluster_id: Some(id.to_string()),
        ..status.clone()
    };
    ledger.reimaged = inputs::announcement(&observed.cluster, ledger);
    match membership::membership(observed, &status, ledger, time.memory, time.now) {
        Ok(membership) => {
            let freeze = membership.facts.frozen.clone();
            (Some(membership), freeze.map(Trouble::Freeze))
        }
        Err(why) => (None, Some(Trouble::Halt(why))),
    }
}

/// Voters, and how many of them are healthy by their answers of this round.
fn count(observed: &Observed, membership: Option<&Membership>) -> (usize, usize) {
    let learner = |name: &str| {
        let mut learners = membership.into_iter().flat_map(|m| m.facts.learners());
        learners.any(|learner| learner.name == name)
    };
    let members = observed.snapshot.members.iter();
    let voters: Vec<_> = members.filter(|view| !learner(&view.name)).collect();
    let healthy = |view: &&&crate::membership::MemberView| {
        health(view, &observed.snapshot) == MemberHealth::Healthy
    };
    (voters.len(), voters.iter().filter(healthy).count())
}

fn pace(observed: &Observed, membership: Option<&Membership>, healthy: usize) -> Duration {
    let members = observed.snapshot.members.len();
    if let Some(membership) = membership {
        let verified = membership.pending.is_none() && !membership.news.is_empty();
        return if verified || membership.wants_snapshot {
            STARTING
        } else if !membership.is_settled() || membership.unguarded().next().is_some() {
            CHANGING
        } else if healthy == members {
            STEADY
        } else {
            AWAITING
        };
    }
    if observed.snapshot.answers().next().is_some() {
        STARTING
    } else {
        AWAITING
    }
}

/// One slot a founder.
pub fn slots(founding: &Founding) -> Vec<Slot> {
    let slot = |member: &crate::crd::FoundingMember| Slot {
        machine: member.name.clone(),
        ..Slot::default()
    };
    founding.members.iter().map(slot).collect()
}

#[cfg(test)]
mod tests;
