//! What can happen next: faults, repairs, the passing of time, and the operator.

use std::fmt;

use super::etcd_rules::{self, Link, Refusal, Row};
use super::operator::{Bug, Mode, Operator, Verdict, id};
use super::state::{Disk, Kind, Machine, Op, Power, State, View};
use seedbed::membership::Invariant;

/// Something that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The others notice at once; or only when TCP gives up.
    Crash(u8, bool),
    Lose(u8),
    /// Imaged anew and booted with the config that is published at that moment.
    Wipe(u8),
    /// New hardware under the old address, while its member is still listed.
    Exchange(u8),
    CutFromSeed(u8),
    CutFromPeers(u8),
    BootAgain(u8),
    Heal(u8),
    /// Old data is moved aside, or lost hardware of a machine without a member is replaced.
    Renew(u8),
    Start(u8),
    CatchUp(u8),
    Guard(u8),
    /// Silent, or without progress, for longer than the operator waits.
    Timeout(u8),
    /// More than ten seconds without news.
    Quiet,
    /// The others notice at last that a connection is dead.
    Missed(u8),
    Size(u8),
    Leave(u8, bool),
    Record(Op),
    /// Made, and applied; whether or not the answer arrives, the list tells.
    Applied(Op),
    /// Made, lost on its way, and may still come through.
    Delayed(Op),
    ComesThrough(Op),
    Verified(Op),
    Abandoned(Op),
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Record(op) => write!(f, "operator records {op:?}"),
            Self::Applied(op) => write!(f, "operator calls, etcd applies {op:?}"),
            Self::Delayed(op) => write!(f, "operator calls {op:?}, which is delayed"),
            Self::ComesThrough(op) => write!(f, "etcd applies the delayed {op:?}"),
            Self::Verified(op) => write!(f, "operator sees {op:?} in the list"),
            Self::Abandoned(op) => write!(f, "operator gives up {op:?}"),
            other => write!(f, "{other:?}"),
        }
    }
}

/// What must never happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Bad {
    /// A change of ours left fewer voters running than decide.
    QuorumLost,
    /// A change of ours took away tolerance that is wanted.
    ToleranceLost,
    /// A voter started on an empty disk under the ID it had: acknowledged writes may be gone.
    Amnesia,
    /// A running leader was removed.
    LeaderRemoved,
    /// A change was made while etcd's own check was still blind from our last one.
    TooSoon,
    /// A change was made while the seed saw no healthy majority.
    WithoutMajority,
    /// A learner that was on its way, and wanted, was removed.
    LearnerRemoved,
    /// More voters than the size and one that is to be replaced.
    TooManyVoters,
    /// The number of voters became even with nothing to make it odd again.
    LeftEven,
    /// A member that the operator added is unknown to it.
    Forgotten,
}

/// A next state; or what went wrong on the way.
pub type Next = (Event, Result<State, Bad>);

/// Everything that can happen next.
pub fn successors(state: &State, operator: &mut Operator, next: &mut Vec<Next>) {
    next.clear();
    let budget = state.faults > 0;
    for (machine, row) in state.all() {
        if budget {
            faults(state, machine, row, next);
        }
        repairs(state, machine, row, operator, next);
        specs(state, machine, row, next);
    }
    let young = state.all().any(|(_, row)| row.view == View::Fresh);
    if state.unsettled || state.blind || state.in_flight || young {
        next.push((Event::Quiet, Ok(quiet(*state))));
    }
    if state.specs > 0 {
        for size in [1, 3, 5] {
            if size != state.size && size <= state.count {
                let changed = State {
                    size,
                    specs: state.specs - 1,
                    ..*state
                };
                next.push((Event::Size(size), Ok(changed)));
            }
        }
    }
    act(state, operator, next);
    if let Some(op) = state.limbo {
        comes_through(state, op, next);
    }
}

