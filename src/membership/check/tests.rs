//! Each invariant by its number, and the planner over random facts.

use proptest::prelude::*;

use super::*;
use crate::membership::{
    Candidate, Departed, Goal, Marks, Operation, Outcome, Outlook, Role, plan,
};

fn machine(number: u64) -> Candidate {
    Candidate {
        name: format!("cp-{number}"),
        peer_url: format!("https://198.18.0.1{number}:2380"),
        ..Candidate::default()
    }
}

fn voter(number: u64) -> Member {
    Member {
        id: MemberId(number),
        name: format!("cp-{number}"),
        peer_url: machine(number).peer_url,
        role: Role::Voter,
        started: true,
        guarded: true,
        machine: Some(format!("cp-{number}")),
        failure_domain: None,
        health: Health::Healthy,
        loss: None,
        leaving: None,
        progress: Progress::CaughtUp,
    }
}

fn learner(number: u64) -> Member {
    Member {
        role: Role::Learner,
        ..voter(number)
    }
}

fn dead(number: u64) -> Member {
    Member {
        health: Health::Unhealthy("no answer".to_owned()),
        loss: Some(Loss::Silent {
            since: "2026-11-26T00:00:00Z".to_owned(),
            too_soon: None,
        }),
        ..voter(number)
    }
}

fn facts(size: usize, members: Vec<Member>) -> Facts {
    Facts {
        goal: Goal {
            size,
            machines: (1..=6).map(machine).collect(),
            remove_lost: true,
        },
        leader: members.first().map(|member| member.id),
        members: Some(members),
        snapshot_verified: true,
        next_generation: 4,
        ..Facts::default()
    }
}

fn remove(number: u64) -> Step {
    Step::Remove {
        id: MemberId(number),
        machine: Some(format!("cp-{number}")),
        why: String::new(),
    }
}

fn promote(number: u64) -> Step {
    Step::Promote {
        id: MemberId(number),
        machine: format!("cp-{number}"),
    }
}

fn add(number: u64) -> Step {
    Step::AddLearner {
        machine: format!("cp-{number}"),
        name: format!("cp-{number}_4"),
        peer_url: machine(number).peer_url,
    }
}

fn held(step: &Step, facts: &Facts) -> Option<Invariant> {
    check(step, facts).err().map(|held| held.by)
}

#[test]
fn i1_the_last_voter_stays() {
    let mut lone = facts(1, vec![voter(1)]);
    lone.members.as_mut().unwrap()[0].loss = Some(Loss::Reimaged);
    assert_eq!(held(&remove(1), &lone), Some(Invariant::Removal));
    let three = facts(3, vec![voter(1), voter(2), dead(3)]);
    assert_eq!(held(&remove(3), &three), None);
}

#[test]
fn i2_a_healthy_voter_goes_only_when_it_is_not_needed() {
    let three = facts(3, vec![voter(1), voter(2), voter(3)]);
    assert_eq!(held(&remove(3), &three), Some(Invariant::VoluntaryRemoval));
    let four = facts(3, vec![voter(1), voter(2), voter(3), voter(4)]);
    assert_eq!(held(&remove(4), &four), None);
    let sick = facts(3, vec![voter(1), voter(2), dead(3), voter(4)]);
    assert_eq!(held(&remove(4), &sick), Some(Invariant::VoluntaryRemoval));
}

#[test]
fn i3_a_promotion_survives_the_death_of_the_learner() {
    let fine = facts(3, vec![voter(1), voter(2), learner(3)]);
    assert_eq!(held(&promote(3), &fine), None);
    let sick = facts(5, vec![voter(1), voter(2), dead(3), learner(4)]);
    assert_eq!(held(&promote(4), &sick), Some(Invariant::Promotion));
    let mut silent = fine.clone();
    silent.members.as_mut().unwrap()[2].health = Health::Unhealthy("no answer".to_owned());
    assert_eq!(held(&promote(3), &silent), Some(Invariant::Promotion));
    let mut lone = facts(3, vec![voter(1), learner(2)]);
    lone.snapshot_verified = false;
    assert_eq!(held(&promote(2), &lone), Some(Invariant::Promotion));
}

