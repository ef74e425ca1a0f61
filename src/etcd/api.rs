//! The one seam to etcd.

use std::collections::BTreeSet;

use futures::future::BoxFuture;

use super::error::EtcdError;
use super::snapshot::Verified;
use crate::domain::MemberId;
use crate::membership::Answer;

/// One member's client endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MemberEndpoint {
    /// Client URL, `https://address:2379`.
    pub client_url: String,
}

/// What a call comes to.
pub type Asked<'a, T> = BoxFuture<'a, Result<T, EtcdError>>;

/// What Seedbed asks of etcd. Implemented by the real client and by doubles in tests.
///
/// Every call goes to one member and has a deadline of its own. A change is tried once: after a
/// failure whose class is [`super::EtcdErrorClass::Relist`] it may have happened, and only the
/// list of members tells. What a change answers is no evidence either: read the list.
pub trait EtcdApi: Send + Sync {
    /// Asks one member for its status and, behind a linearizable read on the same connection, for
    /// the list of members. A failing read is part of the answer, a silent member is an error.
    fn probe<'a>(&'a self, member: &'a MemberEndpoint) -> Asked<'a, Answer>;

    /// Which members this one is connected to, by its metric `etcd_network_active_peers`; of a leader,
    /// those that it also hears from. Takes up to three seconds for a leader that does not hear somebody.
    fn active_peers<'a>(&'a self, member: &'a MemberEndpoint) -> Asked<'a, BTreeSet<MemberId>>;

    /// Adds a learner with this peer URL.
    fn add_learner<'a>(&'a self, through: &'a MemberEndpoint, peer_url: &'a str) -> Asked<'a, ()>;

    /// Makes a learner a voter. Only the leader knows how far a learner is.
    fn promote<'a>(&'a self, leader: &'a MemberEndpoint, id: MemberId) -> Asked<'a, ()>;

    /// Removes a member for good: its ID never comes back.
    fn remove<'a>(&'a self, through: &'a MemberEndpoint, id: MemberId) -> Asked<'a, ()>;

    /// Hands leadership to another voter; only the leader itself can.
    fn move_leader<'a>(&'a self, leader: &'a MemberEndpoint, to: MemberId) -> Asked<'a, ()>;

    /// Streams a snapshot of this member's database and checks it; nothing of it is kept.
    fn verified_snapshot<'a>(&'a self, member: &'a MemberEndpoint) -> Asked<'a, Verified>;
}