fn faults(state: &State, machine: u8, row: &Machine, next: &mut Vec<Next>) {
    let mut fault = |event, change: &dyn Fn(&mut Machine)| {
        let mut after = *state;
        after.faults -= 1;
        after.fault_since |= after.limbo.is_some();
        change(after.at(machine));
        next.push((event, Ok(elect(after, state))));
    };
    if row.power == Power::Up {
        fault(Event::Crash(machine, true), &|row| {
            row.power = Power::Down;
            row.view = View::Down;
        });
        if row.kind.votes() && row.view == View::Steady {
            fault(Event::Crash(machine, false), &|row| row.power = Power::Down);
        }
        if !row.cut_from_seed {
            fault(Event::CutFromSeed(machine), &|row| row.cut_from_seed = true);
        }
        if row.runs() && !row.cut_from_peers {
            fault(Event::CutFromPeers(machine), &|row| {
                row.cut_from_peers = true
            });
        }
    }
    if row.power != Power::Lost {
        fault(Event::Lose(machine), &|row| {
            row.power = Power::Lost;
            row.view = View::Down;
        });
        if row.disk != Disk::Empty {
            fault(Event::Wipe(machine), &|row| {
                row.power = Power::Up;
                row.disk = Disk::Empty;
                row.view = View::Down;
            });
        }
    } else if row.kind.listed() {
        fault(Event::Exchange(machine), &renew);
    }
}

pub fn renew(row: &mut Machine) {
    row.power = Power::Up;
    row.disk = Disk::Empty;
    row.cut_from_seed = false;
    row.cut_from_peers = false;
}

fn repairs(state: &State, machine: u8, row: &Machine, operator: &Operator, next: &mut Vec<Next>) {
    let mut repair = |event, change: &dyn Fn(&mut Machine)| {
        let mut after = *state;
        change(after.at(machine));
        next.push((event, returned(after, state, machine)));
    };
    if row.power == Power::Down {
        repair(Event::BootAgain(machine), &|row| row.power = Power::Up);
    }
    if row.cut_from_seed || row.cut_from_peers {
        repair(Event::Heal(machine), &|row| {
            row.cut_from_seed = false;
            row.cut_from_peers = false;
        });
    }
    let lost = row.power == Power::Lost && !row.kind.listed();
    if lost || (row.power == Power::Up && row.disk == Disk::Old) {
        repair(Event::Renew(machine), &renew);
    }
    let joined = row.linked() && state.works();
    if joined && matches!(row.kind, Kind::Behind | Kind::BehindGuarded) {
        let guarded = row.kind.guarded();
        repair(Event::CatchUp(machine), &|row| {
            row.kind = if guarded {
                Kind::CaughtUpGuarded
            } else {
                Kind::CaughtUp
            };
        });
    }
    if let Some(kind) = guard(row.kind)
        && (operator.bug != Some(Bug::NoDiskCheck) || !row.kind.votes())
    {
        repair(Event::Guard(machine), &|row| row.kind = kind);
    }
    if let Some(started) = starts(state, machine, row, operator) {
        next.push((Event::Start(machine), started));
    }
    if row.view != View::Down && !row.linked() {
        let mut after = *state;
        after.at(machine).view = View::Down;
        next.push((Event::Missed(machine), Ok(after)));
    }
    if late(state, row) {
        let mut after = *state;
        after.at(machine).late = true;
        next.push((Event::Timeout(machine), Ok(after)));
    }
}

pub fn guard(kind: Kind) -> Option<Kind> {
    match kind {
        Kind::Behind => Some(Kind::BehindGuarded),
        Kind::CaughtUp => Some(Kind::CaughtUpGuarded),
        Kind::VoterUnguarded | Kind::FounderUnguarded => Some(Kind::Voter),
        _ => None,
    }
}

/// A timer can run out: the operator sees a majority, and this one is silent or stands still.
pub fn late(state: &State, row: &Machine) -> bool {
    if row.late || !row.kind.listed() || !state.works() {
        return false;
    }
    if row.kind.votes() {
        !row.answers() && !row.machine_answers()
    } else {
        !row.linked() || !row.answers()
    }
}

/// etcd starts on a machine: a new member on an empty disk, or one that has started before where
/// nothing checks.
pub fn starts(
    state: &State,
    machine: u8,
    row: &Machine,
    operator: &Operator,
) -> Option<Result<State, Bad>> {
    if row.power != Power::Up || row.disk != Disk::Empty || row.cut_from_peers {
        return None;
    }
    let unchecked = operator.bug == Some(Bug::NoDiskCheck) || !row.kind.guarded();
    let mut after = *state;
    let fresh = after.at(machine);
    fresh.disk = Disk::Current;
    fresh.late = false;
    match row.kind {
        Kind::Unstarted if state.works() => fresh.kind = Kind::Behind,
        Kind::VoterUnstarted if another_runs(state, machine) => fresh.kind = Kind::FounderUnguarded,
        // It asks the others: who runs knows it, and where nobody runs it waits.
        Kind::FounderUnguarded if operator.bug != Some(Bug::FoundersDoNotAsk) => return None,
        Kind::Voter | Kind::VoterUnguarded | Kind::FounderUnguarded if unchecked => {
            return Some(Err(Bad::Amnesia));
        }
        Kind::Behind | Kind::CaughtUp if unchecked && state.works() => fresh.kind = Kind::Behind,
        _ => return None,
    }
    Some(returned(after, state, machine))
}

