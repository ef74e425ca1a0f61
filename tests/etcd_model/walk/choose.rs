//! Where a walk begins, and what happens next.

use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use super::Walk;
use crate::state::{Disk, Kind, Op, State};
use crate::world::{self, Event};

/// Founders, spares, and whether the last founder is late.
const BEGINNINGS: [(u8, u8, bool); 10] = [
    (1, 3, false),
    (1, 3, false),
    (1, 2, false),
    (2, 2, false),
    (3, 1, false),
    (3, 2, false),
    (3, 2, false),
    (3, 1, true),
    (4, 1, false),
    (5, 0, false),
];

pub(super) fn beginning(rng: &mut StdRng) -> State {
    let (founders, spares, late) = *BEGINNINGS.choose(rng).expect("beginnings");
    State::founded(founders, spares, late, 3)
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Choice {
    Call(Op),
    Happen(Event, State),
    Wait,
}

impl Walk {
    /// One of everything that can happen, the telling more often.
    pub(super) fn choose(&mut self) -> Option<Choice> {
        let mut choices: Vec<(u32, Choice)> = Vec::new();
        let works = self.model.works();
        let mut next = Vec::new();
        let ready = State {
            faults: 7,
            ..self.model
        };
        world::successors(&ready, &mut self.operator, &mut next);
        for (event, after) in next {
            let Ok(after) = after else { continue };
            let weight = match event {
                Event::Start(machine) => match self.model.get(machine).kind {
                    // It learns from another that runs whom it belongs to, and ends without.
                    Kind::VoterUnstarted if self.open(machine).is_empty() => continue,
                    Kind::Unstarted | Kind::VoterUnstarted => 16,
                    // An ID that has started would begin anew on an empty disk.
                    _ => continue,
                },
                Event::BootAgain(_) => 10,
                Event::Renew(_) => 4,
                // What becomes of a spare makes no difference to etcd.
                Event::Crash(machine, _) | Event::Lose(machine)
                    if !self.model.get(machine).kind.listed() =>
                {
                    continue;
                }
                Event::Crash(..) => 2,
                Event::Lose(_) | Event::Exchange(_) => 1,
                _ => continue,
            };
            choices.push((weight, Choice::Happen(event, after)));
        }
        if works || self.slow > 0 {
            let ops = every_op(&self.model).into_iter();
            choices.extend(ops.map(|(weight, op)| (weight, Choice::Call(op))));
        }
        if works {
            choices.push((5, Choice::Wait));
        }
        let total: u32 = choices.iter().map(|(weight, _)| weight).sum();
        if total == 0 {
            return None;
        }
        let mut at = self.rng.random_range(0..total);
        choices.into_iter().find_map(|(weight, choice)| {
            let here = at < weight;
            at = at.saturating_sub(weight);
            here.then_some(choice)
        })
    }
}

/// Every change that can be asked for, with how often.
fn every_op(state: &State) -> Vec<(u32, Op)> {
    let mut ops = Vec::new();
    for (machine, row) in state.all() {
        let (current, g) = (row.kind.listed(), row.generation);
        let clean = row.disk == Disk::Empty && !current;
        ops.push((if clean { 6 } else { 1 }, Op::Add(machine)));
        ops.push((
            if row.kind.learns() { 10 } else { 1 },
            Op::Promote(machine, g),
        ));
        ops.push((if current { 3 } else { 1 }, Op::Remove(machine, g)));
        ops.push((u32::from(current), Op::Remove(machine, !g)));
        if let Some(leader) = state.leader
            && leader != machine
            && current
        {
            ops.push((1, Op::Move(leader, machine)));
        }
    }
    ops
}
