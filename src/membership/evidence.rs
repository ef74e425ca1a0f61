//! Facts out of what was seen: every rule about time (etcd-membership A.2, A.5, C).

mod list;
mod loss;
mod pause;
mod progress;
mod timers;

use std::time::Duration;

use jiff::Timestamp;

use self::list::Listed;
use super::facts::{Facts, Health, Member, Role};
use super::goal::Goal;
use super::memory::{MachineMemory, MemberMemory, Memory};
use super::round::{RecordedMember, Round};
use super::snapshot::{MemberView, Snapshot};
use super::step::Step;
use super::verdict::{MemberHealth, health, majority_leader, quorum};

/// Oldest answer that a decision stands on (A.1).
const FRESH: Duration = Duration::from_secs(10);
/// Deadline of a changing call (A.5).
const CALL_DEADLINE: Duration = Duration::from_secs(10);
/// Between the two good samples of a healthy member (A.2).
const CONFIRMATION: Duration = Duration::from_secs(5);
/// Age of a verified snapshot of the only voter (I3).
const SNAPSHOT_AGE: Duration = Duration::from_secs(600);
/// An even number of voters is an alarm after this time (I6).
const EVEN_LIMIT: Duration = Duration::from_secs(900);
/// Rounds further apart are not one watch: in between, anything may have happened.
const WATCH_GAP: Duration = Duration::from_secs(60);

/// Takes a round into memory and says what is certain now.
pub fn evidence(round: &Round<'_>, memory: &mut Memory) -> Facts {
    watch(round, memory);
    let snapshot = list::of_this_cluster(round);
    let frozen = list::freeze(&snapshot, round, memory);
    let stale = elapsed(round.now, round.asked_at) > FRESH;
    let list = if stale {
        None
    } else {
        list::list(&snapshot, memory)
    };
    let mut facts = Facts {
        frozen,
        pending: round.pending.cloned(),
        in_flight: round.pending.is_some() && in_flight(round, memory),
        snapshot_verified: round
            .snapshot_verified_at
            .is_some_and(|at| elapsed(round.now, at) <= SNAPSHOT_AGE),
        next_generation: round.ledger.last_generation.saturating_add(1),
        ..Facts::default()
    };
    let Some(list) = list else {
        memory.members.values_mut().for_each(forget_silence);
        memory.even_since = None;
        facts.goal = goal(round, &[], memory);
        facts.unsettled = pause::unsettled(round, memory);
        return facts;
    };
    let slots: Vec<Listed<'_>> = list::matched(&list, &snapshot, round);
    memory
        .members
        .retain(|id, _| slots.iter().any(|listed| listed.id == *id));
    facts.goal = goal(round, &slots, memory);
    facts.leader = majority_leader(&snapshot).map(|(leader, _)| leader);
    facts.departed = list::departed(&slots, round);
    sample(&slots, &snapshot, round, memory);
    pause::notice(&slots, facts.leader, round, memory);
    facts.unsettled = pause::unsettled(round, memory);
    let members: Vec<Member> = slots
        .iter()
        .map(|listed| member(listed, &snapshot, round, memory))
        .collect();
    facts.even_overdue = even_overdue(&members, round.now, memory);
    facts.members = Some(members);
    facts
}

/// Whole time between two moments; none if the clock went backwards.
fn elapsed(now: Timestamp, since: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(since)).unwrap_or_default()
}

/// A call may come through until its deadline, on the way to the leader too. Calls of an earlier
/// process were made before this one began to watch.
fn in_flight(round: &Round<'_>, memory: &Memory) -> bool {
    let last = round.called_at.max(memory.watching_since);
    last.is_some_and(|last| elapsed(round.now, last) < CALL_DEADLINE)
}

fn past(now: Timestamp, since: Option<Timestamp>, limit: Duration) -> bool {
    since.is_some_and(|since| elapsed(now, since) >= limit)
}

/// A moment as people read it, in whole seconds.
fn at(moment: Timestamp) -> String {
    Timestamp::from_second(moment.as_second())
        .unwrap_or(moment)
        .to_string()
}

/// Rounds that follow each other are one watch.
fn watch(round: &Round<'_>, memory: &mut Memory) {
    let gap = memory
        .last_round
        .is_none_or(|last| elapsed(round.now, last) > WATCH_GAP || round.now < last);
    if gap {
        memory.watching_since = Some(round.now);
        for member in memory.members.values_mut() {
            member.good_since = None;
        }
    }
    memory.last_round = Some(round.now);
}

fn forget_silence(member: &mut MemberMemory) {
    member.good_since = None;
    member.silent_since = None;
    member.dark_since = None;
}

