//! The pause after every change (etcd-membership I20).

use std::time::Duration;

use jiff::Timestamp;

use super::list::Listed;
use super::{Round, at};
use crate::domain::MemberId;
use crate::membership::memory::{Change, Memory};
use crate::membership::step::Step;

/// etcd's own view of who is connected is 5 s old; twice that after every change.
const PAUSE: Duration = Duration::from_secs(10);
/// After a change of leader that nobody asked for.
const LEADER_PAUSE: Duration = Duration::from_secs(30);
/// Rounds with a list that must follow a change.
const ROUNDS: u8 = 2;

/// Compares the round with the last one.
pub(super) fn notice(
    slots: &[Listed<'_>],
    leader: Option<MemberId>,
    round: &Round<'_>,
    memory: &mut Memory,
) {
    let list: Vec<(MemberId, bool)> = slots
        .iter()
        .map(|listed| (listed.id, listed.is_learner))
        .collect();
    if let Some(change) = &mut memory.change {
        change.rounds = change.rounds.saturating_sub(1);
    }
    let now = round.now;
    let returned = slots.iter().find(|listed| {
        let seen = memory.members.get(&listed.id);
        !listed.is_learner && seen.is_some_and(|seen| seen.good_since == Some(now))
    });
    if memory.list.is_empty() {
        begin("the members were first seen", PAUSE, now, memory);
    } else if memory.list != list {
        begin("the members changed", PAUSE, now, memory);
    } else if leader.is_some() && memory.leader.is_some() && memory.leader != leader {
        if !asked_for(leader, round) {
            begin("the leader changed", LEADER_PAUSE, now, memory);
        }
    } else if let Some(listed) = returned {
        let what = format!("{} came back", listed.name);
        begin(&what, PAUSE, now, memory);
    }
    memory.list = list;
    memory.leader = leader.or(memory.leader);
}

/// The leader is the one that our recorded operation moved leadership to.
fn asked_for(leader: Option<MemberId>, round: &Round<'_>) -> bool {
    let step = round.pending.map(|pending| &pending.step);
    matches!(step, Some(Step::MoveLeader { to, .. }) if Some(*to) == leader)
}

fn begin(what: &str, pause: Duration, now: Timestamp, memory: &mut Memory) {
    let until = now.checked_add(pause).unwrap_or(now);
    let later = memory
        .change
        .as_ref()
        .is_some_and(|change| change.until > until);
    if !later {
        memory.change = Some(Change {
            what: format!("{what} at {}", at(now)),
            until,
            rounds: ROUNDS,
        });
    }
}

/// Why it is too soon for the next change.
pub(super) fn unsettled(round: &Round<'_>, memory: &mut Memory) -> Option<String> {
    let change = memory.change.as_ref()?;
    if round.now < change.until || change.rounds > 0 {
        return Some(format!("{}; a pause follows every change", change.what));
    }
    memory.change = None;
    None
}
