//! What follows from it. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use super::observe::{Mirror, Observed, founders};
use crate::controllers::pace::pause;
use crate::crd::{EtcdClusterStatus, Founding, Ledger, Slot};
use crate::domain::{ClusterId, MemberId};
use crate::membership::{
    FoundingFacts, FoundingStep, Freeze, Identity, LedgerRecord, MemberHealth, founding_step,
    health, identity,
};

/// What is to be done, and what is known.
#[derive(Debug)]
pub struct Plan {
    /// The ledger ConfigMap to write, create-only when `mirror_is_new`.
    pub mirror: Option<LedgerRecord>,
    pub mirror_is_new: bool,
    /// The ledger as the status shall hold it.
    pub ledger: Ledger,
    pub cluster_id: Option<ClusterId>,
    /// Why nothing may be done.
    pub halt: Option<String>,
    /// The record of an earlier cluster of this name has yet to be deleted.
    pub left_over: bool,
    pub freeze: Option<Freeze>,
    /// Every founder is healthy by its own answer.
    pub healthy: usize,
    /// The shortest pause until the next look.
    pub requeue: Duration,
}

impl Plan {
    /// How long until the next look, when the status has not changed for `quiet`.
    pub fn pause(&self, quiet: Duration) -> Duration {
        if self.requeue == STEADY {
            return STEADY;
        }
        pause(self.requeue, quiet)
    }
}

/// A healthy cluster is asked again after this time.
const STEADY: Duration = Duration::from_secs(15);
/// While members are starting.
const STARTING: Duration = Duration::from_secs(1);
/// While machines have yet to boot.
const AWAITING: Duration = Duration::from_secs(3);

/// Plans the next writes.
pub fn plan(observed: &Observed) -> Plan {
    let empty = EtcdClusterStatus::default();
    let status = observed.cluster.status.as_ref().unwrap_or(&empty);
    let recorded = status.ledger.clone().unwrap_or_default();
    let step = match &observed.mirror {
        Mirror::Unread => FoundingStep::Done,
        Mirror::LeftOver => return waiting(recorded, status),
        Mirror::Unreadable(why) => {
            FoundingStep::Halt(format!("the founding record cannot be read: {why}"))
        }
        mirror => founding_step(&FoundingFacts {
            ledger: recorded.founding.clone(),
            mirror: if let Mirror::Read(record) = mirror {
                Some(record.clone())
            } else {
                None
            },
            published: observed.published,
            answered: observed.answered,
        }),
    };
    match step {
        FoundingStep::Halt(why) => halted(recorded, status, why),
        FoundingStep::Record => record(founders(&observed.cluster), recorded),
        FoundingStep::RestoreStatus(record) => {
            let known = record.cluster_id.as_deref().and_then(|id| id.parse().ok());
            founded(observed, record.founding, recorded, known, false)
        }
        FoundingStep::RestoreMirror(founding) => {
            founded(observed, founding, recorded, cluster_id(status), true)
        }
        FoundingStep::Done => match recorded.founding.clone() {
            Some(founding) => founded(observed, founding, recorded, cluster_id(status), false),
            None => halted(recorded, status, "the ledger holds no founding".to_owned()),
        },
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
        healthy: 0,
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
    ledger.slots = slots(&founding, &BTreeMap::new());
    ledger.founding = Some(founding.clone());
    Plan {
        mirror: Some(LedgerRecord {
            founding,
            cluster_id: None,
        }),
        mirror_is_new: true,
        ledger,
        cluster_id: None,
        halt: None,
        left_over: false,
        freeze: None,
        healthy: 0,
        requeue: AWAITING,
    }
}

/// Takes the answers into the ledger: the cluster's ID (I16), and each slot's member ID.
fn founded(
    observed: &Observed,
    founding: Founding,
    mut ledger: Ledger,
    known: Option<ClusterId>,
    mirror_is_new: bool,
) -> Plan {
    let recorded = member_ids(&ledger.slots);
    let verdict = identity(&observed.snapshot, known, &recorded);
    let (cluster_id, freeze) = match verdict {
        Identity::Unknown => (known, None),
        Identity::One(id) => (Some(id), None),
        Identity::Frozen(freeze) => (known, Some(freeze)),
    };
    if freeze.is_none() {
        let mut ids = recorded;
        for (view, answer) in observed.snapshot.answers() {
            ids.insert(view.machine.clone(), answer.member_id);
        }
        ledger.slots = slots(&founding, &ids);
    }
    ledger.founding = Some(founding.clone());
    let record = LedgerRecord {
        founding,
        cluster_id: cluster_id.map(|id| id.to_string()),
    };
    let in_place = match &observed.mirror {
        Mirror::Unread => true,
        Mirror::Read(found) => *found == record,
        Mirror::Missing | Mirror::LeftOver | Mirror::Unreadable(_) => false,
    };
    let healthy = observed
        .snapshot
        .members
        .iter()
        .filter(|view| health(view, &observed.snapshot) == MemberHealth::Healthy)
        .count();
    Plan {
        mirror: (!in_place).then_some(record),
        mirror_is_new,
        requeue: pace(observed, healthy),
        ledger,
        cluster_id,
        halt: None,
        left_over: false,
        freeze,
        healthy,
    }
}

fn pace(observed: &Observed, healthy: usize) -> Duration {
    let members = observed.snapshot.members.len();
    if members > 0 && healthy == members {
        STEADY
    } else if observed.snapshot.answers().next().is_some() {
        STARTING
    } else {
        AWAITING
    }
}

fn member_ids(slots: &[Slot]) -> BTreeMap<String, MemberId> {
    let known = |slot: &Slot| Some((slot.machine.clone(), slot.member_id.as_ref()?.parse().ok()?));
    slots.iter().filter_map(known).collect()
}

/// One slot a founder; one that has answered has started, for good (I9).
fn slots(founding: &Founding, ids: &BTreeMap<String, MemberId>) -> Vec<Slot> {
    let slot = |member: &crate::crd::FoundingMember| {
        let id = ids.get(&member.name);
        Slot {
            machine: member.name.clone(),
            generation: 0,
            member_id: id.map(ToString::to_string),
            started: id.is_some(),
            ..Slot::default()
        }
    };
    founding.members.iter().map(slot).collect()
}