#[test]
fn i4_nothing_is_added_beside_a_dead_voter_or_a_learner() {
    let degraded = facts(3, vec![voter(1), voter(2), dead(3)]);
    let mut degraded_five = degraded.clone();
    degraded_five.goal.size = 5;
    assert_eq!(held(&add(4), &degraded_five), Some(Invariant::Addition));
    let busy = facts(5, vec![voter(1), voter(2), voter(3), learner(4)]);
    assert_eq!(held(&add(5), &busy), Some(Invariant::Addition));
    assert_eq!(held(&add(3), &facts(3, vec![voter(1), voter(2)])), None);
}

#[test]
fn i5_one_operation_at_a_time() {
    let mut busy = facts(3, vec![voter(1), voter(2), dead(3)]);
    busy.pending = Some(Operation { step: remove(3) });
    assert_eq!(held(&remove(3), &busy), None);
    assert_eq!(held(&add(4), &busy), Some(Invariant::OneInFlight));
    assert_eq!(plan(&busy).step, None);
}

#[test]
fn i6_no_voter_too_many_and_none_that_leaves_an_even_number() {
    let enough = facts(3, vec![voter(1), voter(2), voter(3), learner(4)]);
    assert_eq!(held(&promote(4), &enough), Some(Invariant::Parity));
    let mut two_machines = facts(3, vec![voter(1), learner(2)]);
    two_machines.goal.machines.truncate(2);
    assert_eq!(held(&promote(2), &two_machines), Some(Invariant::Parity));
    let even = facts(2, vec![voter(1)]);
    assert_eq!(held(&add(2), &even), Some(Invariant::Parity));
}

#[test]
fn i7_i8_i18_without_a_list_or_with_strangers_nothing_is_changed() {
    let mut blind = facts(3, vec![voter(1), voter(2), dead(3)]);
    blind.members = None;
    assert_eq!(held(&remove(3), &blind), Some(Invariant::Freshness));
    let mut strange = facts(3, vec![voter(1), voter(2), dead(3)]);
    strange.frozen = Some(Freeze::IdentityMismatch("a stranger".to_owned()));
    assert_eq!(held(&remove(3), &strange), Some(Invariant::Identity));
    strange.frozen = Some(Freeze::SplitBrain("two clusters".to_owned()));
    assert_eq!(held(&remove(3), &strange), Some(Invariant::OneCluster));
    assert_eq!(plan(&strange).outlook, Outlook::Frozen);
}

#[test]
fn i9_i10_i11_a_new_member_is_new() {
    let mut unguarded = facts(3, vec![voter(1), voter(2), learner(3)]);
    unguarded.members.as_mut().unwrap()[2].guarded = false;
    assert_eq!(held(&promote(3), &unguarded), Some(Invariant::Amnesia));
    let two = facts(3, vec![voter(1), voter(2)]);
    assert_eq!(held(&add(2), &two), Some(Invariant::Amnesia));
    let mut moved = two.clone();
    moved.members.as_mut().unwrap()[1].machine = Some("cp-9".to_owned());
    assert_eq!(held(&add(2), &moved), Some(Invariant::DuplicateUrl));
    let mut unburied = two;
    unburied.departed.push(Departed {
        id: MemberId(3),
        machine: "cp-3".to_owned(),
    });
    assert_eq!(held(&add(3), &unburied), Some(Invariant::RemovedIsFinal));
}

#[test]
fn i12_leadership_is_moved_before_its_holder_is_removed() {
    let mut four = facts(3, vec![voter(1), voter(2), voter(3), voter(4)]);
    four.leader = Some(MemberId(4));
    four.members.as_mut().unwrap()[3].leaving = Some("wanted back".to_owned());
    assert_eq!(held(&remove(4), &four), Some(Invariant::Leader));
    let step = plan(&four).step;
    assert!(matches!(step, Some(Step::MoveLeader { from, .. }) if from == MemberId(4)));
}

