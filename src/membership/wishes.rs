//! The decision table (etcd-membership A.4): what should be done, whether or not it may.
//!
//! Nothing here knows a rule of safety; `check` has them all.

use super::check::{free_machines, member_name};
use super::facts::{Facts, Health, Loss, Member, Progress};
use super::goal::Candidate;
use super::step::Step;

/// A step that the table asks for, and the facts that ask for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    pub step: Step,
    pub because: String,
}

/// What the table asks for, most urgent first. The first that may be done is done.
pub fn wishes(facts: &Facts) -> Vec<Wish> {
    let mut wishes = Vec::new();
    damaged(facts, &mut wishes);
    useless_learners(facts, &mut wishes);
    lost(facts, &mut wishes);
    promotions(facts, &mut wishes);
    additions(facts, &mut wishes);
    surplus(facts, &mut wishes);
    wishes
}

/// Row 4: a voter whose data etcd itself calls damaged.
fn damaged(facts: &Facts, wishes: &mut Vec<Wish>) {
    for member in facts.voters() {
        if let Some(loss @ Loss::Corrupt) = &member.loss {
            remove(member, &loss.to_string(), facts, wishes);
        }
    }
}

/// Row 5: learners that will not become voters.
fn useless_learners(facts: &Facts, wishes: &mut Vec<Wish>) {
    let replacing = facts.voters().any(|member| member.leaving.is_some());
    let enough = facts.voter_count() >= facts.goal.size && !replacing;
    for learner in facts.learners() {
        let why = if let Some(loss) = &learner.loss {
            loss.to_string()
        } else if let Some(why) = &learner.leaving {
            why.clone()
        } else if learner.progress == Progress::Stalled && !learner.started {
            "it has not started for too long".to_owned()
        } else if learner.progress == Progress::Stalled {
            "it has not come forward for too long".to_owned()
        } else if enough {
            "no further voter is wanted".to_owned()
        } else {
            continue;
        };
        remove(learner, &why, facts, wishes);
    }
}

/// Row 6: voters that will not come back.
fn lost(facts: &Facts, wishes: &mut Vec<Wish>) {
    let is_lost = |member: &&Member| !matches!(member.loss, None | Some(Loss::Corrupt));
    let mut lost: Vec<&Member> = facts.voters().filter(is_lost).collect();
    // Someone's word before our own watch, what is silent before what still works.
    lost.sort_by_key(|member| {
        let works = !matches!(member.health, Health::Unhealthy(_));
        (works, member.loss.as_ref().is_some_and(Loss::automatic))
    });
    for member in lost {
        if let Some(loss) = &member.loss {
            remove(member, &loss.to_string(), facts, wishes);
        }
    }
}

/// Row 7: learners that shall vote.
fn promotions(facts: &Facts, wishes: &mut Vec<Wish>) {
    for learner in facts.learners().filter(|learner| learner.stays()) {
        if let Some(machine) = &learner.machine {
            wishes.push(Wish {
                step: Step::Promote {
                    id: learner.id,
                    machine: machine.clone(),
                },
                because: format!("{} has caught up", learner.name),
            });
        }
    }
}

/// Rows 8 and 9: fewer voters than wanted, or one whose machine shall go.
fn additions(facts: &Facts, wishes: &mut Vec<Wish>) {
    let leaving = facts.voters().find(|member| member.leaving.is_some());
    let target = facts.goal.size + usize::from(leaving.is_some());
    let coming = facts.voter_count() + facts.learners().filter(|l| l.stays()).count();
    if coming >= target {
        return;
    }
    let Some(machine) = best_machine(facts) else {
        return;
    };
    let because = match leaving {
        Some(member) if facts.voter_count() >= facts.goal.size => {
            format!("{} needs a replacement: {}", member.name, reason(member))
        }
        _ => format!(
            "{} of {} voters are there",
            facts.voter_count(),
            facts.goal.size
        ),
    };
    wishes.push(Wish {
        step: Step::AddLearner {
            machine: machine.name.clone(),
            name: member_name(&machine.name, facts.next_generation),
            peer_url: machine.peer_url.clone(),
        },
        because,
    });
}

/// Spares that have not failed before, then the emptiest failure domain, then the inventory's
/// order.
fn best_machine(facts: &Facts) -> Option<&Candidate> {
    free_machines(facts).min_by_key(|machine| {
        let neighbours = crowd(facts, machine.failure_domain.as_ref());
        (machine.attempts, neighbours)
    })
}

/// Members of a failure domain that stay.
fn crowd(facts: &Facts, domain: Option<&String>) -> usize {
    let there = |member: &&Member| {
        member.stays() && domain.is_some() && member.failure_domain.as_ref() == domain
    };
    facts.listed().iter().filter(there).count()
}

/// Row 10: more voters than wanted, or a replacement that has been promoted.
fn surplus(facts: &Facts, wishes: &mut Vec<Wish>) {
    if facts.voter_count() <= facts.goal.size {
        // Said all the same, so that people see what a leaving voter waits for.
        for member in facts.voters().filter(|m| m.leaving.is_some()) {
            if member.loss.is_none() {
                remove(member, reason(member), facts, wishes);
            }
        }
        return;
    }
    let order = |machine: Option<&String>| {
        let place = |name: &String| facts.goal.machines.iter().position(|m| m.name == *name);
        machine.and_then(place).unwrap_or(usize::MAX)
    };
    // The largest key goes first: the inventory's last, in the fullest domain, not the leader.
    let target = facts
        .voters()
        .filter(|member| member.loss.is_none())
        .max_by_key(|member| {
            (
                member.leaving.is_some(),
                facts.leader != Some(member.id),
                crowd(facts, member.failure_domain.as_ref()),
                order(member.machine.as_ref()),
            )
        });
    if let Some(member) = target {
        let why = member.leaving.clone().unwrap_or_else(|| {
            format!(
                "there are {} voters, {} are wanted",
                facts.voter_count(),
                facts.goal.size
            )
        });
        remove(member, &why, facts, wishes);
    }
}

fn reason(member: &Member) -> &str {
    member.leaving.as_deref().unwrap_or("it shall go")
}

/// Removes a member; if it leads, leadership is moved first (I12).
fn remove(member: &Member, why: &str, facts: &Facts, wishes: &mut Vec<Wish>) {
    let because = format!("{}: {why}", member.name);
    let leads = facts.leader == Some(member.id);
    let works = !matches!(member.health, Health::Unhealthy(_));
    let fit = |other: &&Member| other.id != member.id && other.healthy() && other.stays();
    if leads
        && works
        && let Some(successor) = facts.voters().find(fit)
    {
        wishes.push(Wish {
            step: Step::MoveLeader {
                from: member.id,
                to: successor.id,
            },
            because: because.clone(),
        });
    }
    wishes.push(Wish {
        step: Step::Remove {
            id: member.id,
            machine: member.machine.clone(),
            why: why.to_owned(),
        },
        because,
    });
}