/// What a new member learns about the others before it starts comes from one of them.
fn another_runs(state: &State, machine: u8) -> bool {
    let mut others = state.all().filter(|(other, _)| *other != machine);
    others.any(|(_, row)| row.kind.votes() && row.linked())
}

/// A machine is back or further: timers and views begin anew.
pub fn returned(mut after: State, before: &State, machine: u8) -> Result<State, Bad> {
    let joins = after.get(machine).linked() && !before.get(machine).linked();
    let was = *before.get(machine);
    let row = after.at(machine);
    if row.answers() || row.machine_answers() && row.kind.votes() {
        row.late = false;
    }
    if joins && row.kind.votes() {
        row.view = View::Fresh;
    }
    if row.kind.votes() && row.answers() && !was.answers() {
        after.unsettled = true;
    }
    Ok(elect(after, before))
}

fn specs(state: &State, machine: u8, row: &Machine, next: &mut Vec<Next>) {
    if state.specs == 0 || (!row.kind.listed() && !row.leaving) {
        return;
    }
    let mut after = *state;
    after.specs -= 1;
    after.at(machine).leaving = !row.leaving;
    next.push((Event::Leave(machine, !row.leaving), Ok(after)));
}

/// A leader that does not reach a majority is followed by the first that does. What nobody asked
/// for is followed by a pause.
fn elect(mut after: State, before: &State) -> State {
    let leads = |machine: u8| after.get(machine).kind.votes() && after.get(machine).linked();
    if !after.works() {
        after.leader = None;
    } else if !after.leader.is_some_and(leads) {
        after.leader = (0..after.count).find(|machine| leads(*machine));
        after.unsettled |= after.leader != before.leader;
    }
    after
}

/// Time passes: connections are old, the pause is over, calls are past their deadline. A peer that
/// fell silent without a word may be counted as connected for many minutes.
pub fn quiet(mut state: State) -> State {
    for row in &mut state.machines {
        if row.view == View::Fresh {
            row.view = View::Steady;
        }
    }
    state.unsettled = false;
    state.blind = false;
    state.in_flight = false;
    state.limbo = None;
    state.fault_since = false;
    state
}

/// The operator, one action: every one of them may be its last before another takes over.
pub fn act(state: &State, operator: &mut Operator, next: &mut Vec<Next>) {
    let overwrites = operator.bug == Some(Bug::Without(Invariant::OneInFlight));
    if state.pending.is_none() || overwrites {
        for op in operator.decide(state) {
            if state.pending != Some(op) {
                let recorded = State {
                    pending: Some(op),
                    ..*state
                };
                next.push((Event::Record(op), Ok(recorded)));
            }
        }
    }
    let Some(op) = state.pending else {
        return;
    };
    match operator.outcome(state) {
        Verdict::Wait => {}
        Verdict::Done => next.push((Event::Verified(op), known(verified(*state, op)))),
        Verdict::Abandon => {
            let given_up = State {
                pending: None,
                in_flight: false,
                ..*state
            };
            next.push((Event::Abandoned(op), known(given_up)));
        }
        Verdict::Retry => call(state, op, operator, next),
    }
}

/// The list shows it: the ledger knows it, the record goes.
pub fn verified(mut state: State, op: Op) -> State {
    state.pending = None;
    state.in_flight = false;
    if let Op::Add(machine) = op {
        let row = state.at(machine);
        match row.kind {
            Kind::Unrecorded => row.kind = Kind::Unstarted,
            // Taken for the learner that was to be added: it gets the config of one.
            Kind::Voter => row.kind = Kind::VoterUnguarded,
            _ => {}
        }
    }
    state
}