#[test]
fn i13_the_list_tells_what_became_of_an_operation() {
    let promoted = facts(3, vec![voter(1), voter(2), voter(3)]);
    let operation = Operation { step: promote(3) };
    assert_eq!(operation.outcome(&promoted), Outcome::Done(None));
    let removed = Operation { step: remove(5) };
    assert_eq!(removed.outcome(&promoted), Outcome::Done(None));
    let mut refused = Operation { step: remove(3) }.outcome(&promoted);
    assert!(matches!(refused, Outcome::Abandon(_)));
    let in_flight = Facts {
        in_flight: true,
        ..promoted
    };
    refused = Operation { step: remove(3) }.outcome(&in_flight);
    assert!(matches!(refused, Outcome::Wait(_)));
}

#[test]
fn i14_a_learner_on_its_way_is_left_alone() {
    let mut coming = facts(3, vec![voter(1), voter(2), learner(3)]);
    coming.members.as_mut().unwrap()[2].progress = Progress::Progressing;
    assert_eq!(held(&remove(3), &coming), Some(Invariant::Unstarted));
    coming.members.as_mut().unwrap()[2].progress = Progress::Stalled;
    assert_eq!(plan(&coming).step.map(|step| step.kind()), Some("Remove"));
}

#[test]
fn i17_without_a_majority_nothing_is_changed() {
    let lost = facts(3, vec![voter(1), dead(2), dead(3)]);
    assert_eq!(held(&remove(3), &lost), Some(Invariant::QuorumLost));
    let decision = plan(&lost);
    assert_eq!(
        (decision.step, decision.outlook),
        (None, Outlook::QuorumLost)
    );
}

#[test]
fn i20_a_pause_follows_every_change() {
    let mut unsettled = facts(3, vec![voter(1), voter(2), dead(3)]);
    unsettled.unsettled = Some("the members changed".to_owned());
    assert_eq!(held(&remove(3), &unsettled), Some(Invariant::Settle));
}

#[test]
fn silence_is_only_reported_when_that_is_asked_for() {
    let mut report = facts(3, vec![voter(1), voter(2), dead(3)]);
    report.goal.remove_lost = false;
    assert_eq!(held(&remove(3), &report), Some(Invariant::NodeLoss));
    report.members.as_mut().unwrap()[2].loss = Some(Loss::Confirmed("sold".to_owned()));
    assert_eq!(held(&remove(3), &report), None);
}

fn any_member(number: u64) -> impl Strategy<Value = Member> {
    let bits = (any::<bool>(), any::<bool>(), any::<bool>(), 0..3u8, 0..4u8);
    bits.prop_map(move |(votes, started, guarded, health, fate)| Member {
        role: if votes { Role::Voter } else { Role::Learner },
        started,
        guarded,
        health: match health {
            0 => Health::Healthy,
            1 => Health::Unconfirmed,
            _ => Health::Unhealthy("no answer".to_owned()),
        },
        loss: match fate {
            0 => Some(Loss::Reimaged),
            1 => dead(number).loss,
            _ => None,
        },
        leaving: (fate == 2).then(|| "wanted back".to_owned()),
        progress: [Progress::CaughtUp, Progress::Progressing, Progress::Stalled]
            [usize::from(health)],
        ..voter(number)
    })
}

fn any_facts() -> impl Strategy<Value = Facts> {
    let members = proptest::collection::vec(any::<bool>(), 6).prop_flat_map(|there| {
        let listed = (1..=6).zip(there).filter(|(_, there)| *there);
        listed
            .map(|(number, _)| any_member(number).boxed())
            .collect::<Vec<_>>()
    });
    (members, 0..8usize, 0..7u64, any::<bool>(), any::<bool>()).prop_map(
        |(members, size, leader, settled, listed)| {
            let mut facts = facts(size, members);
            facts.leader = (leader > 0).then_some(MemberId(leader));
            facts.unsettled = (!settled).then(|| "a change".to_owned());
            if !listed {
                facts.members = None;
            }
            facts.goal.machines[5].marks = Marks {
                lost: Some("gone".to_owned()),
                ..Marks::default()
            };
            facts
        },
    )
}

proptest! {
    /// Total, deterministic, and never a step that a rule holds.
    #[test]
    fn a_planned_step_passes_every_rule(facts in any_facts()) {
        let decision = plan(&facts);
        prop_assert_eq!(&decision, &plan(&facts));
        if let Some(step) = decision.step {
            prop_assert!(check(&step, &facts).is_ok());
            prop_assert!(facts.has_quorum());
        }
    }
}
