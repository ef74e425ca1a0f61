//! The ledger of an EtcdCluster, read: which member a machine has, under which name and address.
//! Pure; both controllers of a stacked cluster look it up here.

use crate::crd::{EtcdCluster, Ledger, Slot};

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

fn founders_url(ledger: &Ledger, machine: &str) -> Option<String> {
    let founding = ledger.founding.as_ref()?;
    let mut founders = founding.members.iter();
    let founder = founders.find(|founder| founder.name == machine)?;
    Some(founder.peer_url.clone())
}
