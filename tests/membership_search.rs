//! Every reachable state of a small world: machines that fail in every way, etcd's rules of
//! membership, and the real planner. No action of the operator costs quorum or data, and from
//! every state where a majority can come back the goal is reached.
//!
//! Quick only when optimised: `cargo test --release --test membership_search -- --nocapture`.

#[path = "support/etcd_rules.rs"]
#[allow(
    dead_code,
    reason = "shared with the test that plays them against etcd"
)]
mod etcd_rules;
#[path = "membership_search/fast.rs"]
mod fast;
#[path = "membership_search/liveness.rs"]
mod liveness;
#[path = "membership_search/operator.rs"]
mod operator;
#[path = "membership_search/search.rs"]
mod search;
#[path = "membership_search/state.rs"]
mod state;
#[path = "membership_search/world.rs"]
mod world;

use operator::{Bug, Mode, Operator};
use search::{Found, Search};
use seedbed::membership::Invariant;
use state::State;

/// A world to search: its start and what may happen in it.
#[derive(Clone, Copy)]
struct Scenario {
    name: &'static str,
    voters: u8,
    spares: u8,
    size: u8,
    /// The last voter is a founder that has yet to start.
    unstarted: bool,
    faults: u8,
    specs: u8,
    delays: u8,
}

impl Scenario {
    fn start(&self) -> State {
        State {
            faults: self.faults,
            specs: self.specs,
            delays: self.delays,
            ..State::founded(self.voters, self.spares, self.unstarted, self.size)
        }
    }
}

const fn world(
    name: &'static str,
    (voters, spares, size): (u8, u8, u8),
    (faults, specs, delays): (u8, u8, u8),
) -> Scenario {
    Scenario {
        name,
        voters,
        spares,
        size,
        unstarted: false,
        faults,
        specs,
        delays,
    }
}

const THREE_AND_A_SPARE: Scenario = world("3 voters, 1 spare", (3, 1, 3), (3, 0, 0));
const THREE_AND_TWO: Scenario = world("3 voters, 2 spares", (3, 2, 3), (1, 1, 0));
const DELAYED: Scenario = world("3 voters, 1 spare, a call delayed", (3, 1, 3), (1, 1, 1));
const ONE: Scenario = world("1 voter, 2 spares", (1, 2, 1), (2, 1, 1));
const FIVE: Scenario = world("5 voters", (5, 0, 5), (2, 0, 0));
const FOUR: Scenario = world("4 voters found, 3 wanted", (4, 0, 3), (1, 0, 1));
const FOUNDING: Scenario = Scenario {
    unstarted: true,
    ..world("3 founders, 1 of them late, 1 spare", (3, 1, 3), (1, 0, 0))
};

/// Smaller worlds for any step at all: there are many more ways to go.
const THREE_ANY: Scenario = world("3 voters, 1 spare", (3, 1, 3), (2, 0, 0));
const THREE_CHANGED: Scenario = world("3 voters, 1 spare, spec changed", (3, 1, 3), (0, 1, 0));
const ONE_ANY: Scenario = world("1 voter, 2 spares", (1, 2, 1), (1, 1, 0));

const ANY: [Scenario; 6] = [THREE_ANY, THREE_CHANGED, ONE_ANY, FIVE, FOUR, FOUNDING];

const ALL: [Scenario; 7] = [
    THREE_AND_A_SPARE,
    THREE_AND_TWO,
    DELAYED,
    ONE,
    FIVE,
    FOUR,
    FOUNDING,
];

fn search(scenario: &Scenario, mode: Mode, bug: Option<Bug>) -> Found {
    let mut operator = Operator::new(mode, bug);
    let mut search = Search {
        operator: &mut operator,
        liveness: mode == Mode::Real,
        limit: 10_000_000,
    };
    search.run(&[scenario.start()])
}

fn tell(scenario: &Scenario, found: &Found) {
    println!(
        "{:<40} faults {}, spec changes {}, delays {}: {:>9} states {:>10} transitions, depth {:>3}, {:.1} s",
        scenario.name,
        scenario.faults,
        scenario.specs,
        scenario.delays,
        found.states,
        found.transitions,
        found.depth,
        found.took.as_secs_f64()
    );
    if let Some(trace) = &found.bad {
        for event in &trace.events {
            println!("    {event}");
        }
        println!("    => {}", trace.what);
    }
}

/// The planner as it is: nothing bad, and the goal is reached from everywhere.
#[test]
fn the_planner_loses_nothing_and_always_arrives() {
    for scenario in &ALL {
        let found = search(scenario, Mode::Real, None);
        tell(scenario, &found);
        assert!(found.bad.is_none(), "{}", scenario.name);
    }
}

/// The rules alone: whatever step they let pass, wanted or not, does no harm.
#[test]
fn no_step_that_the_rules_let_pass_does_harm() {
    for scenario in &ANY {
        let found = search(scenario, Mode::AnyStep, None);
        tell(scenario, &found);
        assert!(found.bad.is_none(), "{}", scenario.name);
    }
}

/// Each planted bug is caught; if one were not, the model or what it looks for would be too weak.
#[test]
fn every_planted_bug_is_caught() {
    let planted: [(Bug, Mode); 21] = [
        (Bug::Without(Invariant::VoluntaryRemoval), Mode::AnyStep),
        (Bug::Without(Invariant::Promotion), Mode::AnyStep),
        (Bug::Without(Invariant::Addition), Mode::Real),
        (Bug::Without(Invariant::OneInFlight), Mode::Real),
        (Bug::Without(Invariant::Parity), Mode::AnyStep),
        (Bug::Without(Invariant::Amnesia), Mode::Real),
        (Bug::Without(Invariant::Leader), Mode::AnyStep),
        (Bug::Without(Invariant::Unstarted), Mode::AnyStep),
        (Bug::Without(Invariant::QuorumLost), Mode::AnyStep),
        (Bug::Without(Invariant::Settle), Mode::Real),
        (Bug::ClusterApiFormula, Mode::AnyStep),
        (Bug::DeadButListed, Mode::Real),
        (Bug::LearnerNotAsked, Mode::Real),
        (Bug::NoReread, Mode::Real),
        (Bug::ByName, Mode::Real),
        (Bug::NoDiskCheck, Mode::Real),
        (Bug::FoundersDoNotAsk, Mode::Real),
        (Bug::AnyMemberAtUrl, Mode::Real),
        (Bug::TrustsErrors, Mode::Real),
        (Bug::SeedPathOnly, Mode::Real),
        (Bug::AddFirst, Mode::Real),
    ];
    let mut missed = Vec::new();
    for (bug, mode) in planted {
        let worlds: &[Scenario] = if mode == Mode::Real { &ALL } else { &ANY };
        let caught = worlds.iter().find_map(|scenario| {
            let found = search(scenario, mode, Some(bug));
            let trace = found.bad?;
            Some((scenario.name, trace, found.states))
        });
        match caught {
            Some((scenario, trace, states)) => println!(
                "{bug:?}: {} after {} events in \"{scenario}\" ({states} states)\n    {}",
                trace.what,
                trace.events.len(),
                trace.events.join("\n    ")
            ),
            None => missed.push(bug),
        }
    }
    assert!(missed.is_empty(), "not caught: {missed:?}");
}
