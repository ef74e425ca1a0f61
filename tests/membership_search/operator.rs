//! The operator: facts by the real `evidence`, decisions by the real `plan`, `check` and
//! `Operation::outcome`, or by a planner with a planted bug.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use jiff::Timestamp;
use seedbed::domain::{ClusterId, MemberId};
use seedbed::membership::{
    Answer, Candidate, Facts, Goal, Health, Invariant, ListedMember, Loss, Marks, MemberView,
    Memory, Operation, Outcome, Progress, RULES, Recorded, RecordedMember, Role, Round, Snapshot,
    Step, check, evidence, member_name, plan, quorum, wishes,
};

use super::fast::Fast;
use super::state::{Kind, Op, State};

/// A way in which a planner can be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// A rule is missing.
    Without(Invariant),
    /// Cluster API's formula: the voters that remain, less those whose machine is known to be
    /// broken, against the quorum of those that remain; no member is asked.
    ClusterApiFormula,
    /// A member counts as healthy because it is listed.
    DeadButListed,
    /// A learner counts as ready by the leader's view of its log, without its own answer.
    LearnerNotAsked,
    /// The facts are not read again before the call.
    NoReread,
    /// Members are addressed by the name of their machine.
    ByName,
    /// The published config never checks the disk.
    NoDiskCheck,
    /// A founder that nobody has seen start never asks the others.
    FoundersDoNotAsk,
    /// "Peer URL exists" is taken for success.
    AnyMemberAtUrl,
    /// A call without an answer is taken for not made.
    TrustsErrors,
    /// What the seed does not reach is taken for dead.
    SeedPathOnly,
    /// A lost voter is replaced before it is removed.
    AddFirst,
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The planner as it is.
    Real,
    /// Any step that the rules let pass, wanted or not.
    AnyStep,
}

/// The operator and what it has worked out before.
pub struct Operator {
    pub mode: Mode,
    pub bug: Option<Bug>,
    decisions: HashMap<u128, Vec<Op>, Fast>,
    outcomes: HashMap<u128, Verdict, Fast>,
}

/// `Outcome` without its words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Done,
    Retry,
    Abandon,
    Wait,
}

const LAST_GENERATION: u64 = 7;

pub fn id(machine: u8, generation: bool) -> MemberId {
    MemberId(u64::from(machine) + 1 + 16 * u64::from(generation))
}

fn op_of(id: MemberId) -> (u8, bool) {
    (((id.0 & 15) - 1) as u8, id.0 & 16 != 0)
}

fn machine_name(machine: u8) -> String {
    format!("m{machine}")
}

fn url(machine: u8) -> String {
    format!("https://198.18.0.1{machine}:2380")
}

pub fn step(op: Op) -> Step {
    match op {
        Op::Add(machine) => Step::AddLearner {
            machine: machine_name(machine),
            name: member_name(&machine_name(machine), LAST_GENERATION + 1),
            peer_url: url(machine),
        },
        Op::Promote(machine, generation) => Step::Promote {
            id: id(machine, generation),
            machine: machine_name(machine),
        },
        Op::Remove(machine, generation) => Step::Remove {
            id: id(machine, generation),
            machine: Some(machine_name(machine)),
            why: String::new(),
        },
        Op::Move(from, to) => Step::MoveLeader {
            from: id(from, false),
            to: id(to, false),
        },
    }
}

fn op(step: &Step) -> Op {
    match step {
        Step::AddLearner { machine, .. } => Op::Add(machine[1..].parse().expect("a number")),
        Step::Promote { id, .. } => {
            let (machine, generation) = op_of(*id);
            Op::Promote(machine, generation)
        }
        Step::Remove { id, .. } => {
            let (machine, generation) = op_of(*id);
            Op::Remove(machine, generation)
        }
        Step::MoveLeader { from, to } => Op::Move(op_of(*from).0, op_of(*to).0),
    }
}

impl Operator {
    pub fn new(mode: Mode, bug: Option<Bug>) -> Self {
        Self {
            mode,
            bug,
            decisions: HashMap::default(),
            outcomes: HashMap::default(),
        }
    }

    /// What it may record now.
    pub fn decide(&mut self, state: &State) -> Vec<Op> {
        let key = observation(state);
        if let Some(known) = self.decisions.get(&key) {
            return known.clone();
        }
        let facts = self.facts(state);
        let steps = match (self.mode, self.bug) {
            (Mode::Real, None) => plan(&facts).step.into_iter().collect(),
            (Mode::Real, Some(_)) => self.first(&facts),
            (Mode::AnyStep, _) => self.any(&facts),
        };
        let ops: Vec<Op> = steps.iter().map(op).collect();
        self.decisions.insert(key, ops.clone());
        ops
    }

