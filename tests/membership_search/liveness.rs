//! Where a state leads when nothing breaks any more: whether the goal is reached.

use std::collections::HashMap;

use super::fast::Fast;
use super::operator::Operator;
use super::state::{Disk, Kind, Machine, Power, State, View};
use super::world::{Event, Next, act, guard, late, quiet, renew, returned, starts};

/// What happens to machines that are down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Future {
    /// They boot again, and lost hardware is replaced as soon as its member is removed.
    Return,
    /// They never come back.
    Gone,
}

/// Longest way to the goal, in rounds.
const LIMIT: usize = 300;

/// The ways that were followed before.
pub struct Liveness {
    future: Future,
    known: HashMap<u128, bool, Fast>,
}

/// How a way ends.
pub enum End {
    Goal,
    /// No claim is made: no majority can come back, or there are too few machines.
    NoClaim,
    /// The last states of the way.
    Stuck(Vec<String>),
}

impl Liveness {
    pub fn new(future: Future) -> Self {
        Self {
            future,
            known: HashMap::default(),
        }
    }

    /// Follows the world from here without further faults.
    pub fn follow(&mut self, state: &State, operator: &mut Operator) -> End {
        let mut now = State {
            faults: 0,
            specs: 0,
            delays: 0,
            limbo: None,
            fault_since: false,
            ..*state
        };
        if !self.promises(&now) {
            return End::NoClaim;
        }
        let mut way = Vec::new();
        let mut reached = false;
        let mut words = Vec::new();
        let mut before = None;
        for _ in 0..LIMIT {
            self.improve(&mut now, operator);
            now = quiet(now);
            let key = now.pack();
            if before == Some(now) {
                reached = goal(&now);
                words.push(format!("{now:?}"));
                break;
            }
            if let Some(known) = self.known.get(&key) {
                reached = *known;
                if !reached {
                    words.push(format!("{now:?}, which is known to be stuck"));
                }
                break;
            }
            way.push(key);
            before = Some(now);
            if let Some(event) = operate(&mut now, operator) {
                words.push(event);
            }
        }
        for key in way {
            self.known.insert(key, reached);
        }
        if reached {
            End::Goal
        } else {
            End::Stuck(words)
        }
    }

    /// A majority can come back, and there are machines enough.
    fn promises(&self, state: &State) -> bool {
        let comes = |row: &Machine| match self.future {
            Future::Return => row.power != Power::Lost,
            Future::Gone => row.power == Power::Up,
        };
        let votes = |row: &Machine| {
            comes(row)
                && match row.kind {
                    Kind::Voter | Kind::VoterUnguarded | Kind::FounderUnguarded => {
                        row.disk == Disk::Current
                    }
                    Kind::VoterUnstarted => row.disk == Disk::Empty,
                    _ => false,
                }
        };
        let useful = |row: &Machine| {
            let there = comes(row) || self.future == Future::Return;
            there && !row.leaving
        };
        let survivors = state.all().filter(|(_, row)| votes(row)).count();
        let machines = state.all().filter(|(_, row)| useful(row)).count();
        survivors > state.voters() / 2 && machines >= usize::from(state.size)
    }

    /// Everything good that can happen to machines, happens.
    fn improve(&self, state: &mut State, operator: &Operator) {
        for machine in 0..state.count {
            let before = *state;
            let row = state.at(machine);
            row.cut_from_seed = false;
            row.cut_from_peers = false;
            if self.future == Future::Return {
                if row.power == Power::Down {
                    row.power = Power::Up;
                } else if row.power == Power::Lost && !row.kind.listed() {
                    renew(row);
                }
            }
            if row.power == Power::Up && row.disk == Disk::Old {
                renew(row);
            }
            if let Ok(after) = returned(*state, &before, machine) {
                *state = after;
            }
            // In the end TCP gives up.
            let row = state.at(machine);
            if !row.linked() {
                row.view = View::Down;
            }
        }
        for machine in 0..state.count {
            let row = *state.get(machine);
            if let Some(Ok(after)) = starts(state, machine, &row, operator) {
                *state = after;
            }
            let works = state.works();
            let row = state.at(machine);
            if row.linked() && works {
                row.kind = match row.kind {
                    Kind::Behind => Kind::CaughtUp,
                    Kind::BehindGuarded => Kind::CaughtUpGuarded,
                    kind => kind,
                };
            }
            row.kind = guard(row.kind).unwrap_or(row.kind);
            if late(state, &state.get(machine).clone()) {
                state.at(machine).late = true;
            }
        }
    }
}

/// One action of the operator, and etcd does what it is asked.
fn operate(state: &mut State, operator: &mut Operator) -> Option<String> {
    let mut next: Vec<Next> = Vec::new();
    act(state, operator, &mut next);
    let useful = |(event, _): &&Next| !matches!(event, Event::Delayed(_));
    let (event, after) = next.iter().find(useful)?;
    let text = event.to_string();
    match after {
        Ok(after) => *state = *after,
        Err(bad) => return Some(format!("{text}: {bad:?}")),
    }
    Some(text)
}

/// As wanted: the voters are as many as the size, all run, and nothing is on its way.
fn goal(state: &State) -> bool {
    let fine = |row: &Machine| match row.kind {
        Kind::None => true,
        kind => kind.votes() && row.linked() && row.answers() && !row.leaving,
    };
    state.pending.is_none()
        && state.voters() == usize::from(state.size)
        && state.all().all(|(_, row)| fine(row))
}
