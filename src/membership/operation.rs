//! What became of a recorded operation: the list decides, never an error (I13).

use super::check::check;
use super::facts::{Facts, Member, Role};
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

    /// The member that the call goes through: the leader, which alone can promote and hand over.
    /// A removal never goes through its target, which may stop before it has answered; then any
    /// other healthy voter takes it, and without one it is not made.
    pub fn through<'a>(&self, facts: &'a Facts) -> Option<&'a Member> {
        let target = match &self.step {
            Step::Remove { id, .. } => Some(*id),
            Step::AddLearner { .. } | Step::Promote { .. } | Step::MoveLeader { .. } => None,
        };
        let leader = facts.leader.filter(|leader| Some(*leader) != target);
        let leader = leader.and_then(|leader| facts.member(leader));
        let mut others = facts.voters();
        leader.or_else(|| others.find(|voter| voter.healthy() && Some(voter.id) != target))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::membership::{Health, Progress};

    fn voter(id: u64, health: Health) -> Member {
        Member {
            id: MemberId(id),
            name: format!("m{id}"),
            peer_url: format!("https://198.18.0.{id}:2380"),
            role: Role::Voter,
            started: true,
            guarded: true,
            machine: Some(format!("m{id}")),
            failure_domain: None,
            health,
            loss: None,
            leaving: None,
            progress: Progress::CaughtUp,
        }
    }

    fn removal(id: u64) -> Operation {
        Operation {
            step: Step::Remove {
                id: MemberId(id),
                machine: None,
                why: String::new(),
            },
        }
    }

    #[test]
    fn a_removal_never_goes_through_its_target() {
        let facts = Facts {
            members: Some(vec![
                voter(1, Health::Healthy),
                voter(2, Health::Unconfirmed),
                voter(3, Health::Healthy),
            ]),
            leader: Some(MemberId(1)),
            ..Facts::default()
        };
        let through = |operation: &Operation| operation.through(&facts).map(|m| m.id.0);
        assert_eq!(through(&removal(3)), Some(1), "the leader");
        assert_eq!(through(&removal(1)), Some(3), "a healthy other");
        let promotion = Operation {
            step: Step::Promote {
                id: MemberId(3),
                machine: "m3".to_owned(),
            },
        };
        assert_eq!(through(&promotion), Some(1));
        let alone = Facts {
            members: Some(vec![
                voter(1, Health::Healthy),
                voter(2, Health::Unconfirmed),
            ]),
            ..facts.clone()
        };
        assert_eq!(removal(1).through(&alone), None);
    }
}