    /// What became of the recorded operation, and whether it is made (again).
    pub fn outcome(&mut self, state: &State) -> Verdict {
        let Some(pending) = state.pending else {
            return Verdict::Wait;
        };
        let key = observation(state);
        if let Some(known) = self.outcomes.get(&key) {
            return *known;
        }
        let facts = self.facts(state);
        let operation = Operation {
            step: step_now(pending, state),
        };
        let verdict = match operation.outcome(&facts) {
            Outcome::Done(_) => Verdict::Done,
            Outcome::Retry => Verdict::Retry,
            Outcome::Abandon(_) => Verdict::Abandon,
            Outcome::Wait(_) => Verdict::Wait,
        };
        let verdict = self.misjudge(verdict, pending, state, &operation.step, &facts);
        self.outcomes.insert(key, verdict);
        verdict
    }

    fn misjudge(
        &self,
        verdict: Verdict,
        pending: Op,
        state: &State,
        step: &Step,
        facts: &Facts,
    ) -> Verdict {
        let open = matches!(verdict, Verdict::Retry | Verdict::Abandon);
        match self.bug {
            Some(Bug::NoReread) if open => Verdict::Retry,
            Some(Bug::AnyMemberAtUrl) => match pending {
                Op::Add(machine) if state.get(machine).kind.listed() => Verdict::Done,
                Op::Add(_) if open => self.allowed(step, facts),
                _ => verdict,
            },
            Some(Bug::ByName) => match pending {
                // Whatever member the machine has now is meant.
                Op::Remove(machine, _) if !state.get(machine).kind.listed() => Verdict::Done,
                Op::Remove(..) => Verdict::Retry,
                _ => verdict,
            },
            Some(_) if open => self.allowed(step, facts),
            _ => verdict,
        }
    }

    fn allowed(&self, step: &Step, facts: &Facts) -> Verdict {
        if self.passes(step, facts) {
            Verdict::Retry
        } else {
            Verdict::Abandon
        }
    }

    /// The rules, without what the bug leaves out.
    fn passes(&self, step: &Step, facts: &Facts) -> bool {
        if self.bug.is_none() {
            return check(step, facts).is_ok();
        }
        RULES.iter().all(|(invariant, rule)| {
            let left_out = match self.bug {
                Some(Bug::Without(left_out)) => left_out == *invariant,
                Some(Bug::ClusterApiFormula) => match invariant {
                    Invariant::Removal => return cluster_api(step, facts),
                    Invariant::VoluntaryRemoval | Invariant::QuorumLost => true,
                    _ => false,
                },
                Some(Bug::AnyMemberAtUrl) => matches!(
                    invariant,
                    Invariant::Amnesia | Invariant::DuplicateUrl | Invariant::Identity
                ),
                Some(Bug::AddFirst) => *invariant == Invariant::Addition,
                _ => false,
            };
            left_out || rule(step, facts).is_ok()
        })
    }

    fn first(&self, facts: &Facts) -> Vec<Step> {
        if facts.pending.is_some() && self.bug != Some(Bug::Without(Invariant::OneInFlight)) {
            return Vec::new();
        }
        let mut wanted: Vec<Step> = wishes(facts).into_iter().map(|wish| wish.step).collect();
        if self.bug == Some(Bug::AnyMemberAtUrl) {
            // A machine with a lost member is given to a learner as it is.
            let again = |member: &seedbed::membership::Member| {
                let machine = member.machine.clone()?;
                member.loss.as_ref()?;
                Some(Step::AddLearner {
                    name: member_name(&machine, LAST_GENERATION + 1),
                    machine,
                    peer_url: member.peer_url.clone(),
                })
            };
            wanted.splice(0..0, facts.listed().iter().filter_map(again));
        }
        if self.bug == Some(Bug::AddFirst) && facts.learners().next().is_none() {
            // The replacement first: as long as one is to be had, nothing is removed.
            let lost = facts.voters().any(|member| member.loss.is_some());
            let candidates = every_step(facts)
                .into_iter()
                .filter(|step| matches!(step, Step::AddLearner { .. }));
            if lost {
                wanted = candidates.collect();
            }
        }
        let chosen = wanted.into_iter().find(|step| self.passes(step, facts));
        chosen.into_iter().collect()
    }

