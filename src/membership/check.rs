//! The invariants, each on its own, over one step: independent of how the step came about.
//!
//! The planner asks before it answers, and whoever makes the call asks again on a snapshot that
//! was read just before it (I7).

use std::fmt;

use super::facts::{Facts, Health, Loss, Member, Progress};
use super::goal::Candidate;
use super::invariant::Invariant;
use super::step::Step;
use super::verdict::{Freeze, quorum};
use crate::domain::MemberId;

/// A step that is not taken, the rule that holds it, and what the rule saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The step, in words.
    pub step: String,
    pub by: Invariant,
    pub why: String,
}

/// A rule: nothing, or what speaks against the step.
pub type Rule = fn(&Step, &Facts) -> Result<(), String>;

/// Every rule, in the order in which they are named when several hold a step.
pub const RULES: [(Invariant, Rule); 17] = [
    (Invariant::OneCluster, one_cluster),
    (Invariant::Freshness, freshness),
    (Invariant::Identity, identity),
    (Invariant::QuorumLost, quorum_lost),
    (Invariant::OneInFlight, one_in_flight),
    (Invariant::NodeLoss, node_loss),
    (Invariant::Removal, removal),
    (Invariant::VoluntaryRemoval, voluntary_removal),
    (Invariant::Promotion, promotion),
    (Invariant::Parity, parity),
    (Invariant::Unstarted, unstarted),
    (Invariant::Amnesia, amnesia),
    (Invariant::DuplicateUrl, duplicate_url),
    (Invariant::RemovedIsFinal, removed_is_final),
    (Invariant::Addition, addition),
    (Invariant::Leader, leader),
    (Invariant::Settle, settle),
];

/// Holds the step if any rule does.
pub fn check(step: &Step, facts: &Facts) -> Result<(), Held> {
    for (by, rule) in RULES {
        rule(step, facts).map_err(|why| Held {
            step: step.to_string(),
            by,
            why,
        })?;
    }
    Ok(())
}

fn hold(condition: bool, why: impl FnOnce() -> String) -> Result<(), String> {
    if condition { Err(why()) } else { Ok(()) }
}

/// The voter that the step would remove.
fn removed_voter<'a>(step: &Step, facts: &'a Facts) -> Option<&'a Member> {
    match step {
        Step::Remove { id, .. } => facts.member(*id).filter(|member| member.votes()),
        _ => None,
    }
}

/// I18.
pub fn one_cluster(_: &Step, facts: &Facts) -> Result<(), String> {
    match &facts.frozen {
        Some(Freeze::SplitBrain(why)) => Err(why.clone()),
        Some(Freeze::IdentityMismatch(_)) | None => Ok(()),
    }
}

/// I7.
pub fn freshness(_: &Step, facts: &Facts) -> Result<(), String> {
    hold(facts.members.is_none(), || {
        "no member gave its list behind a linearizable read in this round".to_owned()
    })
}

/// I8.
pub fn identity(step: &Step, facts: &Facts) -> Result<(), String> {
    if let Some(Freeze::IdentityMismatch(why)) = &facts.frozen {
        return Err(why.clone());
    }
    let known = |id: &MemberId| {
        let ours =
            |member: &Member| member.machine.is_some() || !(member.started || member.votes());
        hold(!facts.member(*id).is_some_and(ours), || {
            format!("member {id} is not listed, or belongs to no machine of the ledger")
        })
    };
    match step {
        Step::AddLearner { name, .. } => {
            let namesake = facts.listed().iter().find(|member| member.name == *name);
            namesake.map_or(Ok(()), |member| {
                Err(format!("member {} is called {name} already", member.id))
            })
        }
        Step::Promote { id, .. } | Step::Remove { id, .. } => known(id),
        Step::MoveLeader { from, to } => known(from).and_then(|()| known(to)),
    }
}

/// I17.
pub fn quorum_lost(_: &Step, facts: &Facts) -> Result<(), String> {
    hold(!facts.has_quorum(), || {
        format!(
            "{} of {} voters are healthy, {} are needed",
            facts.healthy_voters(),
            facts.voter_count(),
            quorum(facts.voter_count())
        )
    })
}

/// I5.
pub fn one_in_flight(step: &Step, facts: &Facts) -> Result<(), String> {
    match &facts.pending {
        Some(pending) if pending.step != *step => Err(format!(
            "the operation \"{}\" is recorded and not yet verified",
            pending.step
        )),
        _ => Ok(()),
    }
}

/// Section C: what `nodeLoss` says about voters that are lost without anybody's word.
pub fn node_loss(step: &Step, facts: &Facts) -> Result<(), String> {
    let Some(loss) = removed_voter(step, facts).and_then(|member| member.loss.as_ref()) else {
        return Ok(());
    };
    if loss.automatic() && !facts.goal.remove_lost {
        return Err("nodeLoss.action is ReportOnly".to_owned());
    }
    match loss {
        Loss::Silent {
            too_soon: Some(why),
            ..
        } => Err(why.clone()),
        _ => Ok(()),
    }
}

