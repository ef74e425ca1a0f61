//! The four changes that are ever made, and their names for people.

use std::fmt;

use crate::domain::MemberId;

/// One change of membership. At most one is under way in a cluster (I5).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// Add a member that does not vote yet (I4).
    AddLearner {
        machine: String,
        /// Its name for ever: `<machine>_<generation>`, never used before.
        name: String,
        peer_url: String,
    },
    /// Let a learner vote (I3).
    Promote { id: MemberId, machine: String },
    /// Hand leadership over before the leader is removed (I12). Sent to the leader.
    MoveLeader { from: MemberId, to: MemberId },
    /// Remove a member, by ID only (I8).
    Remove {
        id: MemberId,
        machine: Option<String>,
        why: String,
    },
}

impl Step {
    /// The kind as the pending operation records it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::AddLearner { .. } => "AddLearner",
            Self::Promote { .. } => "Promote",
            Self::MoveLeader { .. } => "MoveLeader",
            Self::Remove { .. } => "Remove",
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AddLearner { machine, name, .. } => {
                write!(f, "add learner {name} on machine {machine}")
            }
            Self::Promote { id, machine } => write!(f, "promote learner {id} of machine {machine}"),
            Self::MoveLeader { from, to } => write!(f, "move the leader from {from} to {to}"),
            Self::Remove {
                id,
                machine: Some(machine),
                ..
            } => write!(f, "remove member {id} of machine {machine}"),
            Self::Remove {
                id, machine: None, ..
            } => write!(f, "remove member {id}"),
        }
    }
}
