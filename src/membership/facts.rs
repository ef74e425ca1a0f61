//! What is certain about a cluster, without any time in it: the planner's only input.

use std::fmt;

use super::goal::Goal;
use super::operation::Operation;
use super::verdict::{Freeze, quorum};
use crate::domain::MemberId;

/// Everything a decision stands on. Made by `evidence`, which holds every rule about time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Facts {
    pub goal: Goal,
    /// The members by a linearizable read of this round, in the order of their IDs; `None`
    /// without one, and then there is no step (I7).
    pub members: Option<Vec<Member>>,
    /// The leader that the majority follows.
    pub leader: Option<MemberId>,
    /// Why nothing may be changed at all (I8, I18).
    pub frozen: Option<Freeze>,
    /// The change that is recorded and not yet verified (I5).
    pub pending: Option<Operation>,
    /// The call of the pending operation was made a moment ago, or by an earlier process, and may
    /// still come through: the operation is not given up yet (I13).
    pub in_flight: bool,
    /// Why it is too soon after the last change or restart (I20); `None` once settled.
    pub unsettled: Option<String>,
    /// A snapshot of the only voter was verified less than 10 minutes ago (I3).
    pub snapshot_verified: bool,
    /// The number of voters has been even for more than 15 minutes (I6): an alarm, not a rule.
    pub even_overdue: bool,
    /// In the ledger, but no longer listed: someone else removed them. Their slots go and their
    /// IDs become tombstones before anything is added (I10).
    pub departed: Vec<Departed>,
    /// The generation that the next new member gets; never used before (I10).
    pub next_generation: u64,
}

/// A recorded member that the cluster no longer lists.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Departed {
    pub id: MemberId,
    pub machine: String,
}

/// One listed member.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Member {
    pub id: MemberId,
    /// As the ledger names it; etcd lists an unstarted member without a name.
    pub name: String,
    pub peer_url: String,
    pub role: Role,
    /// It has published its name or its client URLs.
    pub started: bool,
    /// What is published for its machine refuses to start it on an empty disk (I9).
    pub guarded: bool,
    /// Its machine, by ledger ID and peer URL (I8). Its entry may be gone from the inventory.
    pub machine: Option<String>,
    pub failure_domain: Option<String>,
    pub health: Health,
    /// Evidence that it will not come back.
    pub loss: Option<Loss>,
    /// Why it shall go although nothing is wrong with it: its machine was taken out of the
    /// inventory or its release was requested.
    pub leaving: Option<String>,
    /// How far a learner has come; a voter is `CaughtUp`.
    pub progress: Progress,
}

/// Role in Raft.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Counts for quorum.
    Voter,
    /// Receives the log and does not count.
    Learner,
}

/// Health by two samples (etcd-membership A.2). Unknown is unhealthy.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Health {
    /// Both samples, five seconds or more apart, were good.
    Healthy,
    /// The last sample was good, the one before it is missing or was not. Counts as unhealthy.
    Unconfirmed,
    Unhealthy(String),
}

/// Why a member will not come back.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Loss {
    /// Its machine was taken out of the inventory, or its release requested, and it is silent.
    TakenOut(String),
    /// A person or provider confirmed that its machine is gone, and it is silent.
    Confirmed(String),
    /// Its machine's disk is imaged anew: what it knew is given up (announced).
    Reimaged,
    /// Silent for longer than `nodeLoss.timeout`, its machine too, and no member sees it.
    Silent {
        /// Since when.
        since: String,
        /// Why it may not be replaced yet: one such replacement an hour.
        too_soon: Option<String>,
    },
    /// etcd itself names it as the one whose data is damaged.
    Corrupt,
}

/// How far a learner has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Progress {
    /// It answered twice with progress, and is at most 1000 entries and 1 % behind (I3).
    CaughtUp,
    /// It moves, or there has not been time enough to tell.
    Progressing,
    /// It never started, or made no progress, for 5 minutes (I14).
    Stalled,
}

impl Member {
    /// Both samples were good.
    pub fn healthy(&self) -> bool {
        self.health == Health::Healthy
    }

    /// It counts for quorum.
    pub fn votes(&self) -> bool {
        self.role == Role::Voter
    }

    /// It is to stay: nothing is wrong with it and nobody wants it away.
    pub fn stays(&self) -> bool {
        self.loss.is_none() && self.leaving.is_none()
    }
}

impl Loss {
    /// Decided by the operator alone, from what it saw: subject to `nodeLoss.action`.
    pub fn automatic(&self) -> bool {
        matches!(self, Self::Silent { .. } | Self::Corrupt)
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TakenOut(why) => write!(f, "{why}, and it is silent"),
            Self::Confirmed(why) => write!(f, "its machine is confirmed lost ({why})"),
            Self::Reimaged => f.write_str("its machine is announced to be imaged anew"),
            Self::Silent { since, .. } => {
                write!(
                    f,
                    "it and its machine are silent since {since}, and no member sees it"
                )
            }
            Self::Corrupt => f.write_str("etcd reports its data as corrupt"),
        }
    }
}

impl Facts {
    /// The listed members; none without a list.
    pub fn listed(&self) -> &[Member] {
        self.members.as_deref().unwrap_or_default()
    }

    /// The member of this ID.
    pub fn member(&self, id: MemberId) -> Option<&Member> {
        self.listed().iter().find(|member| member.id == id)
    }

    /// The members that count for quorum.
    pub fn voters(&self) -> impl Iterator<Item = &Member> {
        self.listed().iter().filter(|member| member.votes())
    }

    /// The members that do not.
    pub fn learners(&self) -> impl Iterator<Item = &Member> {
        self.listed().iter().filter(|member| !member.votes())
    }

    /// V of etcd-membership A.2.
    pub fn voter_count(&self) -> usize {
        self.voters().count()
    }

    /// H of etcd-membership A.2: voters that are healthy beyond doubt.
    pub fn healthy_voters(&self) -> usize {
        self.voters().filter(|member| member.healthy()).count()
    }

    /// The healthy voters decide.
    pub fn has_quorum(&self) -> bool {
        self.members.is_some() && self.healthy_voters() >= quorum(self.voter_count())
    }
}