    fn any(&self, facts: &Facts) -> Vec<Step> {
        if facts.pending.is_some() {
            return Vec::new();
        }
        let mut steps = every_step(facts);
        steps.retain(|step| self.passes(step, facts));
        steps
    }

    /// The facts of this moment, by the real `evidence` over three rounds.
    fn facts(&self, state: &State) -> Facts {
        let mut facts = facts(state);
        let Some(members) = &mut facts.members else {
            return facts;
        };
        match self.bug {
            Some(Bug::DeadButListed) => {
                for member in members {
                    member.health = Health::Healthy;
                }
            }
            Some(Bug::LearnerNotAsked) => {
                for member in members.iter_mut().filter(|m| m.role == Role::Learner) {
                    let (machine, _) = op_of(member.id);
                    if state.get(machine).kind.caught_up() {
                        member.health = Health::Healthy;
                        member.progress = Progress::CaughtUp;
                        member.loss = None;
                    }
                }
            }
            Some(Bug::SeedPathOnly) => {
                for member in members {
                    let silent = matches!(member.health, Health::Unhealthy(_));
                    let (machine, _) = op_of(member.id);
                    if silent && state.get(machine).late && member.loss.is_none() {
                        member.loss = Some(Loss::Silent {
                            since: String::new(),
                            too_soon: None,
                        });
                    }
                }
            }
            _ => {}
        }
        facts
    }
}

/// The step of a recorded operation; leadership moves between the members of now.
fn step_now(op: Op, state: &State) -> Step {
    match op {
        Op::Move(from, to) => Step::MoveLeader {
            from: id(from, state.get(from).generation),
            to: id(to, state.get(to).generation),
        },
        op => step(op),
    }
}

/// `targetTotal - targetUnhealthy >= targetTotal/2 + 1`, where only what is known to be gone is
/// unhealthy.
fn cluster_api(step: &Step, facts: &Facts) -> bool {
    let Step::Remove { id, .. } = step else {
        return true;
    };
    let remain: Vec<_> = facts.voters().filter(|member| member.id != *id).collect();
    let unhealthy = remain.iter().filter(|member| member.loss.is_some()).count();
    remain.len() - unhealthy >= quorum(remain.len())
}

/// Everything that could be asked of etcd.
fn every_step(facts: &Facts) -> Vec<Step> {
    let mut steps = Vec::new();
    for member in facts.listed() {
        let machine = member.machine.clone();
        steps.push(Step::Remove {
            id: member.id,
            machine: machine.clone(),
            why: String::new(),
        });
        steps.push(Step::Promote {
            id: member.id,
            machine: machine.unwrap_or_default(),
        });
        if let Some(leader) = facts.leader
            && leader != member.id
        {
            steps.push(Step::MoveLeader {
                from: leader,
                to: member.id,
            });
        }
    }
    for machine in &facts.goal.machines {
        steps.push(Step::AddLearner {
            machine: machine.name.clone(),
            name: member_name(&machine.name, facts.next_generation),
            peer_url: machine.peer_url.clone(),
        });
    }
    steps
}

/// What the operator can see of a state, as a key.
fn observation(state: &State) -> u128 {
    let works = state.works();
    let mut key = 0;
    for machine in &state.machines {
        let lists = machine.linked() && works && machine.kind.votes();
        for (value, width) in [
            (machine.kind as u128, 4),
            (u128::from(machine.answers()), 1),
            (u128::from(lists), 1),
            (u128::from(machine.linked()), 1),
            (u128::from(machine.seen()), 1),
            (u128::from(machine.machine_answers()), 1),
            (u128::from(machine.generation), 1),
            (u128::from(machine.late), 1),
            (u128::from(machine.leaving), 1),
            (u128::from(machine.attempts), 2),
        ] {
            key = key << width | value;
        }
    }
    let seen = State {
        machines: [super::state::Machine::SPARE; super::state::MACHINES],
        limbo: None,
        fault_since: false,
        blind: false,
        faults: 0,
        specs: 0,
        delays: 0,
        ..*state
    };
    key << 36 | (seen.pack() & ((1 << 36) - 1))
}

fn answer(state: &State, machine: u8, list: &[ListedMember]) -> Answer {
    let row = state.get(machine);
    let joined = row.linked() && state.works();
    let index = if row.kind.votes() || row.kind.caught_up() {
        1_000_000
    } else {
        10
    };
    Answer {
        cluster_id: ClusterId(0xc1),
        member_id: id(machine, row.generation),
        leader: state
            .leader
            .filter(|_| joined)
            .map(|leader| id(leader, state.get(leader).generation)),
        raft_term: 2,
        raft_index: index,
        raft_applied_index: index,
        db_size_bytes: 0,
        version: "3.7.0".to_owned(),
        is_learner: row.kind.learns(),
        errors: Vec::new(),
        members: if joined && row.kind.votes() {
            Ok(list.to_vec())
        } else {
            Err("it does not reach a majority".to_owned())
        },
    }
}

