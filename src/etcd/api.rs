//! The one seam to etcd.

use futures::future::BoxFuture;

use super::error::EtcdError;
use crate::membership::Answer;

/// One member's client endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MemberEndpoint {
    /// Client URL, `https://address:2379`.
    pub client_url: String,
}

/// What Seedbed asks of etcd. Implemented by the real client and by models in tests.
pub trait EtcdApi: Send + Sync {
    /// Asks one member for its status and, behind a linearizable read on the same connection, for
    /// the list of members. A failing read is part of the answer, a silent member is an error.
    fn probe<'a>(&'a self, member: &'a MemberEndpoint) -> BoxFuture<'a, Result<Answer, EtcdError>>;
}
