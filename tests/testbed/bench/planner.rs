//! How long one decision about the members of etcd takes: `plan` over facts, every rule included.

use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use seedbed::domain::MemberId;
use seedbed::membership::{
    Candidate, Facts, Goal, Health, Loss, Member, Progress, Role, Step, plan,
};

use super::report::{Report, median};

const GOAL: Duration = Duration::from_micros(50);
const SAMPLES: usize = 101;
/// Decisions of one sample: a single one is too short for the clock.
const DECISIONS: u32 = 100;

/// A settled cluster, one with a lost voter, one that replaces a healthy member; of each size.
pub fn measure(report: &mut Report) -> Result<()> {
    for size in [3, 5, 7] {
        let settled = settled(size);
        ensure!(
            plan(&settled).step.is_none(),
            "a settled cluster is changed"
        );
        decide("settled", size, &settled, report);
        let lost = with_a_lost_voter(size);
        let step = plan(&lost).step;
        ensure!(matches!(step, Some(Step::Remove { .. })), "{step:?}");
        decide("a voter is lost", size, &lost, report);
        let replaced = with_a_replacement(size);
        let step = plan(&replaced).step;
        ensure!(matches!(step, Some(Step::Promote { .. })), "{step:?}");
        decide("a learner replaces a voter", size, &replaced, report);
    }
    Ok(())
}

fn decide(what: &str, size: usize, facts: &Facts, report: &mut Report) {
    let sample = |_| {
        let began = Instant::now();
        for _ in 0..DECISIONS {
            black_box(plan(black_box(facts)));
        }
        began.elapsed() / DECISIONS
    };
    let samples: Vec<Duration> = (0..SAMPLES).map(sample).collect();
    let took = median(&samples).unwrap_or_default();
    report.goal(
        format!("one decision, {size} voters, {what}"),
        format!("≤ {} µs", GOAL.as_micros()),
        format!("{:.1} µs", took.as_secs_f64() * 1e6),
        took <= GOAL,
    );
}

fn peer_url(number: usize) -> String {
    format!("https://198.18.0.{number}:2380")
}

fn member(number: usize) -> Member {
    Member {
        id: MemberId(0xec20_0000_0000_0000 + number as u64),
        name: format!("cp-{number}"),
        peer_url: peer_url(number),
        role: Role::Voter,
        started: true,
        guarded: true,
        machine: Some(format!("cp-{number}")),
        failure_domain: Some(format!("rack-{}", number % 3)),
        health: Health::Healthy,
        loss: None,
        leaving: None,
        progress: Progress::CaughtUp,
    }
}

/// With one machine more than voters.
fn settled(size: usize) -> Facts {
    let candidate = |number| Candidate {
        name: format!("cp-{number}"),
        peer_url: peer_url(number),
        failure_domain: Some(format!("rack-{}", number % 3)),
        ..Candidate::default()
    };
    Facts {
        goal: Goal {
            size,
            machines: (1..=size + 1).map(candidate).collect(),
            remove_lost: true,
        },
        members: Some((1..=size).map(member).collect()),
        leader: Some(member(1).id),
        next_generation: 1,
        ..Facts::default()
    }
}

fn with_a_lost_voter(size: usize) -> Facts {
    let mut facts = settled(size);
    let dead = Member {
        health: Health::Unhealthy("nothing answers".to_owned()),
        loss: Some(Loss::Silent {
            since: "2026-11-27T00:00:00Z".to_owned(),
            too_soon: None,
        }),
        ..member(size)
    };
    let mut members: Vec<Member> = (1..size).map(member).collect();
    members.push(dead);
    facts.members = Some(members);
    facts
}

fn with_a_replacement(size: usize) -> Facts {
    let mut facts = settled(size);
    let why = "the release of machine cp-2 is requested (maintenance)".to_owned();
    let mut members: Vec<Member> = (1..=size + 1).map(member).collect();
    for member in &mut members {
        if member.name == "cp-2" {
            member.leaving = Some(why.clone());
        }
    }
    if let Some(learner) = members.last_mut() {
        learner.role = Role::Learner;
    }
    for machine in &mut facts.goal.machines {
        if machine.name == "cp-2" {
            machine.marks.release_requested = Some("maintenance".to_owned());
        }
    }
    facts.members = Some(members);
    facts
}
