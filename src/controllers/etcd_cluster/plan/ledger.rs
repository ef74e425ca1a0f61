//! What the ledger holds after something has become certain. Pure.

use jiff::Timestamp;

use super::inputs::{last_generation, seconds};
use crate::controllers::ledger as read;
use crate::crd::{Join, Ledger, PendingOperation, Slot};
use crate::domain::MemberId;
use crate::membership::{Departed, Facts, MAX_ATTEMPTS, Snapshot};

/// Most tombstones that are kept, newest last; the status bounds them.
const MOST_TOMBSTONES: usize = 1024;

/// Takes the members' own answers in: a member that has answered has an ID, and has started, for
/// good (I9).
pub fn answered(ledger: &mut Ledger, snapshot: &Snapshot) {
    for (view, answer) in snapshot.answers() {
        let slot = ledger.slots.iter_mut().find(|s| s.machine == view.machine);
        if let Some(slot) = slot
            && slot
                .member_id
                .as_deref()
                .is_none_or(|known| known == answer.member_id.to_string())
        {
            slot.member_id = Some(answer.member_id.to_string());
            slot.started = true;
        }
    }
}

/// Takes over who votes by the list of members: clients of the cluster are told of those only.
pub fn promoted(ledger: &mut Ledger, facts: &Facts) {
    for voter in facts.voters() {
        let id = voter.id.to_string();
        let mut slots = ledger.slots.iter_mut().filter(|slot| slot.generation > 0);
        if let Some(slot) = slots.find(|slot| slot.member_id.as_deref() == Some(&id)) {
            slot.promoted = Some(true);
        }
    }
}

/// A verified operation: `added` is the ID of a new learner.
pub fn done(
    ledger: &mut Ledger,
    operation: &PendingOperation,
    added: Option<MemberId>,
    now: Timestamp,
) {
    match operation.kind.as_str() {
        "AddLearner" => add(ledger, operation, added),
        "Promote" => ledger
            .joins
            .retain(|join| Some(&join.machine) != operation.machine.as_ref()),
        "Remove" => {
            if operation.automatic == Some(true) {
                ledger.last_replacement = Some(seconds(now));
            }
            if let Some(id) = &operation.member_id {
                remove(ledger, id);
            }
        }
        _ => {}
    }
}

fn add(ledger: &mut Ledger, operation: &PendingOperation, added: Option<MemberId>) {
    let (Some(machine), Some(id)) = (&operation.machine, added) else {
        return;
    };
    let generation = operation.generation.unwrap_or(0);
    ledger.last_generation = Some(last_generation(ledger).max(generation));
    ledger.slots.retain(|slot| slot.machine != *machine);
    ledger.slots.push(Slot {
        machine: machine.clone(),
        generation,
        name: operation.name.clone(),
        peer_url: operation.peer_url.clone(),
        member_id: Some(id.to_string()),
        started: false,
        promoted: None,
    });
}

/// Members that are no longer listed, whoever removed them.
pub fn departed(ledger: &mut Ledger, departed: &[Departed]) {
    for gone in departed {
        remove(ledger, &gone.id.to_string());
    }
}

/// Drops the slot of a member for good. Its generation stays used; its machine has to earn the next
/// try: one that never started has one try less, one that did has one try.
fn remove(ledger: &mut Ledger, id: &str) {
    ledger.last_generation = Some(last_generation(ledger)).filter(|last| *last > 0);
    let mut slots = ledger.slots.iter();
    if let Some(slot) = slots.find(|slot| slot.member_id.as_deref() == Some(id)) {
        let machine = slot.machine.clone();
        let before = ledger.joins.iter().find(|join| join.machine == machine);
        let attempts = if slot.started {
            i32::from(MAX_ATTEMPTS) - 1
        } else {
            before.map_or(0, |join| join.attempts) + 1
        };
        ledger.joins.retain(|join| join.machine != machine);
        ledger.joins.push(Join { machine, attempts });
        ledger
            .slots
            .retain(|slot| slot.member_id.as_deref() != Some(id));
    }
    if !ledger.tombstones.iter().any(|known| known == id) {
        ledger.tombstones.push(id.to_owned());
        let surplus = ledger.tombstones.len().saturating_sub(MOST_TOMBSTONES);
        ledger.tombstones.drain(..surplus);
    }
}

/// What is known of machines that are neither listed nor have a member is forgotten.
pub fn forget_strangers(ledger: &mut Ledger, inventory: &[crate::crd::Machine]) {
    let slots: Vec<String> = read::members(ledger)
        .map(|member| member.slot.machine.clone())
        .collect();
    ledger.joins.retain(|join| {
        slots.contains(&join.machine) || inventory.iter().any(|m| m.name == join.machine)
    });
}