/// Every member that was added without delay is either recorded or about to be.
fn known(state: State) -> Result<State, Bad> {
    let expected = |machine| state.pending == Some(Op::Add(machine));
    let stray = |(machine, row): (u8, &Machine)| row.kind == Kind::Unrecorded && !expected(machine);
    if state.delays_used() || !state.all().any(stray) {
        Ok(state)
    } else {
        Err(Bad::Forgotten)
    }
}

fn call(state: &State, op: Op, operator: &mut Operator, next: &mut Vec<Next>) {
    if state.leader.is_none() {
        return;
    }
    // Only by name: whatever member the machine has now.
    let op = match op {
        Op::Remove(machine, _) if operator.bug == Some(Bug::ByName) => {
            Op::Remove(machine, state.get(machine).generation)
        }
        op => op,
    };
    let to_leader = |from| state.leader == Some(from);
    let Some(asked) = asked(state, op).filter(|_| match op {
        Op::Move(from, _) => to_leader(from),
        _ => true,
    }) else {
        return;
    };
    if answer(state, op, asked).is_err() {
        return;
    }
    let state = &State {
        in_flight: true,
        ..*state
    };
    if state.delays > 0 && state.limbo.is_none() {
        let delayed = State {
            limbo: Some(op),
            fault_since: false,
            delays: state.delays - 1,
            ..*state
        };
        next.push((Event::Delayed(op), Ok(delayed)));
        if operator.bug == Some(Bug::TrustsErrors) {
            let dropped = State {
                pending: None,
                ..delayed
            };
            next.push((Event::Abandoned(op), Ok(dropped)));
        }
    }
    let result = judged(state, op, operator.mode).and_then(|()| known(applied(*state, op)));
    next.push((Event::Applied(op), result));
    if operator.bug == Some(Bug::TrustsErrors) {
        let forgotten = State {
            pending: None,
            ..applied(*state, op)
        };
        next.push((Event::Abandoned(op), known(forgotten)));
    }
}

/// The members as `asked` sees them: its own connections are no older than it is.
fn rows(state: &State, asked: u8) -> Vec<Row> {
    let young = state.get(asked).view == View::Fresh;
    state
        .all()
        .filter(|(_, row)| row.kind.listed())
        .map(|(machine, row)| Row {
            id: id(machine, row.generation).0,
            url: machine,
            learner: row.kind.learns(),
            // A founder has its name from the beginning.
            started: row.kind.started() || row.kind.votes(),
            alive: row.linked(),
            link: match row.view {
                View::Down => Link::Down,
                View::Steady if !young => Link::Steady,
                View::Fresh | View::Steady => Link::Fresh,
            },
            matches: (row.kind.votes() && row.kind.started()) || row.kind.caught_up(),
        })
        .collect()
}

/// The member that a call goes through: the leader, but never the one that is removed.
pub fn asked(state: &State, op: Op) -> Option<u8> {
    let target = match op {
        Op::Remove(machine, g) if state.get(machine).generation == g => Some(machine),
        _ => None,
    };
    let leader = state.leader.filter(|leader| Some(*leader) != target);
    let mut linked = state
        .all()
        .filter(|(_, row)| row.kind.votes() && row.linked());
    leader.or_else(|| {
        let other = linked.find(|(machine, _)| Some(*machine) != target);
        other.map(|(machine, _)| machine)
    })
}

/// What etcd answers to a call through `asked`.
pub fn answer(state: &State, op: Op, asked: u8) -> Result<(), Refusal> {
    let rows = rows(state, asked);
    let asked = id(asked, state.get(asked).generation).0;
    match op {
        Op::Add(machine) => etcd_rules::add_learner(&rows, asked, machine),
        Op::Promote(machine, g) => etcd_rules::promote(&rows, id(machine, g).0),
        Op::Remove(machine, g) => etcd_rules::remove(&rows, asked, id(machine, g).0),
        Op::Move(_, to) => etcd_rules::move_leader(&rows, id(to, state.get(to).generation).0),
    }
}