/// I1.
pub fn removal(step: &Step, facts: &Facts) -> Result<(), String> {
    let Some(target) = removed_voter(step, facts) else {
        return Ok(());
    };
    let left = facts.voter_count() - 1;
    let healthy = facts.healthy_voters() - usize::from(target.healthy());
    hold(left == 0, || "it is the last voter".to_owned())?;
    hold(healthy < quorum(left), || {
        format!(
            "{healthy} of the {left} voters that remain are healthy, {} are needed",
            quorum(left)
        )
    })
}

/// I2. A voter without evidence of its loss goes only out of full health. A machine whose reimaging
/// was announced needs no replacement first, but the same health while its member still works.
pub fn voluntary_removal(step: &Step, facts: &Facts) -> Result<(), String> {
    let Some(target) = removed_voter(step, facts) else {
        return Ok(());
    };
    let announced = target.loss == Some(Loss::Reimaged);
    let works = !matches!(target.health, Health::Unhealthy(_));
    if target.loss.is_some() && !(announced && works) {
        return Ok(());
    }
    hold(!target.healthy(), || {
        "it is neither healthy twice in a row nor lost beyond doubt".to_owned()
    })?;
    let sick = facts.voters().find(|member| !member.healthy());
    if let Some(sick) = sick {
        return Err(format!("voter {} is not healthy", sick.name));
    }
    if let Some(learner) = facts.learners().next() {
        return Err(format!("learner {} is on its way", learner.name));
    }
    let size = facts.goal.size;
    hold(!announced && facts.voter_count() <= size, || {
        format!("{size} voters are wanted, and none has taken its place yet")
    })
}

/// I3.
pub fn promotion(step: &Step, facts: &Facts) -> Result<(), String> {
    let Step::Promote { id, .. } = step else {
        return Ok(());
    };
    let Some(learner) = facts.learners().find(|member| member.id == *id) else {
        return Err(format!("no learner {id} is listed"));
    };
    hold(!learner.started, || {
        format!("{} has not started yet", learner.name)
    })?;
    if let Health::Unhealthy(why) = &learner.health {
        return Err(format!("{}: {why}", learner.name));
    }
    hold(
        !learner.healthy() || learner.progress != Progress::CaughtUp,
        || format!("{} has yet to catch up", learner.name),
    )?;
    hold(!learner.stays(), || {
        format!("the machine of {} is not to stay", learner.name)
    })?;
    let voters = facts.voter_count();
    if voters == 1 {
        return hold(!facts.snapshot_verified, || {
            "a snapshot of the only voter has to be verified first".to_owned()
        });
    }
    let (healthy, needed) = (facts.healthy_voters(), quorum(voters + 1));
    hold(healthy < needed, || {
        format!("{healthy} of {voters} voters are healthy; {needed} are needed in case it dies")
    })
}

/// I4.
pub fn addition(step: &Step, facts: &Facts) -> Result<(), String> {
    let Step::AddLearner {
        machine, peer_url, ..
    } = step
    else {
        return Ok(());
    };
    let wanted = facts.goal.machine(machine);
    hold(
        wanted.is_none_or(|wanted| !wanted.eligible() || wanted.peer_url != *peer_url),
        || format!("machine {machine} is not free to be a member"),
    )?;
    if let Some(learner) = facts.learners().next() {
        return Err(format!("learner {} comes first", learner.name));
    }
    if let Some(unstarted) = facts.listed().iter().find(|member| !member.started) {
        return Err(format!("member {} has yet to start", unstarted.name));
    }
    let (voters, healthy) = (facts.voter_count(), facts.healthy_voters());
    let needed = quorum(voters + 1);
    hold(voters > 1 && healthy < needed, || {
        format!("{healthy} of {voters} voters are healthy, etcd wants {needed} to add another")
    })
}

/// I6.
pub fn parity(step: &Step, facts: &Facts) -> Result<(), String> {
    let size = facts.goal.size;
    let voters = facts.voter_count();
    let needed_elsewhere = match step {
        Step::AddLearner { .. } => 2,
        Step::Promote { .. } => 1,
        Step::MoveLeader { .. } => return Ok(()),
        Step::Remove { .. } => {
            let voluntary = removed_voter(step, facts).is_some_and(|member| member.loss.is_none());
            return hold(voluntary && size.is_multiple_of(2), || {
                format!("a size of {size} is not odd")
            });
        }
    };
    hold(size.is_multiple_of(2), || {
        format!("a size of {size} is not odd")
    })?;
    let replacing = facts.voters().any(|member| member.leaving.is_some());
    hold(voters > size || (voters == size && !replacing), || {
        format!("there are {voters} voters, {size} are wanted")
    })?;
    let grows_even = voters < size && !voters.is_multiple_of(2);
    let free = free_machines(facts).count();
    hold(grows_even && free < needed_elsewhere, || {
        format!(
            "{} voters survive no more losses than {voters}, and no machine is free for one more",
            voters + 1
        )
    })
}

