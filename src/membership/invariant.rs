//! The rules by number, as people see them in `held by`.

use std::fmt;

/// A rule that holds a step back (etcd-membership A.3 and C).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Invariant {
    /// I1: the voters that remain keep a healthy majority.
    Removal,
    /// I2: a healthy voter goes only when nothing else is wrong and it is not needed.
    VoluntaryRemoval,
    /// I3: a learner is promoted only when quorum survives its death.
    Promotion,
    /// I4: members are added as learners, one at a time, with a healthy majority to spare.
    Addition,
    /// I5: one operation at a time.
    OneInFlight,
    /// I6: the number of voters is odd and at most the size, but for the middle of a change.
    Parity,
    /// I7: decided on a linearizable list of this round.
    Freshness,
    /// I8: members are known by ID and address, not by name.
    Identity,
    /// I9: a member that has started never starts on an empty disk under its ID.
    Amnesia,
    /// I10: what is removed stays removed.
    RemovedIsFinal,
    /// I11: one member a peer URL.
    DuplicateUrl,
    /// I12: leadership is moved before a healthy leader is removed.
    Leader,
    /// I14: a learner that never starts, or stands still, is given up; no other is.
    Unstarted,
    /// I17: nothing is changed without a healthy majority.
    QuorumLost,
    /// I18: one cluster, one list.
    OneCluster,
    /// I20: a pause after every change.
    Settle,
    /// Section C: `nodeLoss` decides about voters that are lost by silence.
    NodeLoss,
}

impl Invariant {
    /// Its number, as in the documentation.
    pub fn code(self) -> &'static str {
        match self {
            Self::Removal => "I1",
            Self::VoluntaryRemoval => "I2",
            Self::Promotion => "I3",
            Self::Addition => "I4",
            Self::OneInFlight => "I5",
            Self::Parity => "I6",
            Self::Freshness => "I7",
            Self::Identity => "I8",
            Self::Amnesia => "I9",
            Self::RemovedIsFinal => "I10",
            Self::DuplicateUrl => "I11",
            Self::Leader => "I12",
            Self::Unstarted => "I14",
            Self::QuorumLost => "I17",
            Self::OneCluster => "I18",
            Self::Settle => "I20",
            Self::NodeLoss => "nodeLoss",
        }
    }
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}
