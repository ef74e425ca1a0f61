//! The invariants, each on its own, over one step: independent of how the step came about.
//!
//! The planner asks before it answers, and whoever makes the call asks again on a snapshot that
//! was read just before it (I7).

mod growth;

use std::fmt;

pub use self::growth::{
    addition, amnesia, duplicate_url, free_machines, member_name, parity, promotion,
    removed_is_final,
};

use super::facts::{Facts, Health, Loss, Member, Progress};
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

#[cfg(test)]
mod tests;