/// The goal, with what memory knows of the machines.
fn goal(round: &Round<'_>, slots: &[Listed<'_>], memory: &mut Memory) -> Goal {
    let mut goal = round.goal.clone();
    for machine in &mut goal.machines {
        let has_member = slots
            .iter()
            .any(|listed| listed.machine.as_ref() == Some(&machine.name));
        let before = memory.machines.get(&machine.name).copied();
        let now = match (round.machines.get(&machine.name), before) {
            (None, before) => before.unwrap_or_default(),
            (Some(false), _) => MachineMemory {
                silent: true,
                came_back: false,
            },
            // The first look of this process does not know what was before.
            (Some(true), None) => MachineMemory {
                silent: false,
                came_back: true,
            },
            (Some(true), Some(before)) => MachineMemory {
                silent: false,
                came_back: before.came_back || before.silent,
            },
        };
        let now = MachineMemory {
            came_back: now.came_back && !has_member,
            ..now
        };
        if before.is_some() || has_member || round.machines.contains_key(&machine.name) {
            memory.machines.insert(machine.name.clone(), now);
        }
        machine.came_back = now.came_back;
    }
    goal
}

/// One sample of every member into memory.
fn sample(slots: &[Listed<'_>], snapshot: &Snapshot, round: &Round<'_>, memory: &mut Memory) {
    let good = |listed: &Listed<'_>| {
        listed
            .view
            .is_some_and(|view| health(view, snapshot) == MemberHealth::Healthy)
    };
    let voters = slots.iter().filter(|listed| !listed.is_learner);
    let quorate = voters.clone().filter(|listed| good(listed)).count() >= quorum(voters.count());
    for listed in slots {
        let is_good = good(listed);
        let entry = memory.members.entry(listed.id).or_default();
        entry.good_since = match (is_good, entry.good_since) {
            (true, since) => since.or(Some(round.now)),
            (false, _) => None,
        };
        if quorate {
            loss::time(listed, round, entry);
        } else {
            entry.silent_since = None;
            entry.dark_since = None;
        }
        progress::time(listed, snapshot, round.now, entry);
    }
}

fn member(listed: &Listed<'_>, snapshot: &Snapshot, round: &Round<'_>, memory: &Memory) -> Member {
    let seen = memory.members.get(&listed.id).cloned().unwrap_or_default();
    let machine = listed.machine.as_ref();
    let wanted = machine
        .and_then(|name| round.goal.machine(name))
        .filter(|machine| machine.peer_url == listed.peer_url);
    Member {
        id: listed.id,
        name: listed.name.clone(),
        peer_url: listed.peer_url.clone(),
        role: if listed.is_learner {
            Role::Learner
        } else {
            Role::Voter
        },
        started: listed.started,
        guarded: listed.guarded,
        machine: listed.machine.clone(),
        failure_domain: wanted.and_then(|machine| machine.failure_domain.clone()),
        loss: loss::loss(listed, wanted, snapshot, round, memory),
        leaving: loss::leaving(listed, wanted),
        health: confirmed(listed.view, snapshot, round.now, &seen),
        progress: progress::progress(listed, snapshot, round.now, &seen),
    }
}

/// Health by two samples (A.2).
fn confirmed(
    view: Option<&MemberView>,
    snapshot: &Snapshot,
    now: Timestamp,
    seen: &MemberMemory,
) -> Health {
    let Some(view) = view else {
        return Health::Unhealthy("it was not asked yet".to_owned());
    };
    match health(view, snapshot) {
        MemberHealth::Unhealthy(why) => Health::Unhealthy(why),
        MemberHealth::Healthy if past(now, seen.good_since, CONFIRMATION) => Health::Healthy,
        MemberHealth::Healthy => Health::Unconfirmed,
    }
}

fn even_overdue(members: &[Member], now: Timestamp, memory: &mut Memory) -> bool {
    let voters = members.iter().filter(|member| member.votes()).count();
    memory.even_since = if voters.is_multiple_of(2) {
        memory.even_since.or(Some(now))
    } else {
        None
    };
    past(now, memory.even_since, EVEN_LIMIT)
}

/// The machine and URL of the learner whose addition is recorded and not yet verified.
fn expected<'a>(round: &'a Round<'_>) -> Option<(&'a str, &'a str, &'a str)> {
    match &round.pending?.step {
        Step::AddLearner {
            machine,
            name,
            peer_url,
        } => Some((machine, name, peer_url)),
        Step::Promote { .. } | Step::MoveLeader { .. } | Step::Remove { .. } => None,
    }
}

/// The recorded member of a machine.
fn slot_of<'a>(round: &'a Round<'_>, machine: Option<&String>) -> Option<&'a RecordedMember> {
    round
        .ledger
        .members
        .iter()
        .find(|slot| Some(&slot.machine) == machine)
}

#[cfg(test)]
mod tests;