/// The facts of a state: three rounds of the real `evidence`, far enough apart for everything that
/// can be certain to be so.
pub fn facts(state: &State) -> Facts {
    let long_ago: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
    let start: Timestamp = "2026-11-01T00:00:00Z".parse().expect("a time");
    let list: Vec<ListedMember> = state
        .all()
        .filter(|(_, row)| row.kind.listed())
        .map(|(machine, row)| ListedMember {
            id: id(machine, row.generation),
            name: if row.kind.started() || row.kind.votes() {
                machine_name(machine)
            } else {
                String::new()
            },
            peer_urls: vec![url(machine)],
            client_urls: Vec::new(),
            is_learner: row.kind.learns(),
        })
        .collect();
    let recorded: Vec<(u8, RecordedMember)> = state
        .all()
        .filter(|(_, row)| row.kind.listed() && row.kind != Kind::Unrecorded)
        .map(|(machine, row)| {
            let slot = RecordedMember {
                machine: machine_name(machine),
                name: member_name(&machine_name(machine), 1 + u64::from(row.generation)),
                peer_url: url(machine),
                id: Some(id(machine, row.generation)),
                guarded: row.kind.guarded(),
                silent_since: row.late.then_some(long_ago),
            };
            (machine, slot)
        })
        .collect();
    let snapshot = Snapshot {
        members: recorded
            .iter()
            .map(|(machine, slot)| MemberView {
                name: slot.name.clone(),
                machine: slot.machine.clone(),
                peer_url: slot.peer_url.clone(),
                answer: if state.get(*machine).answers() {
                    Ok(answer(state, *machine, &list))
                } else {
                    Err("no answer".to_owned())
                },
            })
            .collect(),
    };
    let ledger = Recorded {
        cluster_id: Some(ClusterId(0xc1)),
        members: recorded.into_iter().map(|(_, slot)| slot).collect(),
        tombstones: Vec::new(),
        last_generation: LAST_GENERATION,
        last_loss_removal: None,
    };
    let seen: BTreeSet<MemberId> = state
        .all()
        .filter(|(_, row)| row.kind.listed() && row.seen())
        .map(|(machine, row)| id(machine, row.generation))
        .collect();
    let sees: BTreeMap<MemberId, BTreeSet<MemberId>> = state
        .all()
        .filter(|(_, row)| row.linked() && row.answers() && row.kind.votes())
        .map(|(machine, row)| (id(machine, row.generation), seen.clone()))
        .collect();
    let machines = state
        .all()
        .map(|(machine, row)| (machine_name(machine), row.machine_answers()))
        .collect();
    let pending = state.pending.map(|op| Operation {
        step: step_now(op, state),
    });
    let stalled = state.all().any(|(_, row)| row.kind.learns() && row.late);
    let seconds: &[i64] = if stalled {
        &[0, 290, 305, 325]
    } else {
        &[0, 15, 35]
    };
    let mut memory = Memory::default();
    let mut facts = Facts::default();
    for second in seconds {
        let now = start + Duration::from_secs(*second as u64);
        facts = evidence(
            &Round {
                asked_at: now,
                now,
                goal: goal(state),
                ledger: &ledger,
                pending: pending.as_ref(),
                called_at: state.in_flight.then_some(now),
                snapshot: &snapshot,
                machines: &machines,
                sees: &sees,
                loss_timeout: Duration::from_secs(3_600 * 1_000),
                snapshot_verified_at: Some(now),
            },
            &mut memory,
        );
    }
    if state.unsettled {
        facts.unsettled = Some("a change a moment ago".to_owned());
    } else if facts.members.is_some() {
        assert_eq!(facts.unsettled, None, "{state:?}");
    }
    facts
}

fn goal(state: &State) -> Goal {
    Goal {
        size: usize::from(state.size),
        machines: state
            .all()
            .map(|(machine, row)| Candidate {
                name: machine_name(machine),
                peer_url: url(machine),
                failure_domain: None,
                marks: Marks {
                    release_requested: row.leaving.then(|| "it is wanted back".to_owned()),
                    ..Marks::default()
                },
                attempts: row.attempts,
                came_back: false,
            })
            .collect(),
        remove_lost: true,
    }
}
