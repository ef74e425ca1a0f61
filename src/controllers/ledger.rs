//! The ledger of an EtcdCluster, read: which member a machine has, under which name and address.
//! Pure; both controllers look it up here.

use crate::controllers::fields::{Problem, ProblemReason};
use crate::crd::{EtcdCluster, Ledger, Slot};
use crate::domain::{Founding, InitialClusterState, Machine, Member};

/// A member as the ledger has it.
#[derive(Clone, Debug)]
pub struct LedgerMember<'a> {
    pub slot: &'a Slot,
    /// `--name`. A founder is called like its machine.
    pub name: String,
    pub peer_url: String,
}

/// The ledger of a cluster whose founding is recorded.
pub fn founded(cluster: Option<&EtcdCluster>) -> Option<&Ledger> {
    let ledger = cluster?.status.as_ref()?.ledger.as_ref()?;
    ledger.founding.is_some().then_some(ledger)
}

/// The member that a machine has.
pub fn slot<'a>(ledger: &'a Ledger, machine: &str) -> Option<&'a Slot> {
    ledger.slots.iter().find(|slot| slot.machine == machine)
}

/// Every member, in the ledger's order. A slot of an older release has its address in the
/// founding.
pub fn members(ledger: &Ledger) -> impl Iterator<Item = LedgerMember<'_>> {
    ledger.slots.iter().filter_map(|slot| {
        Some(LedgerMember {
            slot,
            name: slot.name.clone().unwrap_or_else(|| slot.machine.clone()),
            peer_url: slot
                .peer_url
                .clone()
                .or_else(|| founders_url(ledger, &slot.machine))?,
        })
    })
}

/// The members as the ledger holds them; `None` until the founding is recorded.
pub fn founding(cluster: &EtcdCluster) -> Option<Founding> {
    let status = cluster.status.as_ref()?;
    let ledger = status.ledger.as_ref()?;
    let recorded = ledger.founding.as_ref()?;
    let member = |member: LedgerMember<'_>| Member {
        machine: member.slot.machine.clone(),
        started: member.slot.started,
        added: member.slot.generation > 0,
        name: member.name,
        peer_url: member.peer_url,
    };
    Some(Founding {
        token: recorded.token.clone(),
        members: members(ledger).map(member).collect(),
        state: match status.cluster_id {
            None => InitialClusterState::New,
            Some(_) => InitialClusterState::Existing,
        },
    })
}

/// A machine under another address than its member's: a member has its address for life, under another
/// one it would be another member.
pub fn moved(machines: &[Machine], founding: &Founding) -> Option<Problem> {
    let (machine, member) = machines.iter().find_map(|machine| {
        let member = founding.member_of(&machine.name)?;
        (member.peer_url != machine.peer_url()).then_some((machine, member))
    })?;
    Some(Problem {
        path: format!("spec.machines[{}].address", machine.name),
        reason: ProblemReason::InvalidSpec,
        message: format!(
            "is {}, but the etcd member of this machine has {} for life; put the address back, or \
             list the machine under another name, so that its member is replaced",
            machine.address, member.peer_url
        ),
    })
}

/// The members that vote, in the ledger's order.
pub fn voters(ledger: &Ledger) -> impl Iterator<Item = LedgerMember<'_>> {
    members(ledger)
        .filter(|member| member.slot.generation == 0 || member.slot.promoted == Some(true))
}

fn founders_url(ledger: &Ledger, machine: &str) -> Option<String> {
    let founding = ledger.founding.as_ref()?;
    let mut founders = founding.members.iter();
    let founder = founders.find(|founder| founder.name == machine)?;
    Some(founder.peer_url.clone())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A learner would refuse its clients.
    #[test]
    fn a_member_that_was_added_votes_once_it_is_promoted() {
        let slot = |machine: &str, generation: i64, promoted: Option<bool>| {
            json!({"machine": machine, "generation": generation, "started": true,
                   "peerURL": format!("https://{machine}:2380"), "promoted": promoted})
        };
        let ledger: Ledger = serde_json::from_value(json!({
            "founding": {"token": "t", "members": []},
            "slots": [slot("a", 0, None), slot("b", 1, None), slot("c", 2, Some(true))],
        }))
        .unwrap();
        let names: Vec<String> = voters(&ledger).map(|member| member.name).collect();
        assert_eq!(names, ["a", "c"]);
    }
}
