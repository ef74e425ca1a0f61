//! Which members there are, by their own linearizable lists and the ledger (I7, I8, I18).

use std::collections::BTreeMap;

use super::{Round, expected};
use crate::domain::MemberId;
use crate::membership::facts::Departed;
use crate::membership::memory::Memory;
use crate::membership::snapshot::{ListedMember, MemberView, Snapshot};
use crate::membership::verdict::{Freeze, misplaced, one_cluster};

/// A listed member with its slot's words.
#[derive(Debug)]
pub(super) struct Listed<'a> {
    pub id: MemberId,
    pub name: String,
    pub peer_url: String,
    pub is_learner: bool,
    pub started: bool,
    pub guarded: bool,
    pub machine: Option<String>,
    /// What it said; absent when it was not asked.
    pub view: Option<&'a MemberView>,
}

/// The answers without those of removed members: their machines are as good as silent (I10).
pub(super) fn of_this_cluster(round: &Round<'_>) -> Snapshot {
    let mut snapshot = round.snapshot.clone();
    for view in &mut snapshot.members {
        if let Ok(answer) = &view.answer
            && round.ledger.tombstones.contains(&answer.member_id)
        {
            view.answer = Err(format!(
                "its machine still runs the removed member {}",
                answer.member_id
            ));
        }
    }
    snapshot
}

/// Why nothing may be changed (I8, I18).
pub(super) fn freeze(
    snapshot: &Snapshot,
    round: &Round<'_>,
    memory: &mut Memory,
) -> Option<Freeze> {
    let recorded: BTreeMap<String, MemberId> = round
        .ledger
        .members
        .iter()
        .filter_map(|slot| Some((slot.machine.clone(), slot.id?)))
        .collect();
    let differ = lists_differ(snapshot);
    // One round of differing lists is a change that happened between two questions.
    let split = differ.clone().filter(|_| memory.lists_differed);
    memory.lists_differed = differ.is_some();
    one_cluster(snapshot, round.ledger.cluster_id)
        .err()
        .or_else(|| misplaced(snapshot, &recorded))
        .or_else(|| stranger(snapshot, round))
        .or(split.map(Freeze::SplitBrain))
}

fn lists(snapshot: &Snapshot) -> impl Iterator<Item = (&MemberView, u64, &Vec<ListedMember>)> {
    snapshot.answers().filter_map(|(view, answer)| {
        let list = answer.members.as_ref().ok()?;
        Some((view, answer.raft_applied_index, list))
    })
}

/// ID, address and learner flag: what a list says about membership. Names and client URLs come
/// later, by writes of their own.
fn membership(list: &[ListedMember]) -> Vec<(MemberId, &[String], bool)> {
    let mut rows: Vec<_> = list
        .iter()
        .map(|member| (member.id, member.peer_urls.as_slice(), member.is_learner))
        .collect();
    rows.sort();
    rows
}

fn lists_differ(snapshot: &Snapshot) -> Option<String> {
    let mut lists = lists(snapshot);
    let (first, _, list) = lists.next()?;
    let expected = membership(list);
    let (other, _, _) = lists.find(|(_, _, list)| membership(list) != expected)?;
    Some(format!(
        "{} and {} list different members behind linearizable reads",
        first.name, other.name
    ))
}

/// A listed member that is in no slot, or that is listed at another address than its slot's.
fn stranger(snapshot: &Snapshot, round: &Round<'_>) -> Option<Freeze> {
    let (view, _, list) = lists(snapshot).max_by_key(|(_, applied, _)| *applied)?;
    list.iter().find_map(|member| {
        let urls = member.peer_urls.join(",");
        let text = match round.ledger.slot(member.id, &member.peer_urls) {
            Some(slot) if member.peer_urls.contains(&slot.peer_url) => return None,
            Some(slot) => format!(
                "{} lists member {} of machine {} at {urls}, but the ledger records {}",
                view.name, member.id, slot.machine, slot.peer_url
            ),
            None if added_by_us(member, round) => return None,
            // Left over from a call that came through after it was given up: it is removed like
            // every learner that does not start (I14).
            None if member.is_learner && member.unstarted() => return None,
            None => format!(
                "{} lists member {} ({}) at {urls}, which is in no slot of the ledger: remove it \
                 with etcdctl if it does not belong here",
                view.name, member.id, member.name
            ),
        };
        Some(Freeze::IdentityMismatch(text))
    })
}

/// It is the learner whose addition is recorded.
fn added_by_us(member: &ListedMember, round: &Round<'_>) -> bool {
    member.is_learner
        && expected(round).is_some_and(|(_, _, url)| member.peer_urls.iter().any(|u| u == url))
}

/// The list of the member that has applied most; none while lists differ.
pub(super) fn list(snapshot: &Snapshot, memory: &Memory) -> Option<Vec<ListedMember>> {
    if memory.lists_differed {
        return None;
    }
    let newest = lists(snapshot).max_by_key(|(_, applied, _)| *applied);
    newest.map(|(_, _, list)| {
        let mut list = list.clone();
        list.sort_by_key(|member| member.id);
        list
    })
}

/// Every listed member with its slot and its answer.
pub(super) fn matched<'a>(
    list: &[ListedMember],
    snapshot: &'a Snapshot,
    round: &Round<'_>,
) -> Vec<Listed<'a>> {
    let row = |member: &ListedMember| {
        let slot = round.ledger.slot(member.id, &member.peer_urls);
        let ours = expected(round).filter(|_| slot.is_none() && added_by_us(member, round));
        let machine = slot
            .map(|slot| slot.machine.clone())
            .or(ours.map(|(machine, ..)| machine.to_owned()));
        let name = slot
            .map(|slot| slot.name.clone())
            .or(ours.map(|(_, name, _)| name.to_owned()));
        let answers_for_it = |view: &&MemberView| Some(&view.machine) == machine.as_ref();
        Listed {
            id: member.id,
            name: name.unwrap_or_else(|| member.name.clone()),
            peer_url: member.peer_urls.first().cloned().unwrap_or_default(),
            is_learner: member.is_learner,
            started: !member.unstarted(),
            guarded: slot.is_some_and(|slot| slot.guarded),
            view: snapshot.members.iter().find(answers_for_it),
            machine,
        }
    };
    list.iter().map(row).collect()
}

/// Recorded members that are not listed any more.
pub(super) fn departed(slots: &[Listed<'_>], round: &Round<'_>) -> Vec<Departed> {
    let recorded = round.ledger.members.iter();
    recorded
        .filter_map(|slot| {
            let id = slot.id?;
            let gone = slots.iter().all(|listed| listed.id != id);
            gone.then(|| Departed {
                id,
                machine: slot.machine.clone(),
            })
        })
        .collect()
}
