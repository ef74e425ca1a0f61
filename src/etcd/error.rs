//! etcd's errors, sorted by what they allow us to conclude (etcd-membership A.6).
//!
//! Codes vary between etcd versions, so the text decides.

use super::snapshot::SnapshotFault;

/// A failed call.
#[derive(Debug, thiserror::Error)]
pub enum EtcdError {
    #[error("no answer from {endpoint} within {seconds} s")]
    Timeout { endpoint: String, seconds: u64 },
    /// Nobody at this address, as long as nothing comes back or a router says so: which of the two
    /// changes from one try to the next and says nothing.
    #[error("nothing answers at {endpoint}")]
    Silent { endpoint: String },
    #[error("{endpoint} does not accept connections: {source}")]
    Unreachable {
        endpoint: String,
        #[source]
        source: std::io::Error,
    },
    #[error("the address {0:?} of an etcd member is not https://host:port")]
    Address(String),
    #[error("{endpoint}: {message}")]
    Call {
        endpoint: String,
        class: EtcdErrorClass,
        message: String,
    },
    #[error("{endpoint}: {fault}")]
    Snapshot {
        endpoint: String,
        fault: SnapshotFault,
    },
    #[error("{endpoint} answered without {what}")]
    Incomplete {
        endpoint: String,
        what: &'static str,
    },
}

/// What an error allows us to conclude.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EtcdErrorClass {
    /// Ask again later; nothing happened.
    Retry,
    /// It may have happened: read the list before anything else.
    Relist,
    /// A learner has to catch up first.
    Wait,
    /// A person has to look.
    Abort,
    /// Another member must be asked.
    Retarget,
}

/// Texts of etcd 3.6 and 3.7, most telling first.
const TEXTS: &[(&str, EtcdErrorClass)] = &[
    ("in sync with leader", EtcdErrorClass::Wait),
    ("not leader", EtcdErrorClass::Retarget),
    ("rpc not supported for learner", EtcdErrorClass::Retarget),
    ("unhealthy cluster", EtcdErrorClass::Retry),
    ("no leader", EtcdErrorClass::Retry),
    ("leader changed", EtcdErrorClass::Retry),
    ("request timed out", EtcdErrorClass::Relist),
    ("too many requests", EtcdErrorClass::Retry),
    // A member that is removed through itself answers so when it is done.
    ("server stopped", EtcdErrorClass::Relist),
    ("too many learner members", EtcdErrorClass::Retry),
    ("member not found", EtcdErrorClass::Relist),
    ("member ID already exist", EtcdErrorClass::Relist),
    ("Peer URLs already exists", EtcdErrorClass::Relist),
    ("can only promote a learner member", EtcdErrorClass::Relist),
    ("not enough started members", EtcdErrorClass::Abort),
    ("corrupt cluster", EtcdErrorClass::Abort),
    ("bad leader transferee", EtcdErrorClass::Abort),
    ("permission denied", EtcdErrorClass::Abort),
    ("user name is empty", EtcdErrorClass::Abort),
    ("cluster ID mismatch", EtcdErrorClass::Abort),
];

impl EtcdErrorClass {
    /// Classifies etcd's text. Whatever is unknown (transport, deadlines) may have happened.
    pub fn of(message: &str) -> Self {
        TEXTS
            .iter()
            .find(|(text, _)| message.contains(text))
            .map_or(Self::Relist, |(_, class)| *class)
    }
}

impl EtcdError {
    pub(super) fn call(endpoint: &str, error: &etcd_client::Error) -> Self {
        let message = match error {
            etcd_client::Error::GRpcStatus(status) => status.message().to_owned(),
            other => other.to_string(),
        };
        Self::Call {
            endpoint: endpoint.to_owned(),
            class: EtcdErrorClass::of(&message),
            message,
        }
    }

    /// Whether the call may have had its effect, or have it yet.
    pub fn may_have_happened(&self) -> bool {
        self.class() == EtcdErrorClass::Relist
    }

    /// What this error allows us to conclude.
    pub fn class(&self) -> EtcdErrorClass {
        match self {
            Self::Call { class, .. } => *class,
            Self::Silent { .. } | Self::Unreachable { .. } | Self::Snapshot { .. } => {
                EtcdErrorClass::Retry
            }
            Self::Timeout { .. } | Self::Incomplete { .. } => EtcdErrorClass::Relist,
            Self::Address(_) => EtcdErrorClass::Abort,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_pinned_to_their_class() {
        for (message, class) in [
            (
                "etcdserver: can only promote a learner member which is in sync with leader",
                EtcdErrorClass::Wait,
            ),
            (
                "etcdserver: can only promote a learner member",
                EtcdErrorClass::Relist,
            ),
            ("etcdserver: unhealthy cluster", EtcdErrorClass::Retry),
            (
                "etcdserver: re-configuration failed due to not enough started members",
                EtcdErrorClass::Abort,
            ),
            ("etcdserver: server stopped", EtcdErrorClass::Relist),
            ("Timeout expired", EtcdErrorClass::Relist),
            ("transport error", EtcdErrorClass::Relist),
        ] {
            assert_eq!(EtcdErrorClass::of(message), class, "{message}");
        }
    }
}
