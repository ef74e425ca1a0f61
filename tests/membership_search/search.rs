//! Breadth first over every reachable state, with the shortest way to what must not be.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::fast::Fast;
use super::liveness::{End, Future, Liveness};
use super::operator::Operator;
use super::state::State;
use super::world::{Bad, Next, successors};

/// What a search found.
pub struct Found {
    pub states: usize,
    pub transitions: u64,
    /// Events from the start to the farthest state.
    pub depth: u32,
    pub took: Duration,
    pub bad: Option<Trace>,
}

/// The shortest way to a bad end.
pub struct Trace {
    pub what: String,
    pub events: Vec<String>,
}

/// What is looked for.
pub struct Search<'a> {
    pub operator: &'a mut Operator,
    /// Follow every state to its end, too.
    pub liveness: bool,
    /// More states than this are a mistake in the scenario.
    pub limit: usize,
}

struct Reached {
    states: Vec<u128>,
    parents: Vec<u32>,
    index: HashMap<u128, u32, Fast>,
}

impl Search<'_> {
    /// Visits every state that is reachable from these.
    pub fn run(&mut self, starts: &[State]) -> Found {
        let began = Instant::now();
        let mut reached = Reached {
            states: Vec::new(),
            parents: Vec::new(),
            index: HashMap::default(),
        };
        for start in starts {
            assert_eq!(
                State::unpack(start.pack()),
                *start,
                "packing loses something"
            );
            reached.add(start, u32::MAX);
        }
        let mut ends = [Liveness::new(Future::Return), Liveness::new(Future::Gone)];
        let (mut at, mut depth, mut layer) = (0, 0, reached.states.len());
        let mut transitions = 0;
        let mut next: Vec<Next> = Vec::new();
        let mut bad = None;
        while at < reached.states.len() && bad.is_none() {
            if at == layer {
                depth += 1;
                layer = reached.states.len();
            }
            let state = State::unpack(reached.states[at]);
            successors(&state, self.operator, &mut next);
            transitions += next.len() as u64;
            for (event, after) in &next {
                match after {
                    Ok(after) => reached.add(after, at as u32),
                    Err(what) => {
                        bad = Some(self.trace(&reached, at, &[event.to_string()], *what));
                        break;
                    }
                }
            }
            if bad.is_none() && self.liveness {
                bad = self.stuck(&state, &mut ends, &reached, at);
            }
            at += 1;
            assert!(
                reached.states.len() <= self.limit,
                "more than {} states",
                self.limit
            );
        }
        Found {
            states: reached.states.len(),
            transitions,
            depth,
            took: began.elapsed(),
            bad,
        }
    }

    fn stuck(
        &mut self,
        state: &State,
        ends: &mut [Liveness; 2],
        reached: &Reached,
        at: usize,
    ) -> Option<Trace> {
        for end in ends {
            if let End::Stuck(words) = end.follow(state, self.operator) {
                let mut trace = self.way(reached, at);
                trace.push("from here the goal is never reached:".to_owned());
                trace.extend(words.into_iter().rev().take(8).rev());
                return Some(Trace {
                    what: "Stuck".to_owned(),
                    events: trace,
                });
            }
        }
        None
    }

    fn trace(&mut self, reached: &Reached, at: usize, last: &[String], what: Bad) -> Trace {
        let mut events = self.way(reached, at);
        events.extend_from_slice(last);
        Trace {
            what: format!("{what:?}"),
            events,
        }
    }

    /// The events from a start to this state.
    fn way(&mut self, reached: &Reached, at: usize) -> Vec<String> {
        let mut way = vec![at];
        while reached.parents[way[way.len() - 1]] != u32::MAX {
            way.push(reached.parents[way[way.len() - 1]] as usize);
        }
        way.reverse();
        let mut next = Vec::new();
        way.windows(2)
            .map(|pair| {
                let state = State::unpack(reached.states[pair[0]]);
                successors(&state, self.operator, &mut next);
                let is_it = |(_, after): &&Next| {
                    after.is_ok_and(|after| after.pack() == reached.states[pair[1]])
                };
                let event = next.iter().find(is_it).map(|(event, _)| event.to_string());
                event.unwrap_or_else(|| "?".to_owned())
            })
            .collect()
    }
}

impl Reached {
    fn add(&mut self, state: &State, parent: u32) {
        let key = state.pack();
        let states = &mut self.states;
        let parents = &mut self.parents;
        self.index.entry(key).or_insert_with(|| {
            states.push(key);
            parents.push(parent);
            (states.len() - 1) as u32
        });
    }
}
