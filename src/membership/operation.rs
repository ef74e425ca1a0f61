//! What became of a recorded operation: the list decides, never an error (I13).

use super::check::check;
use super::facts::{Facts, Role};
use super::step::Step;
use crate::domain::MemberId;

/// A step that was recorded before it was made.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Operation {
    pub step: Step,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The list shows it: enter it into the ledger and clear the record. For an added learner,
    /// its ID.
    Done(Option<MemberId>),
    /// The list does not show it, and it may still be made: make it (again).
    Retry,
    /// The list does not show it, and it may not be made any more: clear the record.
    Abandon(String),
    /// There is no linearizable list to tell by: wait.
    Wait(String),
}

impl Operation {
    /// Tells by the facts of a later round what became of it.
    pub fn outcome(&self, facts: &Facts) -> Outcome {
        if let Some(freeze) = &facts.frozen {
            return Outcome::Wait(freeze.message().to_owned());
        }
        if facts.members.is_none() {
            return Outcome::Wait("no member gave its list behind a linearizable read".to_owned());
        }
        match self.applied(facts) {
            Ok(Some(outcome)) => outcome,
            Ok(None) => match check(&self.step, facts) {
                Ok(()) => Outcome::Retry,
                // Given up too soon, it could come through on top of a later change.
                Err(_) if facts.in_flight => {
                    Outcome::Wait("its call may still come through".to_owned())
                }
                Err(held) => Outcome::Abandon(held.to_string()),
            },
            Err(why) => Outcome::Abandon(why),
        }
    }

    /// Done, as the list shows it; `None` when it does not; an error when it never can.
    fn applied(&self, facts: &Facts) -> Result<Option<Outcome>, String> {
        let done = |is: bool| Ok(is.then_some(Outcome::Done(None)));
        match &self.step {
            Step::AddLearner { peer_url, .. } => {
                let there = facts.listed().iter().find(|m| m.peer_url == *peer_url);
                match there {
                    None => Ok(None),
                    // A voter at our URL is another member (I11).
                    Some(member) if member.role == Role::Voter => {
                        Err(format!("voter {} has {peer_url}", member.id))
                    }
                    Some(learner) => Ok(Some(Outcome::Done(Some(learner.id)))),
                }
            }
            Step::Promote { id, .. } => match facts.member(*id) {
                None => Err(format!("member {id} is no longer listed")),
                Some(member) => done(member.votes()),
            },
            Step::MoveLeader { from, .. } => match facts.leader {
                None => Ok(Some(Outcome::Wait("there is no leader".to_owned()))),
                Some(leader) => done(leader != *from),
            },
            Step::Remove { id, .. } => done(facts.member(*id).is_none()),
        }
    }
}