/// Machines that may get a learner.
pub fn free_machines(facts: &Facts) -> impl Iterator<Item = &Candidate> {
    let taken = |machine: &Candidate| {
        facts.listed().iter().any(|member| {
            member.peer_url == machine.peer_url || member.machine.as_ref() == Some(&machine.name)
        })
    };
    facts
        .goal
        .machines
        .iter()
        .filter(move |machine| machine.eligible() && !taken(machine))
}

/// I14.
pub fn unstarted(step: &Step, facts: &Facts) -> Result<(), String> {
    let Step::Remove { id, .. } = step else {
        return Ok(());
    };
    let Some(learner) = facts.learners().find(|member| member.id == *id) else {
        return Ok(());
    };
    let needless = facts.voter_count() >= facts.goal.size
        && facts.voters().all(|member| member.leaving.is_none());
    hold(
        learner.stays() && learner.progress != Progress::Stalled && !needless,
        || format!("learner {} is on its way", learner.name),
    )
}

/// I9. A learner votes only once its machine can no longer start it on an empty disk: from then on
/// what it has acknowledged counts.
pub fn amnesia(step: &Step, facts: &Facts) -> Result<(), String> {
    if let Step::Promote { id, machine } = step {
        let unguarded = facts.member(*id).is_some_and(|member| !member.guarded);
        return hold(unguarded, || {
            format!("the config of machine {machine} does not check its disk yet")
        });
    }
    let Step::AddLearner { machine, .. } = step else {
        return Ok(());
    };
    let earlier = facts
        .listed()
        .iter()
        .find(|member| member.machine.as_ref() == Some(machine));
    earlier.map_or(Ok(()), |member| {
        Err(format!(
            "machine {machine} still has member {} ({})",
            member.name, member.id
        ))
    })
}

/// I11.
pub fn duplicate_url(step: &Step, facts: &Facts) -> Result<(), String> {
    let Step::AddLearner { peer_url, .. } = step else {
        return Ok(());
    };
    let earlier = facts
        .listed()
        .iter()
        .find(|member| member.peer_url == *peer_url);
    earlier.map_or(Ok(()), |member| {
        Err(format!(
            "member {} ({}) has {peer_url}",
            member.name, member.id
        ))
    })
}

/// I10.
pub fn removed_is_final(step: &Step, facts: &Facts) -> Result<(), String> {
    let Step::AddLearner { machine, name, .. } = step else {
        return Ok(());
    };
    if let Some(departed) = facts.departed.first() {
        return Err(format!(
            "member {} of machine {} was removed by someone else and is not yet buried",
            departed.id, departed.machine
        ));
    }
    hold(*name != member_name(machine, facts.next_generation), || {
        format!("the name {name} may have been used before")
    })
}

/// The name of a member that is not a founder. Node names have no underscore, so that it can
/// never be the name of a founder, which is called like its machine.
pub fn member_name(machine: &str, generation: u64) -> String {
    format!("{machine}_{generation}")
}

/// I12.
pub fn leader(step: &Step, facts: &Facts) -> Result<(), String> {
    match step {
        Step::Remove { id, .. } => {
            let leads = facts.leader == Some(*id);
            let answers = |member: &Member| !matches!(member.health, Health::Unhealthy(_));
            hold(leads && facts.member(*id).is_some_and(answers), || {
                "it is the leader; leadership is moved first".to_owned()
            })
        }
        Step::MoveLeader { from, to } => {
            hold(facts.leader != Some(*from), || {
                format!("{from} is not the leader")
            })?;
            let fit = |member: &Member| member.votes() && member.healthy() && member.stays();
            hold(from == to || !facts.member(*to).is_some_and(fit), || {
                format!("{to} is not a healthy voter that stays")
            })?;
            let next = Step::Remove {
                id: *from,
                machine: None,
                why: String::new(),
            };
            [removal, voluntary_removal, parity, node_loss]
                .iter()
                .try_for_each(|rule| rule(&next, facts))
        }
        Step::AddLearner { .. } | Step::Promote { .. } => Ok(()),
    }
}

/// I20.
pub fn settle(_: &Step, facts: &Facts) -> Result<(), String> {
    facts.unsettled.clone().map_or(Ok(()), Err)
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} holds \"{}\": {}", self.by, self.step, self.why)
    }
}