/// The change itself.
pub fn applied(mut state: State, op: Op) -> State {
    let before = state;
    match op {
        Op::Add(machine) => {
            let row = state.at(machine);
            row.kind = Kind::Unrecorded;
            row.generation = !row.generation;
            row.late = false;
        }
        Op::Promote(machine, _) => {
            let row = state.at(machine);
            row.kind = if row.kind.guarded() {
                Kind::Voter
            } else {
                Kind::VoterUnguarded
            };
            row.view = View::Fresh;
            row.late = false;
            row.attempts = 0;
        }
        Op::Remove(machine, _) => {
            let row = state.at(machine);
            if !row.kind.started() {
                row.attempts = (row.attempts + 1).min(3);
            } else if row.late {
                row.attempts = row.attempts.max(2);
            }
            if row.disk == Disk::Current {
                row.disk = Disk::Old;
            }
            row.kind = Kind::None;
            row.view = View::Down;
            row.late = false;
        }
        Op::Move(_, to) => {
            state.leader = Some(to);
            return state;
        }
    }
    state.unsettled = true;
    state.blind = true;
    elect(state, &before)
}

/// Whether this change, made now, is one of those that must never be made.
fn judged(state: &State, op: Op, mode: Mode) -> Result<(), Bad> {
    let after = applied(*state, op);
    let (before_tolerance, tolerance) = (state.tolerance(), after.tolerance());
    let wanted = i32::from(state.size / 2);
    if before_tolerance >= 0 && tolerance < 0 {
        return Err(Bad::QuorumLost);
    }
    if tolerance < before_tolerance.min(wanted) {
        return Err(Bad::ToleranceLost);
    }
    let answering = |row: &Machine| row.kind.votes() && row.linked() && row.answers();
    let seen = state.all().filter(|(_, row)| answering(row)).count();
    if seen < state.voters() / 2 + 1 {
        return Err(Bad::WithoutMajority);
    }
    if state.blind {
        return Err(Bad::TooSoon);
    }
    match op {
        Op::Remove(machine, _) => removal(state, machine),
        Op::Promote(..) => {
            let replaces = state.all().any(|(_, row)| row.kind.votes() && row.leaving);
            let most = usize::from(state.size) + usize::from(replaces);
            if after.voters() > most {
                return Err(Bad::TooManyVoters);
            }
            let grows = after.voters() < usize::from(state.size);
            let free = |row: &Machine| !row.kind.listed() && !row.leaving;
            let another = after.all().any(|(_, row)| free(row));
            let even = after.voters().is_multiple_of(2);
            if even && grows && !another {
                Err(Bad::LeftEven)
            } else {
                Ok(())
            }
        }
        Op::Add(_) | Op::Move(..) => {
            let _ = mode;
            Ok(())
        }
    }
}

fn removal(state: &State, machine: u8) -> Result<(), Bad> {
    let row = state.get(machine);
    if row.kind.votes() && state.leader == Some(machine) && row.answers() {
        return Err(Bad::LeaderRemoved);
    }
    let replaces = state.all().any(|(_, row)| row.kind.votes() && row.leaving);
    let wanted = state.voters() < usize::from(state.size) || replaces;
    let on_its_way = row.kind.learns() && !row.late && !row.leaving;
    if on_its_way && wanted && row.kind != Kind::Unrecorded {
        return Err(Bad::LearnerRemoved);
    }
    Ok(())
}

fn comes_through(state: &State, op: Op, next: &mut Vec<Next>) {
    // The strict checks were passed when it was sent; the log still refuses what no longer fits.
    let fits = state.works()
        && match op {
            Op::Add(machine) => {
                !state.get(machine).kind.listed() && !state.all().any(|(_, row)| row.kind.learns())
            }
            Op::Promote(machine, g) => {
                state.get(machine).kind.learns() && state.get(machine).generation == g
            }
            Op::Remove(machine, g) => {
                state.get(machine).kind.listed() && state.get(machine).generation == g
            }
            Op::Move(from, to) => {
                state.leader == Some(from) && state.get(to).kind.votes() && state.get(to).linked()
            }
        };
    let rest = State {
        limbo: None,
        fault_since: false,
        ..*state
    };
    if !fits {
        next.push((Event::ComesThrough(op), Ok(rest)));
        return;
    }
    // A fault since then would have been one after the change, had it not been delayed.
    let after = applied(rest, op);
    let lost = state.tolerance() >= 0 && after.tolerance() < 0 && !state.fault_since;
    next.push((
        Event::ComesThrough(op),
        if lost {
            Err(Bad::QuorumLost)
        } else {
            Ok(after)
        },
    ));
}

impl State {
    /// A call was delayed in the past of this state.
    fn delays_used(&self) -> bool {
        self.delays == 0
    }
}
