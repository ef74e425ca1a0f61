//! The rules for what makes a cluster larger: additions and promotions.

use super::{Facts, Health, Progress, Step, hold, quorum, removed_voter};
use crate::membership::goal::Candidate;

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
