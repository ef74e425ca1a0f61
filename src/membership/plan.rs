//! The one decision: the next step, or why there is none.

use super::check::{Held, check};
use super::facts::{Facts, Health};
use super::step::Step;
use super::verdict::quorum;
use super::wishes::wishes;

/// What follows from the facts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// At most one step; the next reconcile looks again.
    pub step: Option<Step>,
    /// The facts that ask for the step, or the state of things.
    pub because: String,
    /// Steps that are wanted and not taken, each with the rule that holds it.
    pub held: Vec<Held>,
    pub outlook: Outlook,
}

/// The state of the cluster in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outlook {
    /// As wanted, and nothing is left to do.
    Converged,
    /// Whole enough, and on its way.
    Changing,
    /// Something is missing; one more loss is survived.
    Degraded,
    /// One more loss is not survived, although more than one voter is wanted.
    QuorumAtRisk,
    /// The healthy voters do not decide: nothing is changed (I17).
    QuorumLost,
    /// Nothing may be changed until a person has looked (I8, I18).
    Frozen,
    /// No member answers with a list: nothing is known, nothing is changed.
    Unknown,
}

/// Decides. Total and deterministic; never more than one step.
pub fn plan(facts: &Facts) -> Decision {
    let mut held: Vec<Held> = Vec::new();
    let mut chosen = None;
    for wish in wishes(facts) {
        // A recorded operation is resolved first; until then everything waits, itself included.
        let verdict = match &facts.pending {
            Some(pending) if pending.step == wish.step => continue,
            _ => check(&wish.step, facts),
        };
        match verdict {
            Ok(()) => {
                chosen = Some(wish);
                break;
            }
            Err(why) => held.push(why),
        }
    }
    let outlook = outlook(facts, chosen.is_none() && held.is_empty());
    let (step, because) = match chosen {
        Some(wish) => (Some(wish.step), wish.because),
        None => (None, state(facts, outlook)),
    };
    Decision {
        step,
        because,
        held,
        outlook,
    }
}

fn outlook(facts: &Facts, nothing_to_do: bool) -> Outlook {
    let (voters, healthy) = (facts.voter_count(), facts.healthy_voters());
    let unsure = facts
        .voters()
        .filter(|m| m.health == Health::Unconfirmed)
        .count();
    if facts.frozen.is_some() {
        Outlook::Frozen
    } else if facts.members.is_none() {
        Outlook::Unknown
    } else if healthy + unsure < quorum(voters) {
        Outlook::QuorumLost
    } else if healthy + unsure == voters && voters >= facts.goal.size {
        let quiet = nothing_to_do && unsure == 0 && facts.pending.is_none();
        let done = quiet && facts.unsettled.is_none() && facts.learners().next().is_none();
        if done && voters == facts.goal.size {
            Outlook::Converged
        } else {
            Outlook::Changing
        }
    } else if facts.goal.size > 1 && healthy + unsure == quorum(voters) {
        Outlook::QuorumAtRisk
    } else if healthy + unsure < voters {
        Outlook::Degraded
    } else {
        Outlook::Changing
    }
}

/// What a person reads when there is no step.
fn state(facts: &Facts, outlook: Outlook) -> String {
    if let Some(freeze) = &facts.frozen {
        return freeze.message().to_owned();
    }
    if facts.members.is_none() {
        return "no member gave its list behind a linearizable read".to_owned();
    }
    let (voters, size) = (facts.voter_count(), facts.goal.size);
    let mut text = format!(
        "{} of {voters} voters are healthy, {size} are wanted",
        facts.healthy_voters()
    );
    for member in facts.listed() {
        if let Health::Unhealthy(why) = &member.health {
            text += &format!("; {}: {why}", member.name);
        }
    }
    if outlook == Outlook::QuorumLost {
        text += "; nothing is changed until a majority is back";
    } else if voters < size && super::check::free_machines(facts).next().is_none() {
        text += "; no machine is free to be a member: add one to the inventory, or boot one that \
                 did not start";
    }
    if facts.even_overdue {
        text += "; the number of voters has been even for more than 15 minutes";
    }
    text
}
