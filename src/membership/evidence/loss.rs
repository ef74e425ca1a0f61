//! When a member will not come back, and when it shall go (etcd-membership C).

use std::time::Duration;

use jiff::Timestamp;

use super::list::Listed;
use super::{Round, at, elapsed, past, slot_of};
use crate::membership::facts::Loss;
use crate::membership::goal::Candidate;
use crate::membership::memory::{MemberMemory, Memory};
use crate::membership::snapshot::Snapshot;
use crate::membership::verdict::{corrupt_member, majority_leader};

/// Silence that is enough when somebody says that the machine is gone (A.5).
pub(super) const CONFIRMED_GRACE: Duration = Duration::from_secs(30);
/// Voters removed for their silence are this far apart (C), unless they fell silent together.
const LOSS_INTERVAL: Duration = Duration::from_secs(3600);

/// Runs the timers of a member's silence. Called only while a majority answers: a seed that
/// reaches nobody learns nothing about anybody.
pub(super) fn time(listed: &Listed<'_>, round: &Round<'_>, memory: &mut MemberMemory) {
    let silent = listed.view.is_some_and(|view| view.answer.is_err());
    let machine_answers = listed
        .machine
        .as_ref()
        .and_then(|name| round.machines.get(name));
    memory.silent_since = if silent {
        memory.silent_since.or(Some(round.now))
    } else {
        None
    };
    memory.dark_since = if silent && machine_answers == Some(&false) {
        let written = slot_of(round, listed.machine.as_ref()).and_then(|slot| slot.silent_since);
        memory.dark_since.or(written).or(Some(round.now))
    } else if silent && machine_answers.is_none() {
        memory.dark_since
    } else {
        None
    };
}

/// Evidence that a member will not come back. `wanted` is its machine in the inventory.
pub(super) fn loss(
    listed: &Listed<'_>,
    wanted: Option<&Candidate>,
    snapshot: &Snapshot,
    round: &Round<'_>,
    memory: &Memory,
) -> Option<Loss> {
    let seen = memory.members.get(&listed.id)?;
    let unseen = unseen(listed, snapshot, round);
    let silent = past(round.now, seen.silent_since, CONFIRMED_GRACE) && unseen;
    let Some(machine) = wanted else {
        return silent.then(|| Loss::TakenOut(taken_out(listed)));
    };
    if machine.marks.reimaged {
        return Some(Loss::Reimaged);
    }
    if let Some(why) = &machine.marks.lost
        && silent
    {
        return Some(Loss::Confirmed(why.clone()));
    }
    if let Some(why) = &machine.marks.release_requested
        && past(round.now, dark(listed, round, memory), CONFIRMED_GRACE)
        && unseen
    {
        return Some(Loss::TakenOut(format!("its release is requested ({why})")));
    }
    if is_corrupt(listed, snapshot) {
        return Some(Loss::Corrupt);
    }
    silence(listed, snapshot, round, memory)
}

/// Since when neither it nor its machine answers, by this round too: a machine that was not asked
/// is no evidence.
fn dark(listed: &Listed<'_>, round: &Round<'_>, memory: &Memory) -> Option<Timestamp> {
    let machine_answers = round.machines.get(listed.machine.as_ref()?);
    let since = memory.members.get(&listed.id)?.dark_since;
    since.filter(|_| machine_answers == Some(&false))
}

/// The leader does not see it. If it does, it is the seed's way to it that is broken. The leader
/// writes to everybody; a follower only reads, and may take minutes to notice that a machine without
/// power is gone, so the others are asked only when the leader has no answer.
fn unseen(listed: &Listed<'_>, snapshot: &Snapshot, round: &Round<'_>) -> bool {
    let leader = majority_leader(snapshot).map(|(leader, _)| leader);
    if let Some(peers) = leader
        .filter(|leader| *leader != listed.id)
        .and_then(|leader| round.sees.get(&leader))
    {
        return !peers.contains(&listed.id);
    }
    round.sees.keys().any(|id| *id != listed.id)
        && !round.sees.values().any(|peers| peers.contains(&listed.id))
}

/// Silence alone is enough after `nodeLoss.timeout`, watched to its end by this process.
fn silence(
    listed: &Listed<'_>,
    snapshot: &Snapshot,
    round: &Round<'_>,
    memory: &Memory,
) -> Option<Loss> {
    // A learner's machine that has not booted yet is waited for (I14).
    if listed.is_learner && !listed.started {
        return None;
    }
    let since = dark(listed, round, memory)?;
    let watched = past(round.now, memory.watching_since, CONFIRMED_GRACE);
    let long = elapsed(round.now, since) >= round.loss_timeout;
    (long && watched && unseen(listed, snapshot, round)).then(|| Loss::Silent {
        since: at(since),
        too_soon: round.ledger.last_loss_removal.and_then(|last| {
            let together = since <= last;
            let soon = elapsed(round.now, last) < LOSS_INTERVAL;
            (soon && !together).then(|| {
                let last = at(last);
                format!("a voter was removed for its silence at {last}, one an hour is the limit")
            })
        }),
    })
}

fn is_corrupt(listed: &Listed<'_>, snapshot: &Snapshot) -> bool {
    snapshot
        .answers()
        .flat_map(|(_, answer)| &answer.errors)
        .any(|error| corrupt_member(error) == Some(listed.id))
}

/// Why a member shall go although it may be well.
pub(super) fn leaving(listed: &Listed<'_>, wanted: Option<&Candidate>) -> Option<String> {
    let Some(machine) = wanted else {
        return Some(taken_out(listed));
    };
    let requested = machine.marks.release_requested.as_ref();
    requested.map(|why| {
        format!(
            "the release of machine {} is requested ({why})",
            machine.name
        )
    })
}

fn taken_out(listed: &Listed<'_>) -> String {
    let machine = listed.machine.as_deref().unwrap_or("unknown");
    format!(
        "machine {machine} at {} is no longer in the inventory",
        listed.peer_url
    )
}
