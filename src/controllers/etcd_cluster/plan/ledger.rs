//! What the ledger holds after something has become certain. Pure.

use jiff::Timestamp;

use super::inputs::{last_generation, seconds};
use crate::controllers::ledger as read;
use crate::crd::{Join, Ledger, PendingOperation, Slot};
use crate::domain::MemberId;
use crate::membership::{Departed, Facts, ListedMember, MAX_ATTEMPTS, Snapshot};

/// Most tombstones that are kept, newest last; the status bounds them.
const MOST_TOMBSTONES: usize = 1024;

/// Takes in what members say of themselves and of each other: one that is listed has an ID, and one that has
/// answered or is listed with client URLs has started, for good (I9).
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
    let answers = snapshot.answers();
    let lists = answers.filter_map(|(_, answer)| answer.members.as_ref().ok());
    for listed in lists.flatten() {
        let mut slots = ledger.slots.iter_mut();
        if let Some(slot) = slots.find(|slot| is_of(slot, listed)) {
            slot.member_id = Some(listed.id.to_string());
            slot.started |= !listed.client_urls.is_empty();
        }
    }
}

/// A founder is listed by its name before it has started.
fn is_of(slot: &Slot, listed: &ListedMember) -> bool {
    match &slot.member_id {
        Some(id) => *id == listed.id.to_string(),
        None => slot.generation == 0 && slot.machine == listed.name,
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::ClusterId;
    use crate::membership::{Answer, MemberView};

    /// A founder that started and died before it was asked: its new disk must stay without etcd.
    #[test]
    fn a_member_has_started_when_the_others_say_so() {
        let mut ledger: Ledger = serde_json::from_value(json!({"slots": [
            {"machine": "cp-1", "generation": 0, "started": false},
            {"machine": "cp-2", "generation": 0, "started": false},
            {"machine": "cp-3", "generation": 0, "started": false},
            {"machine": "cp-4", "generation": 7, "name": "cp-4_7", "memberID": "4",
             "started": false},
        ]}))
        .unwrap();
        let listed = |id: u64, name: &str, started: bool| ListedMember {
            id: MemberId(id),
            name: name.to_owned(),
            peer_urls: Vec::new(),
            client_urls: started
                .then(|| "https://c".to_owned())
                .into_iter()
                .collect(),
            is_learner: false,
        };
        let answer = Answer {
            cluster_id: ClusterId(1),
            member_id: MemberId(1),
            leader: Some(MemberId(1)),
            raft_term: 2,
            raft_index: 9,
            raft_applied_index: 9,
            db_size_bytes: 0,
            version: String::new(),
            is_learner: false,
            errors: Vec::new(),
            members: Ok(vec![
                listed(1, "cp-1", true),
                listed(2, "cp-2", true),
                listed(3, "cp-3", false),
                listed(4, "cp-4_7", true),
            ]),
        };
        let view = |machine: &str, answer| MemberView {
            name: machine.to_owned(),
            machine: machine.to_owned(),
            peer_url: String::new(),
            answer,
        };
        let silent = || Err("nothing answers".to_owned());
        let members = vec![view("cp-1", Ok(answer)), view("cp-2", silent())];
        answered(&mut ledger, &Snapshot { members });
        let started: Vec<bool> = ledger.slots.iter().map(|slot| slot.started).collect();
        assert_eq!(started, [true, true, false, true]);
        let ids: Vec<_> = ledger
            .slots
            .iter()
            .map(|slot| slot.member_id.as_deref())
            .collect();
        assert_eq!(ids, ["1", "2", "3", "4"].map(Some));
    }
}
